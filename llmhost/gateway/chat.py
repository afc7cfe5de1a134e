"""A chat as every API asks for it, and how its answer is written: the part that the APIs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmhost.answering.question import Reply
from llmhost.engines.engine import Message, Sampling, ToolCall
from llmhost.gateway.faults import Fault

__all__ = ["Chat", "ChatWriter", "Choice", "merge_calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """What a client asks, with messages and `fields` in the form of OpenAI's API.

    `choices` is how many answers are wanted. `sticky` names the conversation where the client does, and
    `cacheable` False is a request whose answer must come from an engine.
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


@dataclass(slots=True)
class Choice:
    """One answer that was collected whole."""

    text: str = ""
    thought: str = ""
    calls: Sequence[ToolCall] = ()
    logprobs: Sequence[Mapping[str, Any]] = ()
    reply: Reply | None = None


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
