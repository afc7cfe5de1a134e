"""Anthropic's API: messages, their tokens, models. Facts: its published API reference.

A body becomes a chat in the form of OpenAI's API, so that a question has one entry in the cache whichever API
asks it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from llmhost.answering.question import Reply
from llmhost.engines.engine import Message, Sampling, ToolCall
from llmhost.gateway.chat import BlockOrder, Chat, Choice, calls_with_arguments, content_of, stop_texts
from llmhost.gateway.faults import BadRequest, Fault
from llmhost.gateway.fields import ANTHROPIC
from llmhost.gateway.ids import new_id
from llmhost.gateway.openai import EngineSampling, finish_reason

__all__ = [
    "COUNT_BODY",
    "MESSAGES_BODY",
    "CountBody",
    "MessageWriter",
    "MessagesBody",
    "chat_of",
    "error",
    "estimate_tokens",
    "model",
    "model_list",
    "wants_thoughts",
]

#: how the first system block of Claude Code begins; its older versions send another with each request
_BILLING = "x-anthropic-billing-header:"


class _Body(BaseModel):
    """Fields that are not read are kept: see `fields`."""

    model_config = ConfigDict(extra="allow", frozen=True)


# What a message is made of


class TextBlock(_Body):
    type: Literal["text"]
    text: str


class Base64Source(_Body):
    type: Literal["base64"]
    media_type: str = Field(max_length=100)
    data: str

    @property
    def url(self) -> str:
        return f"data:{self.media_type};base64,{self.data}"


class UrlSource(_Body):
    type: Literal["url"]
    url: str


class ImageBlock(_Body):
    type: Literal["image"]
    source: Base64Source | UrlSource = Field(discriminator="type")


class TextSource(_Body):
    type: Literal["text"]
    media_type: str | None = None
    data: str


class Citations(_Body):
    enabled: bool | None = None


class DocumentBlock(_Body):
    """A document of plain text; engines read no others."""

    type: Literal["document"]
    source: TextSource
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None

    @property
    def text(self) -> str:
        """Raises BadRequest where it is to be cited."""
        if self.citations is not None and self.citations.enabled:
            raise BadRequest("`citations` is not supported: no engine cites a document", "citations")
        return "\n\n".join(one for one in (self.title, self.context, self.source.data) if one)


class ThinkingBlock(_Body):
    """What the model thought before, which engines do not want back."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["thinking", "redacted_thinking"]


class ToolUseBlock(_Body):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ToolReferenceBlock(_Body):
    type: Literal["tool_reference"]
    tool_name: str


