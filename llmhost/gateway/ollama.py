"""Ollama's API: chats and generated texts. Facts: its published API reference.

A request becomes what it would be in OpenAI's API, so that both find each other's answers in the cache.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from pydantic import Field, TypeAdapter

from llmhost.answering.question import Reply
from llmhost.engines.engine import Completion, Message, Sampling, ToolCall
from llmhost.gateway.chat import Chat, Choice, calls_with_arguments, stop_texts
from llmhost.gateway.faults import BadRequest, Fault
from llmhost.gateway.fields import GENERATED, OLLAMA, UnreadFields
from llmhost.gateway.openai import Body, finish_reason

__all__ = [
    "CHAT_BODY",
    "GENERATE_BODY",
    "ChatBody",
    "ChatWriter",
    "GenerateBody",
    "GenerateWriter",
    "chat_of",
    "error",
    "generated_chat_of",
]

#: options that OpenAI's API, or its usual servers, have as fields of the request
_FIELDS = frozenset(
    {"top_k", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty"}
)
#: how an image's base64 begins
_IMAGES = {"iVBOR": "image/png", "/9j/": "image/jpeg", "R0lG": "image/gif", "UklG": "image/webp"}
#: values of `keep_alive` that end a model at once
_AT_ONCE = (0, "0", "0s", "0m", "0h")


class OptionsBody(Body):
    """The options that every engine knows; a `num_predict` or `seed` below 0 leaves it to the engine."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    num_predict: int | None = Field(None, ge=-2, le=10_000_000)
    stop: str | list[str] | None = Field(None, max_length=10_000)

    def sampling(self) -> Sampling:
        return Sampling(
            self.temperature,
            self.top_p,
            None if self.seed is None or self.seed < 0 else self.seed,
            max(self.num_predict or 0, 0) or None,
            stop_texts(self.stop),
        )


class _AskingBody(Body):
    model: str = Field(min_length=1, max_length=200)
    stream: bool | None = True
    options: OptionsBody | None = None
    format: str | dict[str, Any] | None = None
    think: bool | Literal["", "low", "medium", "high", "max"] | None = None
    keep_alive: int | float | str | None = None
    # Vercel's provider sends these beside the options
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    max_output_tokens: int | None = Field(None, ge=1, le=10_000_000)

    @property
    def all_options(self) -> OptionsBody:
        """The options, and what is sent beside them."""
        options = self.options or OptionsBody()
        beside = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "num_predict": self.max_output_tokens,
        }
        missing = {name: value for name, value in beside.items() if getattr(options, name) is None}
        return options.model_copy(update=missing)

    @property
    def streams(self) -> bool:
        return self.stream is not False

    @property
    def unloads(self) -> bool:
        return self.keep_alive in _AT_ONCE


class FunctionBody(Body):
    name: str
    arguments: dict[str, Any] | None = None


class CallBody(Body):
    id: str | None = None
    function: FunctionBody


