"""OpenAI's `/v1/responses`, of which nothing is stored. Facts: its published API reference.

A body becomes the chat that `/v1/chat/completions` would be asked, so that both have one entry in the cache.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, TypeAdapter

from llmhost.answering.question import Reply
from llmhost.engines.engine import Message, Sampling, ToolCall
from llmhost.gateway.chat import BlockOrder, Chat, Choice, content_of, merge_calls
from llmhost.gateway.faults import BadRequest, Fault
from llmhost.gateway.openai import error, finish_reason, neutral_fields, usage

__all__ = ["RESPONSE_BODY", "ResponseBody", "ResponseWriter", "chat_of"]


class _Body(BaseModel):
    """Fields that are not read are ignored."""

    model_config = ConfigDict(frozen=True)


# What a conversation is made of


class TextPart(_Body):
    type: Literal["input_text", "output_text", "text"]
    text: str


class RefusalPart(_Body):
    type: Literal["refusal"]
    text: str = Field(alias="refusal")


class ImagePart(_Body):
    type: Literal["input_image"]
    image_url: str
    detail: str | None = None


Part = TextPart | RefusalPart | ImagePart


def _as_parts(content: object) -> object:
    """A text alone stands for one part."""
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


_Parts = Annotated[list[Annotated[Part, Field(discriminator="type")]], BeforeValidator(_as_parts)]


class MessageItem(_Body):
    role: Literal["user", "assistant", "system", "developer"]
    content: _Parts


class CallItem(_Body):
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None


class CallOutputItem(_Body):
    call_id: str
    output: _Parts


class ReasoningItem(_Body):
    """What the model thought before, which engines do not want back."""


class ReferenceItem(_Body):
    """An item of an earlier response, by its id."""

    id: str


def _kind_of_item(item: Any) -> str | None:
    kind = item.get("type", "message") if isinstance(item, dict) else None
    return kind if isinstance(kind, str) else None


Item = MessageItem | CallItem | CallOutputItem | ReasoningItem | ReferenceItem

_Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[CallOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[ReferenceItem, Tag("item_reference")],
    Discriminator(_kind_of_item),
]


def _as_items(given: object) -> object:
    """A text alone stands for a message of the user."""
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


# What a request is made of


class Tool(_Body):
    """A function, or a namespace with functions; of any other one only the type is read."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    tools: list[Tool] | None = None
    external_web_access: bool | None = None


class ToolChoice(_Body):
    type: str
    name: str | None = None


class TextFormat(_Body):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class TextConfig(_Body):
    format: TextFormat | None = None


class Reasoning(_Body):
    effort: str | None = Field(None, max_length=20)


class ResponseBody(_Body):
    model: str = Field(min_length=1, max_length=200)
    input: Annotated[list[_Item], BeforeValidator(_as_items)] = Field(min_length=1, max_length=100_000)
    instructions: str | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=10_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = False
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    include: list[str] | None = None
    # What would have to be stored
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    background: bool | None = None


RESPONSE_BODY = TypeAdapter(ResponseBody)

#: how the ids of thoughts begin, which would be left out anyway
_THOUGHT_ID = "rs_"

_STORED = ("previous_response_id", "conversation", "prompt", "background")


def chat_of(body: ResponseBody) -> Chat:
    """What a body asks. Raises BadRequest."""
    for name in _STORED:
        if getattr(body, name):
            raise BadRequest(f"`{name}` is not supported: nothing is stored here", name)
    for index, item in enumerate(body.input):
        if isinstance(item, ReferenceItem) and not item.id.startswith(_THOUGHT_ID):
            raise BadRequest(
                "`item_reference` is not supported: nothing is stored here",
                f"input.{index}",
                hint="send the item itself, as clients do with `store: false`",
            )
    return Chat(
        model=body.model,
        messages=tuple(_messages(body)),
        sampling=Sampling(body.temperature, body.top_p, None, body.max_output_tokens),
        fields=_fields(body),
        stream=bool(body.stream),
        sticky=(body.prompt_cache_key or "")[:200],
    )