def _as_blocks(content: object) -> object:
    """A text alone stands for one block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


_ResultBlock = Annotated[
    TextBlock | ImageBlock | DocumentBlock | ToolReferenceBlock, Field(discriminator="type")
]


class ToolResultBlock(_Body):
    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[
        list[_ResultBlock] | None,
        BeforeValidator(_as_blocks, json_schema_input_type=str | list[_ResultBlock] | None),
    ] = None
    is_error: bool | None = None


_Block = Annotated[
    TextBlock | ImageBlock | DocumentBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock,
    Field(discriminator="type"),
]


class MessageBody(_Body):
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[_Block], BeforeValidator(_as_blocks, json_schema_input_type=str | list[_Block])]


# What a request is made of


class Tool(_Body):
    name: str = Field(min_length=1)
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(_Body):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(_Body):
    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    display: str | None = None


class OutputFormat(_Body):
    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(alias="schema")


class OutputConfig(_Body):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class CountBody(_Body):
    model: str = Field(min_length=1, max_length=200)
    messages: list[MessageBody] = Field(min_length=1, max_length=100_000)
    system: Annotated[
        list[TextBlock] | None,
        BeforeValidator(_as_blocks, json_schema_input_type=str | list[TextBlock] | None),
    ] = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None


class MessagesBody(CountBody, EngineSampling):
    max_tokens: int = Field(ge=1, le=10_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    stop_sequences: list[str] | None = Field(None, max_length=10_000)
    stream: bool | None = False
    thread: Any = None


COUNT_BODY = TypeAdapter(CountBody)
MESSAGES_BODY = TypeAdapter(MessagesBody)


def chat_of(body: CountBody, session: str = "") -> Chat:
    """What a body asks, in the conversation that `session` names. Raises BadRequest."""
    fields = ANTHROPIC.read(body, _translated(body), vars(body))
    messages = [*_system(body.system), *(one for sent in body.messages for one in _messages(sent))]
    asked: dict[str, Any] = {}
    if isinstance(body, MessagesBody):
        stop = stop_texts(body.stop_sequences)
        asked = {
            "sampling": Sampling(body.temperature, body.top_p, body.seed, body.max_tokens, stop),
            "stream": bool(body.stream),
            "cacheable": not (isinstance(body.thread, dict) and body.thread.get("type") == "continue"),
        }
    return Chat(
        model=body.model,
        messages=tuple(messages),
        fields=fields.passed,
        unknown=fields.unknown,
        sticky=session,
        **asked,
    )


def _system(blocks: Sequence[TextBlock] | None) -> Sequence[Message]:
    texts = [block.text for block in blocks or () if not block.text.startswith(_BILLING)]
    text = "\n\n".join(one for one in texts if one)
    return [Message("system", text)] if text else []


def _messages(sent: MessageBody) -> Iterator[Message]:
    """The messages of OpenAI's API that say the same: the result of a tool is one of its own there.

    What the model thought before is left out, as engines do not want it back.
    """
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for block in sent.content:
        if isinstance(block, ToolUseBlock):
            calls.append(_sent_call(block))
        elif isinstance(block, ToolResultBlock):
            result = [_part(one) for one in block.content or ()]
            parts += [part for part in result if part["type"] != "text"]  # a tool's message holds texts only
            texts = [part for part in result if part["type"] == "text"]
            text = str(content_of([{"type": "text", "text": "Error:"}, *texts] if block.is_error else texts))
            yield Message("tool", text, {"tool_call_id": block.tool_use_id})
        elif not isinstance(block, ThinkingBlock):
            parts.append(_part(block))
    if calls:
        yield Message(sent.role, content_of(parts) if parts else None, {"tool_calls": calls})
    elif parts or not sent.content:
        yield Message(sent.role, content_of(parts))


def _part(block: TextBlock | ImageBlock | DocumentBlock | ToolReferenceBlock) -> dict[str, Any]:
    if isinstance(block, ImageBlock):
        return {"type": "image_url", "image_url": {"url": block.source.url}}
    if isinstance(block, ToolReferenceBlock):
        return {"type": "text", "text": block.tool_name}
    return {"type": "text", "text": block.text}


def _sent_call(block: ToolUseBlock) -> dict[str, Any]:
    arguments = json.dumps(block.input, ensure_ascii=False)
    return {
        "id": block.id,
        "type": "function",
        "function": {"name": block.name, "arguments": arguments},
    }


def _translated(body: CountBody) -> Mapping[str, Any]:
    """The other fields on which the answer depends, as OpenAI's API names them."""
    fields: dict[str, Any] = {}
    if body.tools:
        fields["tools"] = [_tool(index, tool) for index, tool in enumerate(body.tools)]
    if body.tool_choice is not None:
        fields["tool_choice"] = _tool_choice(body.tool_choice)
        fields["parallel_tool_calls"] = False if body.tool_choice.disable_parallel_tool_use else None
    output = body.output_config or OutputConfig()
    if output.format is not None:
        schema = {"name": "answer", "schema": output.format.json_schema, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    fields |= _thinking(body.thinking, output.effort)
    if isinstance(body, MessagesBody):
        fields |= body.passed_on
    return fields


def _tool(index: int, tool: Tool) -> dict[str, Any]:
    """Raises BadRequest for a tool that runs on Anthropic's servers, or that its models alone know."""
    if tool.type not in (None, "custom"):
        raise BadRequest(
            f"the tool {tool.name!r} of type {tool.type!r} is not supported: no engine has it",
            f"tools.{index}.type",
        )
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.input_schema or {"type": "object", "properties": {}},
        "strict": tool.strict,
    }
    return {"type": "function", "function": {k: v for k, v in function.items() if v is not None}}


def _tool_choice(choice: ToolChoice) -> str | Mapping[str, Any]:
    if choice.type != "tool":
        return {"auto": "auto", "any": "required", "none": "none"}[choice.type]
    if not choice.name:
        raise BadRequest("`tool_choice.name` is missing", "tool_choice.name")
    return {"type": "function", "function": {"name": choice.name}}


def _thinking(thinking: Thinking | None, effort: str | None) -> Mapping[str, Any]:
    """How much the model is to think. Whether it does is left to it unless it must not: Claude Code wishes it
    of each model, and engines refuse the wish for models that cannot. The API's default effort is `high`."""
    if thinking is not None and thinking.type == "disabled":
        return {"think": False}
    known = {"low": "low", "medium": "medium", "xhigh": "high", "max": "high"}.get(effort or "")
    return {"reasoning_effort": known} if known else {}


def wants_thoughts(body: CountBody) -> bool:
    """Whether the client reads what the model thinks: others take the first block for the answer."""
    thinking = body.thinking
    return thinking is not None and thinking.type != "disabled" and thinking.display != "omitted"


# Tokens


#: bytes of a token, about; English has 4.5, code and other languages fewer
_BYTES_A_TOKEN = 4
#: tokens of an image of middling size
_IMAGE_TOKENS = 1_000
#: tokens around each message
_MESSAGE_TOKENS = 4


def estimate_tokens(chat: Chat) -> int:
    """About how many tokens a model reads: engines count them only when they answer."""
    tokens = 0
    size = len(_json(chat.fields["tools"])) if "tools" in chat.fields else 0
    for message in chat.messages:
        parts = message.content if isinstance(message.content, list) else [{"text": message.content or ""}]
        texts = [str(part["text"]) for part in parts if "text" in part]
        tokens += _MESSAGE_TOKENS + _IMAGE_TOKENS * (len(parts) - len(texts))
        size += sum(len(text.encode()) for text in texts)
        size += len(_json(message.fields)) if message.fields else 0
    return tokens + -(-size // _BYTES_A_TOKEN)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


# Answers


_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error(fault: Fault) -> object:
    kind = _ERROR_TYPES.get(fault.status, "api_error" if fault.status >= 500 else "invalid_request_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": fault.message},
        "request_id": fault.request or None,
    }