class MessageBody(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    images: list[str] | None = None
    thinking: str | None = None
    tool_calls: list[CallBody] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class ChatBody(_AskingBody):
    messages: list[MessageBody] | None = Field(None, max_length=10_000)


class GenerateBody(_AskingBody):
    prompt: str | None = None
    system: str | None = None
    images: list[str] | None = None
    suffix: str | None = None
    raw: bool | None = None


CHAT_BODY = TypeAdapter(ChatBody)
GENERATE_BODY = TypeAdapter(GenerateBody)


def chat_of(body: ChatBody) -> Chat:
    """What a body with messages asks. Raises BadRequest."""
    return _chat(body, OLLAMA, tuple(_messages(body.messages or ())))


def generated_chat_of(body: GenerateBody) -> Chat:
    """What a body with a prompt asks. Raises BadRequest for what no engine is asked for."""
    if body.raw or body.suffix:
        return _completion_of(body)
    system = (Message("system", body.system),) if body.system else ()
    return _chat(body, GENERATED, (*system, Message("user", _content(body.prompt or "", body.images))))


def _completion_of(body: GenerateBody) -> Chat:
    """As in Ollama, a `raw` prompt is all that the model reads: a `suffix` is then ignored."""
    for name in ("images", "system"):
        if getattr(body, name):
            raise BadRequest(f"`{name}` does not go with `{'raw' if body.raw else 'suffix'}`", name)
    suffix = "" if body.raw else body.suffix or ""
    return _chat(body, GENERATED, completion=Completion(body.prompt or "", suffix))


def _chat(
    body: _AskingBody,
    unread: UnreadFields,
    messages: tuple[Message, ...] = (),
    completion: Completion | None = None,
) -> Chat:
    options = body.all_options
    extra = {name: value for name, value in (options.model_extra or {}).items() if value is not None}
    rest = {name: value for name, value in extra.items() if name not in _FIELDS}
    translated = {
        **{name: value for name, value in extra.items() if name in _FIELDS},
        "options": rest,
        "response_format": _response_format(body.format),
        **_thinking(body.think),
    }
    parts = {"messages": body.messages} if isinstance(body, ChatBody) else {}
    fields = unread.read(body, translated, parts)
    return Chat(
        model=body.model,
        messages=messages,
        sampling=options.sampling(),
        fields=fields.passed,
        unknown=fields.unknown,
        stream=body.streams,
        completion=completion,
    )


def _thinking(think: bool | str | None) -> Mapping[str, Any]:
    """A level is OpenAI's `reasoning_effort`, which has no word for just thinking."""
    return {"think": think} if isinstance(think, bool) else {"reasoning_effort": think}


def _response_format(wanted: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if not wanted:
        return None
    if wanted == "json":
        return {"type": "json_object"}
    if isinstance(wanted, str):
        raise BadRequest('`format` must be "json" or a JSON schema', "format")
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted}}


def _messages(bodies: Sequence[MessageBody]) -> Iterator[Message]:
    """Calls of tools get ids, which OpenAI's API wants: Ollama's answer by their tool's name, or in turn."""
    unanswered: list[tuple[str, str]] = []  #: id and name of each call
    called = 0
    for body in bodies:
        fields: dict[str, Any] = {}
        if body.thinking:
            fields["reasoning_content"] = body.thinking
        if body.tool_calls:
            calls = []
            for call in body.tool_calls:
                id = call.id or f"call_{called}"
                called += 1
                unanswered.append((id, call.function.name))
                arguments = json.dumps(call.function.arguments or {}, ensure_ascii=False)
                function = {"name": call.function.name, "arguments": arguments}
                calls.append({"id": id, "type": "function", "function": function})
            fields["tool_calls"] = calls
        if body.role == "tool":
            fields |= _answered(body, unanswered)
        yield Message(body.role, _content(body.content or "", body.images), fields)


def _answered(body: MessageBody, unanswered: list[tuple[str, str]]) -> dict[str, str]:
    """Which call a tool's message answers; it is taken from those that wait."""
    for call in unanswered:
        id, name = call
        if body.tool_call_id == id or (not body.tool_call_id and body.tool_name in (None, "", name)):
            unanswered.remove(call)
            return {"tool_call_id": id}
    return {"tool_call_id": body.tool_call_id or "", **({"name": body.tool_name} if body.tool_name else {})}


def _content(text: str, images: Sequence[str] | None) -> str | list[Any]:
    """A message's text, or its parts where it has images."""
    if not images:
        return text
    parts: list[Any] = [{"type": "text", "text": text}] if text else []
    return parts + [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in images]


def _data_url(image: str) -> str:
    if ":" in image or not image.isascii():
        raise BadRequest("an image must be base64", "images")
    kind = next((kind for prefix, kind in _IMAGES.items() if image.startswith(prefix)), "image/png")
    return f"data:{kind};base64,{image}"


# Answers


def error(fault: Fault) -> object:
    return {"error": fault.message}


