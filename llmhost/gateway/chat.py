"""A chat as every API asks for it, and how its answer is written: the part that the APIs share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from llmhost.answering.question import Event, Reply, Text
from llmhost.engines.engine import Completion, Message, Sampling, Thought, ToolCall
from llmhost.errors import StreamBroken
from llmhost.gateway.faults import Fault

__all__ = [
    "BlockOrder",
    "Chat",
    "ChatWriter",
    "Choice",
    "calls_with_arguments",
    "content_of",
    "merge_calls",
    "stop_texts",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """What a client asks, with messages and `fields` in the form of OpenAI's API. A `completion` takes the
    place of the messages.

    `choices` is how many answers are wanted. `sticky` names the conversation where the client does, and
    `cacheable` False is a request whose answer must come from an engine, and so must one with `unknown`
    fields, which these are the names of.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    fields: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    stream: bool = False
    choices: int = 1
    sticky: str = ""
    cacheable: bool = True
    unknown: tuple[str, ...] = ()
    completion: Completion | None = None


@dataclass(slots=True)
class Choice:
    """One answer that is collected whole; `calls` are pieces of calls."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[Mapping[str, Any]] = field(default_factory=list)
    reply: Reply | None = None

    def add(self, event: Event) -> None:
        if isinstance(event, Text):
            self.texts.append(event.text)
            self.logprobs += event.logprobs
        elif isinstance(event, Thought):
            self.thoughts.append(event.text)
        elif isinstance(event, ToolCall):
            self.calls.append(event)
        elif isinstance(event, Reply):
            self.reply = event

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def thought(self) -> str:
        return "".join(self.thoughts)


class ChatWriter(Protocol):
    """Writes the answer to one chat in an API's own words; `media_type` is that of its stream.

    `index` numbers the choices of a chat that wants several.
    """

    media_type: str

    def whole(self, choices: Sequence[Choice]) -> object:
        """The JSON value of an answer that is not streamed."""
        ...

    def begin(self) -> bytes: ...

    def ping(self) -> bytes:
        """What a client takes as a sign of life, and as nothing else; may come before `begin`."""
        ...

    def started(self, index: int) -> bytes:
        """The beginning of one choice."""
        ...

    def text(self, index: int, text: str, logprobs: Sequence[Mapping[str, Any]]) -> bytes: ...

    def thought(self, index: int, text: str) -> bytes: ...

    def call(self, index: int, call: ToolCall) -> bytes: ...

    def finish(self, index: int, reply: Reply) -> bytes:
        """The end of one choice."""
        ...

    def end(self) -> bytes:
        """The end of the stream, after all choices."""
        ...

    def broken(self, fault: Fault) -> bytes:
        """An error in mid-stream; the last that is written."""
        ...


def merge_calls(pieces: Sequence[ToolCall]) -> Sequence[ToolCall]:
    """The calls that these pieces make, by their index."""
    merged: dict[int, ToolCall] = {}
    for piece in pieces:
        known = merged.get(piece.index, ToolCall(piece.index))
        merged[piece.index] = ToolCall(
            piece.index,
            known.id or piece.id,
            known.name or piece.name,
            known.arguments + piece.arguments,
        )
    return [merged[index] for index in sorted(merged)]


def calls_with_arguments(
    pieces: Sequence[ToolCall], *, cut: bool
) -> Iterator[tuple[ToolCall, orjson.Fragment]]:
    """The calls that these pieces make, each with the JSON object of its arguments. Of an answer that was
    `cut` off, a call whose arguments are not whole is left out: the reason of its end tells of that.

    Raises StreamBroken where an engine gave no JSON object.
    """
    for call in merge_calls(pieces):
        arguments = call.arguments or "{}"
        if _is_object(arguments):
            yield call, orjson.Fragment(arguments)
        elif not cut:
            raise StreamBroken(
                f"the engine called the tool {call.name!r} with arguments that are no JSON object"
            )


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def content_of(parts: Sequence[Mapping[str, Any]]) -> str | list[Any]:
    """Parts in the form of OpenAI's API as the content of a message: nothing but texts are one text."""
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n\n".join(texts) if len(texts) == len(parts) else list(parts)


def stop_texts(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """The texts that end an answer, as clients send one or several."""
    return tuple(one for one in ([stop] if isinstance(stop, str) else stop or ()) if one)


class BlockOrder:
    """The blocks of an answer in an API that streams one at a time: thoughts, text, each call of a tool."""

    def __init__(self) -> None:
        self._current: tuple[str, int] | None = None
        self._called: set[int] = set()

    def enters(self, kind: str, number: int = 0) -> bool:
        """Whether this piece begins another block; `number` is that of a call.

        Raises StreamBroken where it belongs to a call whose block has ended.
        """
        if (kind, number) == self._current:
            return False
        if kind == "call":
            if number in self._called:
                raise StreamBroken("the engine mixed the pieces of several tool calls")
            self._called.add(number)
        self._current = (kind, number)
        return True