def _messages(body: ResponseBody) -> Sequence[Message]:
    """The messages of a chat. All that the developer says at its beginning is one message of the system: many
    models' templates allow no more."""
    first = list(takewhile(_is_of_developer, body.input))
    parts = [part for item in first if isinstance(item, MessageItem) for part in map(_part, item.content)]
    texts = [body.instructions or "", str(content_of(parts))]
    system = "\n\n".join(text for text in texts if text)
    return [*([Message("system", system)] if system else ()), *_conversation(body.input[len(first) :])]


def _is_of_developer(item: Item) -> bool:
    return (
        isinstance(item, MessageItem)
        and item.role in ("system", "developer")
        and not any(isinstance(part, ImagePart) for part in item.content)
    )


def _conversation(items: Sequence[Item]) -> Iterator[Message]:
    """Calls of tools belong to the message before them. Images that tools gave come after the messages of the
    tools, which hold texts only."""
    said: Message | None = None
    images: list[dict[str, Any]] = []
    for item in items:
        if images and isinstance(item, CallItem | MessageItem):
            yield Message("user", images)
            images = []
        if isinstance(item, CallItem):
            said = said or Message("assistant", None)
            calls = [*said.fields.get("tool_calls", ()), _sent_call(item)]
            said = Message("assistant", said.content, {"tool_calls": calls})
            continue
        if said is not None and isinstance(item, CallOutputItem | MessageItem):
            yield said
            said = None
        if isinstance(item, CallOutputItem):
            parts = [_part(part) for part in item.output]
            images += [part for part in parts if part["type"] != "text"]
            text = str(content_of([part for part in parts if part["type"] == "text"]))
            yield Message("tool", text, {"tool_call_id": item.call_id})
        elif isinstance(item, MessageItem):
            role = "system" if item.role == "developer" else item.role
            message = Message(role, content_of([_part(part) for part in item.content]))
            if role == "assistant":
                said = message
            else:
                yield message
    if said is not None:
        yield said
    if images:
        yield Message("user", images)


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, ImagePart):
        detail = {"detail": part.detail} if part.detail in ("low", "high") else {}
        return {"type": "image_url", "image_url": {"url": part.image_url, **detail}}
    return {"type": "text", "text": part.text}


def _sent_call(item: CallItem) -> dict[str, Any]:
    function = {"name": _full_name(item.namespace, item.name), "arguments": item.arguments}
    return {"id": item.call_id, "type": "function", "function": function}


def _fields(body: ResponseBody) -> Mapping[str, Any]:
    """The other fields on which the answer depends, as a chat has them."""
    logprobs = body.top_logprobs or "message.output_text.logprobs" in (body.include or ())
    return neutral_fields(
        {
            "tools": [_tool(namespace, tool) for namespace, tool in _functions(body)],
            "tool_choice": _tool_choice(body.tool_choice),
            "parallel_tool_calls": body.parallel_tool_calls,
            "response_format": _response_format(body.text.format if body.text else None),
            "reasoning_effort": body.reasoning.effort if body.reasoning else None,
            "logprobs": bool(logprobs),
            "top_logprobs": body.top_logprobs,
        }
    )


def _functions(body: ResponseBody) -> Iterator[tuple[str | None, Tool]]:
    """The functions that the model may call, each with its namespace. Raises BadRequest for any other tool.

    A search of the web that must not reach the web is left out: Codex offers it with every request.
    """
    for index, tool in enumerate(body.tools or ()):
        if tool.type == "web_search" and tool.external_web_access is False:
            continue
        namespace = tool.name if tool.type == "namespace" else None
        for one in (tool.tools or ()) if namespace else (tool,):
            if one.type != "function" or not one.name:
                raise BadRequest(
                    f"tools of type {one.type!r} are not supported: a model can only call functions",
                    f"tools.{index}",
                )
            yield namespace, one


def _full_name(namespace: str | None, name: str | None) -> str:
    """The name by which an engine knows the function: it has no namespaces."""
    return f"{namespace}__{name}" if namespace else name or ""


def _tool(namespace: str | None, tool: Tool) -> dict[str, Any]:
    function = {
        "name": _full_name(namespace, tool.name),
        "description": tool.description,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
        "strict": tool.strict,
    }
    return {"type": "function", "function": {k: v for k, v in function.items() if v is not None}}


def _tool_choice(choice: str | ToolChoice | None) -> object:
    if not isinstance(choice, ToolChoice):
        return choice
    if choice.type != "function" or not choice.name:
        raise BadRequest("`tool_choice` must be none, auto, required or a function", "tool_choice")
    return {"type": "function", "function": {"name": choice.name}}