class _Writer(ABC):
    """What chats and generated texts share: one JSON object a line, the last of which is `done`."""

    media_type = "application/x-ndjson"

    def __init__(self, model: str) -> None:
        self._model = model
        self._calls: list[ToolCall] = []

    @abstractmethod
    def part(self, text: str, thought: str = "", calls: Sequence[Any] = ()) -> dict[str, Any]:
        """A piece of the answer in the API's own fields; `calls` as `_calls` writes them."""

    def loaded(self, *, unloads: bool) -> object:
        """The answer to a request without a question, which loads or unloads a model."""
        return self._object(self.part(""), done=True, done_reason="unload" if unloads else "load")

    def whole(self, choices: Sequence[Choice]) -> object:
        (choice,) = choices
        assert choice.reply is not None  # noqa: S101 - a choice is whole with its reply
        part = self.part(choice.text, choice.thought, _calls(choice.calls, choice.reply))
        return self._object({**part, **_logprobs(choice.logprobs)}, done=True, **_ending(choice.reply))

    def begin(self) -> bytes:
        return b""

    def ping(self) -> bytes:
        # The Python client fails at an empty line, and that of JavaScript warns of it. Both take a piece that
        # has no text, as Ollama itself sends it beside the model's thoughts.
        return self._line(self.part(""))

    def started(self, index: int) -> bytes:  # noqa: ARG002
        return b""

    def text(self, index: int, text: str, logprobs: Sequence[Mapping[str, Any]]) -> bytes:  # noqa: ARG002
        return self._line({**self.part(text), **_logprobs(logprobs)})

    def thought(self, index: int, text: str) -> bytes:  # noqa: ARG002
        return self._line(self.part("", text))

    def call(self, index: int, call: ToolCall) -> bytes:  # noqa: ARG002
        self._calls.append(call)  # Ollama sends whole calls, whose arguments are an object
        return b""

    def finish(self, index: int, reply: Reply) -> bytes:  # noqa: ARG002
        calls = _calls(self._calls, reply)
        called = self._line(self.part("", calls=calls)) if calls else b""
        return called + self._line(self.part(""), done=True, **_ending(reply))

    def end(self) -> bytes:
        return b""

    def broken(self, fault: Fault) -> bytes:
        return orjson.dumps(error(fault)) + b"\n"

    def _line(self, part: Mapping[str, Any], *, done: bool = False, **fields: Any) -> bytes:
        return orjson.dumps(self._object(part, done=done, **fields)) + b"\n"

    def _object(self, part: Mapping[str, Any], *, done: bool, **fields: Any) -> dict[str, Any]:
        return {"model": self._model, "created_at": timestamp(), **part, "done": done, **fields}


class ChatWriter(_Writer):
    """`/api/chat`."""

    def part(self, text: str, thought: str = "", calls: Sequence[Any] = ()) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, **_more(thought, calls)}}


class GenerateWriter(_Writer):
    """`/api/generate`. There is no `context`, which is optional: a cached answer does not have its tokens."""

    def part(self, text: str, thought: str = "", calls: Sequence[Any] = ()) -> dict[str, Any]:
        return {"response": text, **_more(thought, calls)}


def timestamp(at: datetime | None = None) -> str:
    """As Ollama writes the time; now by default."""
    return (at or datetime.now(UTC)).isoformat().replace("+00:00", "Z")


def _more(thought: str, calls: Sequence[Any]) -> dict[str, Any]:
    more: dict[str, Any] = {"thinking": thought} if thought else {}
    return {**more, "tool_calls": list(calls)} if calls else more


def _calls(pieces: Sequence[ToolCall], reply: Reply) -> Sequence[dict[str, Any]]:
    """Raises StreamBroken where the arguments of one are no JSON object, although the answer is whole."""
    calls = calls_with_arguments(pieces, cut=finish_reason(reply) == "length")
    return [
        {
            **({"id": call.id} if call.id else {}),
            "function": {"index": index, "name": call.name, "arguments": arguments},
        }
        for index, (call, arguments) in enumerate(calls)
    ]


def _logprobs(logprobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"logprobs": list(logprobs)} if logprobs else {}


def _ending(reply: Reply) -> dict[str, Any]:
    """Why the answer ended and what it took, in nanoseconds: clients divide by these.

    An engine's time for prompt and answer is not known apart: it is `eval_duration`, which for a hit is the
    whole time. The tokens of a hit are those of its answer when it was generated.
    """
    reason = finish_reason(reply)
    total = _nanoseconds(reply.latency.total)
    generating = _nanoseconds(reply.latency.engine) if reply.latency.engine else total
    return {
        "done_reason": "stop" if reason in ("tool_calls", "function_call") else reason,
        "total_duration": total,
        "load_duration": int(reply.latency.load * 1e6),
        "prompt_eval_count": reply.answer.prompt_tokens,
        "prompt_eval_duration": max(total - generating, 1),
        "eval_count": reply.answer.completion_tokens,
        "eval_duration": generating,
    }


def _nanoseconds(milliseconds: float) -> int:
    return max(int(milliseconds * 1e6), 1)
