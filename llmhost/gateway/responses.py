"""A request of OpenAI's `/v1/responses`, of which nothing is stored. Facts: its published API reference.

A body becomes the chat that `/v1/chat/completions` would be asked, so that both have one entry in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, TypeAdapter

from llmhost.engines.engine import Message, Sampling
from llmhost.gateway.chat import Chat, content_of, stop_texts
from llmhost.gateway.faults import BadRequest
from llmhost.gateway.fields import RESPONSES
from llmhost.gateway.openai import EngineSampling

__all__ = [
    "RESPONSE_BODY",
    "Reasoning",
    "ResponseBody",
    "TextConfig",
    "TextFormat",
    "Tool",
    "ToolChoice",
    "chat_of",
    "full_name",
    "functions_of",
]


class _Body(BaseModel):
    """Fields that are not read are kept: see `fields`."""

    model_config = ConfigDict(extra="allow", frozen=True)


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


_PartList = list[Annotated[Part, Field(discriminator="type")]]
_Parts = Annotated[_PartList, BeforeValidator(_as_parts, json_schema_input_type=str | _PartList)]


class MessageItem(_Body):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: _Parts


class CallItem(_Body):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None


class CallOutputItem(_Body):
    type: Literal["function_call_output"]
    call_id: str
    output: _Parts


class ReasoningItem(_Body):
    """What the model thought before, which engines do not want back."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["reasoning"]


class ReferenceItem(_Body):
    """An item of an earlier response, by its id."""

    type: Literal["item_reference"]
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

    model_config = ConfigDict(extra="ignore")

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
    verbosity: str | None = Field(None, max_length=20)


class Reasoning(_Body):
    effort: str | None = Field(None, max_length=20)
    summary: str | None = Field(None, max_length=20)


class ResponseBody(_Body, EngineSampling):
    model: str = Field(min_length=1, max_length=200)
    input: Annotated[list[_Item], BeforeValidator(_as_items, json_schema_input_type=str | list[_Item])] = (
        Field(min_length=1, max_length=100_000)
    )
    instructions: str | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=10_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    stop: str | list[str] | None = Field(None, max_length=10_000)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = False
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    include: list[str] | None = None


RESPONSE_BODY = TypeAdapter(ResponseBody)

#: how the ids of thoughts begin, which would be left out anyway
_THOUGHT_ID = "rs_"


def chat_of(body: ResponseBody) -> Chat:
    """What a body asks. Raises BadRequest."""
    for index, item in enumerate(body.input):
        if isinstance(item, ReferenceItem) and not item.id.startswith(_THOUGHT_ID):
            raise BadRequest(
                "`item_reference` is not supported: nothing is stored here",
                f"input.{index}",
                hint="send the item itself, as clients do with `store: false`",
            )
    fields = RESPONSES.read(body, _translated(body), vars(body))
    return Chat(
        model=body.model,
        messages=tuple(_messages(body)),
        sampling=Sampling(
            body.temperature, body.top_p, body.seed, body.max_output_tokens, stop_texts(body.stop)
        ),
        fields=fields.passed,
        unknown=fields.unknown,
        stream=bool(body.stream),
        sticky=body.prompt_cache_key or "",
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
    function = {"name": full_name(item.namespace, item.name), "arguments": item.arguments}
    return {"id": item.call_id, "type": "function", "function": function}


def _translated(body: ResponseBody) -> Mapping[str, Any]:
    """The other fields on which the answer depends, as a chat has them."""
    logprobs = body.top_logprobs or "message.output_text.logprobs" in (body.include or ())
    return {
        "tools": [_tool(namespace, tool) for namespace, tool in functions_of(body)],
        "tool_choice": _tool_choice(body.tool_choice),
        "parallel_tool_calls": body.parallel_tool_calls,
        "response_format": _response_format(body.text.format if body.text else None),
        "verbosity": body.text.verbosity if body.text else None,
        "reasoning_effort": body.reasoning.effort if body.reasoning else None,
        "logprobs": bool(logprobs),
        "top_logprobs": body.top_logprobs,
        **body.passed_on,
    }


def functions_of(body: ResponseBody) -> Iterator[tuple[str | None, Tool]]:
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


def full_name(namespace: str | None, name: str | None) -> str:
    """The name by which an engine knows the function: it has no namespaces."""
    return f"{namespace}__{name}" if namespace else name or ""


def _tool(namespace: str | None, tool: Tool) -> dict[str, Any]:
    function = {
        "name": full_name(namespace, tool.name),
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