def _response_format(wanted: TextFormat | None) -> Mapping[str, Any] | None:
    if wanted is None or wanted.type != "json_schema":
        return {"type": wanted.type} if wanted else None
    schema = {
        "name": wanted.name or "answer",
        "description": wanted.description,
        "schema": wanted.json_schema or {},
        "strict": wanted.strict,
    }
    return {"type": "json_schema", "json_schema": {k: v for k, v in schema.items() if v is not None}}


# Answers


@dataclass(slots=True)
class _Output:
    """An item of the answer as it grows: thoughts, text, or the call of a tool."""

    #: by kind: the prefix of its id, the name of its events, the field that holds its text
    KINDS: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "reasoning": ("rs", "response.reasoning_text", "text"),
        "message": ("msg", "response.output_text", "text"),
        "function_call": ("fc", "response.function_call_arguments", "arguments"),
    }

    kind: str
    index: int
    #: of a call
    fields: Mapping[str, Any] = field(default_factory=dict)
    pieces: list[str] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    id: str = ""

    def __post_init__(self) -> None:
        self.id = f"{self.KINDS[self.kind][0]}_{secrets.token_hex(12)}"

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def part(self) -> Mapping[str, Any]:
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": self.text}
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs}

    def written(self, status: str) -> Mapping[str, Any]:
        item = {"id": self.id, "type": self.kind, "status": status, **self.fields}
        content = [self.part()] if self.pieces or status != "in_progress" else []
        if self.kind == "function_call":
            return {**item, "arguments": self.text}
        if self.kind == "reasoning":
            return {**item, "summary": [], "content": content}
        return {**item, "role": "assistant", "content": content}


_TOOLS = TypeAdapter(list[Tool])