def model(name: str) -> object:
    """A model as `/v1/models` lists it; when it was made is not known."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
    }


def model_list(names: Sequence[str]) -> object:
    """All of them: there are no further pages."""
    return {
        "data": [model(name) for name in names],
        "has_more": False,
        "first_id": names[0] if names else None,
        "last_id": names[-1] if names else None,
    }


_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
#: ids that clients may send back
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")


class MessageWriter:
    """`/v1/messages`. `thoughts`: the client reads what the model thinks."""

    media_type = "text/event-stream"

    def __init__(self, chat: Chat, *, thoughts: bool) -> None:
        self._chat = chat
        self._thoughts = thoughts
        self._order = BlockOrder()
        #: blocks begun; the last of them is open
        self._blocks = 0
        self._called = False

    def whole(self, choices: Sequence[Choice]) -> object:
        (choice,) = choices
        reply = choice.reply
        assert reply is not None  # noqa: S101 - a choice is whole with its reply
        content: list[dict[str, Any]] = []
        if choice.thought and self._thoughts:
            content.append({"type": "thinking", "thinking": choice.thought, "signature": ""})
        if choice.text:
            content.append({"type": "text", "text": choice.text})
        cut = finish_reason(reply) == "length"
        for call, arguments in calls_with_arguments(choice.calls, cut=cut):
            content.append({**_tool_use(call), "input": arguments})
        return self._message(
            content or [{"type": "text", "text": ""}],
            self._usage(reply),
            stop_reason=self._stop_reason(reply, called=bool(choice.calls)),
        )

    def begin(self) -> bytes:
        usage = {"input_tokens": estimate_tokens(self._chat), "output_tokens": 1}
        return _event("message_start", message=self._message([], usage, stop_reason=None))

    def ping(self) -> bytes:
        return _event("ping")

    def started(self, index: int) -> bytes:  # noqa: ARG002
        return b""

    def text(self, index: int, text: str, logprobs: Sequence[Mapping[str, Any]]) -> bytes:  # noqa: ARG002
        block = self._block("text", 0, {"type": "text", "text": ""})
        return block + self._delta({"type": "text_delta", "text": text})

    def thought(self, index: int, text: str) -> bytes:  # noqa: ARG002
        if not self._thoughts:
            return b""
        block = self._block("thought", 0, {"type": "thinking", "thinking": "", "signature": ""})
        return block + self._delta({"type": "thinking_delta", "thinking": text})

    def call(self, index: int, call: ToolCall) -> bytes:  # noqa: ARG002
        self._called = True
        block = self._block("call", call.index, {**_tool_use(call), "input": {}})
        if not call.arguments:
            return block
        return block + self._delta({"type": "input_json_delta", "partial_json": call.arguments})

    def finish(self, index: int, reply: Reply) -> bytes:  # noqa: ARG002
        last = b"" if self._blocks else self._block("text", 0, {"type": "text", "text": ""})
        delta = {"stop_reason": self._stop_reason(reply, called=self._called), "stop_sequence": None}
        return last + self._stop() + _event("message_delta", delta=delta, usage=self._usage(reply))

    def end(self) -> bytes:
        return _event("message_stop")

    def broken(self, fault: Fault) -> bytes:
        return b"event: error\ndata: " + orjson.dumps(error(fault)) + b"\n\n"

    def _message(
        self, content: Sequence[Mapping[str, Any]], usage: Mapping[str, int], stop_reason: str | None
    ) -> Mapping[str, Any]:
        return {
            "id": new_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": self._chat.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }

    def _usage(self, reply: Reply) -> Mapping[str, int]:
        """The tokens of a hit are those of its answer when it was made."""
        answer = reply.answer
        return {
            "input_tokens": answer.prompt_tokens or estimate_tokens(self._chat),
            "output_tokens": answer.completion_tokens,
        }

    def _stop_reason(self, reply: Reply, *, called: bool) -> str:
        reason = finish_reason(reply)
        return "tool_use" if called and reason == "stop" else _STOP_REASONS[reason]

    def _block(self, kind: str, number: int, begins: Mapping[str, Any]) -> bytes:
        """The end of the open block and the beginning of this one; nothing where it is open."""
        if not self._order.enters(kind, number):
            return b""
        ended = self._stop() if self._blocks else b""
        self._blocks += 1
        return ended + _event("content_block_start", index=self._blocks - 1, content_block=begins)

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._blocks - 1, delta=delta)

    def _stop(self) -> bytes:
        return _event("content_block_stop", index=self._blocks - 1)


def _tool_use(call: ToolCall) -> dict[str, Any]:
    id = call.id if _CALL_ID.fullmatch(call.id) else new_id("toolu_")
    return {"type": "tool_use", "id": id, "name": call.name}


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + orjson.dumps({"type": kind, **fields}) + b"\n\n"