class ResponseWriter:
    """`/v1/responses`."""

    media_type = "text/event-stream"

    def __init__(self, body: ResponseBody, *, now: float | None = None) -> None:
        self._head = _head(body, int(time.time() if now is None else now))
        self._functions = {
            _full_name(space, tool.name): (space, tool.name) for space, tool in _functions(body)
        }
        self._order = BlockOrder()
        #: the last is open while the answer is streamed
        self._outputs: list[_Output] = []
        self._reply: Reply | None = None
        self._events = 0

    def whole(self, choices: Sequence[Choice]) -> object:
        (choice,) = choices
        if choice.thought:
            self._add("reasoning").pieces.append(choice.thought)
        if choice.text or not choice.calls:
            message = self._add("message")
            message.pieces.append(choice.text)
            message.logprobs += choice.logprobs
        for call in merge_calls(choice.calls):
            self._add("function_call", self._call_fields(call)).pieces.append(call.arguments)
        self._reply = choice.reply
        return self._ended()

    def begin(self) -> bytes:
        response = self._response("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def ping(self) -> bytes:
        return b": ping\n\n"

    def started(self, index: int) -> bytes:  # noqa: ARG002
        return b""

    def text(self, index: int, text: str, logprobs: Sequence[Mapping[str, Any]]) -> bytes:  # noqa: ARG002
        return self._piece("message", 0, text, logprobs=list(logprobs))

    def thought(self, index: int, text: str) -> bytes:  # noqa: ARG002
        return self._piece("reasoning", 0, text)

    def call(self, index: int, call: ToolCall) -> bytes:  # noqa: ARG002
        return self._piece("function_call", call.index, call.arguments, self._call_fields(call))

    def finish(self, index: int, reply: Reply) -> bytes:  # noqa: ARG002
        self._reply = reply
        empty = b"" if self._outputs else self._piece("message", 0, "", logprobs=[])
        return empty + self._close(_status(reply))

    def end(self) -> bytes:
        response = self._ended()
        return self._event(f"response.{response['status']}", response=response)

    def broken(self, fault: Fault) -> bytes:
        code = "rate_limit_exceeded" if fault.status == 429 else "server_error"
        told = {"code": code, "message": fault.message}
        failed = self._event("response.failed", response=self._response("failed", error=told))
        return failed + self._event("error", **told, param=None, **error(fault))

    def _piece(
        self, kind: str, number: int, text: str, fields: Mapping[str, Any] | None = None, **more: Any
    ) -> bytes:
        begun = b""
        if self._order.enters("call" if kind == "function_call" else kind, number):
            begun = self._close("completed") + self._open(self._add(kind, fields or {}))
        output = self._outputs[-1]
        output.pieces.append(text)
        output.logprobs += more.get("logprobs", ())
        if not text:
            return begun
        return begun + self._event(
            f"{_Output.KINDS[kind][1]}.delta", **self._where(output), delta=text, **more
        )

    def _open(self, output: _Output) -> bytes:
        item = output.written("in_progress")
        added = self._event("response.output_item.added", output_index=output.index, item=item)
        if output.kind == "function_call":
            return added
        return added + self._event("response.content_part.added", **self._where(output), part=output.part())

    def _close(self, status: str) -> bytes:
        if not self._outputs:
            return b""
        output = self._outputs[-1]
        _, event, name = _Output.KINDS[output.kind]
        done: dict[str, Any] = {**self._where(output), name: output.text}
        if output.kind == "message":
            done["logprobs"] = output.logprobs
        if output.kind == "function_call":
            done["name"] = output.fields["name"]
        ended = self._event(f"{event}.done", **done)
        if output.kind != "function_call":
            ended += self._event("response.content_part.done", **self._where(output), part=output.part())
        item = output.written(status)
        return ended + self._event("response.output_item.done", output_index=output.index, item=item)

    def _where(self, output: _Output) -> Mapping[str, Any]:
        where = {"item_id": output.id, "output_index": output.index}
        return where if output.kind == "function_call" else {**where, "content_index": 0}

    def _add(self, kind: str, fields: Mapping[str, Any] = {}) -> _Output:
        self._outputs.append(_Output(kind, len(self._outputs), fields))
        return self._outputs[-1]

    def _call_fields(self, call: ToolCall) -> Mapping[str, Any]:
        namespace, name = self._functions.get(call.name, (None, call.name))
        fields = {"call_id": call.id or f"call_{secrets.token_hex(12)}", "name": name}
        return {**fields, "namespace": namespace} if namespace else fields

    def _ended(self) -> Mapping[str, Any]:
        assert self._reply is not None  # noqa: S101 - an answer ends with its reply
        status = _status(self._reply)
        details = None
        if status == "incomplete":
            filtered = finish_reason(self._reply) == "content_filter"
            details = {"reason": "content_filter" if filtered else "max_output_tokens"}
        return self._response(status, incomplete_details=details, usage=_usage(self._reply))

    def _response(self, status: str, **fields: Any) -> Mapping[str, Any]:
        last = "completed" if status == "completed" else "incomplete"
        output = [one.written(last if one is self._outputs[-1] else "completed") for one in self._outputs]
        return {**self._head, "status": status, "output": output, **fields}

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = orjson.dumps({"type": kind, "sequence_number": self._events, **fields})
        self._events += 1
        return f"event: {kind}\ndata: ".encode() + data + b"\n\n"


def _head(body: ResponseBody, now: int) -> Mapping[str, Any]:
    """What a response says of its request."""
    choice = body.tool_choice
    text = body.text or TextConfig(format=TextFormat(type="text"))
    return {
        "id": f"resp_{secrets.token_hex(16)}",
        "object": "response",
        "created_at": now,
        "model": body.model,
        "instructions": body.instructions,
        "tools": orjson.Fragment(_TOOLS.dump_json(body.tools or [], by_alias=True, exclude_none=True)),
        "tool_choice": choice.model_dump() if isinstance(choice, ToolChoice) else choice or "auto",
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "text": orjson.Fragment(text.model_dump_json(by_alias=True, exclude_none=True)),
        "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        "temperature": body.temperature,
        "top_p": body.top_p,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "prompt_cache_key": body.prompt_cache_key,
        "previous_response_id": None,
        "store": False,
        "background": False,
        "truncation": "disabled",
        "error": None,
        "incomplete_details": None,
        "usage": None,
    }


def _status(reply: Reply) -> str:
    return "incomplete" if finish_reason(reply) in ("length", "content_filter") else "completed"


def _usage(reply: Reply) -> Mapping[str, Any]:
    tokens = usage([reply])
    return {
        "input_tokens": tokens["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": tokens["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens["total_tokens"],
    }
