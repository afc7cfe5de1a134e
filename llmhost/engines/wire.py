"""Reading what an engine sends: JSON of a shape that we do not trust, and words that people will see."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llmhost.engines.engine import ChatRequest, Completion, Done, Piece, Sampling
from llmhost.errors import EngineRefused

__all__ = [
    "BadReply",
    "Characters",
    "Event",
    "JsonObject",
    "Malformed",
    "Reader",
    "Reported",
    "Thinking",
    "chat_fields",
    "child",
    "completion_fields",
    "count",
    "error_text",
    "finish_reason",
    "list_of",
    "parse",
    "parse_object",
    "sampling_fields",
    "sent_object",
    "shorten",
    "text",
    "vector",
]

JsonObject = dict[str, Any]

#: tokens; no answer is anywhere near as long, and sums of them stay exact
MOST_TOKENS = 1_000_000_000

#: calls in one answer
MOST_TOOL_CALLS = 1000

#: characters of an engine's own words that are shown; its errors fit, a page of HTML does not
_SHOWN = 240


@dataclass(frozen=True, slots=True)
class Thinking:
    """The engine works, and has nothing to show yet."""


Event = Piece | Done | Thinking


#: reads the lines of one streamed answer, in order: the events that a line brings; raises BadReply, Reported
Reader = Callable[[str], Sequence[Event]]


class BadReply(Exception):
    """What an engine sent cannot be used. The message completes a sentence that starts with its address."""


class Malformed(BadReply):
    """It answered, in another shape than the API's."""


class Reported(BadReply):
    """The engine itself reports an error; `said` is its text, cleaned."""

    def __init__(self, said: str) -> None:
        super().__init__(f"reports an error: {said}")
        self.said = said


def parse(source: str) -> Any:
    """One JSON value. Raises Malformed."""
    try:
        return json.loads(source)
    except (ValueError, RecursionError) as error:
        raise Malformed("sent invalid JSON") from error


def parse_object(source: str) -> JsonObject:
    """One JSON object. Raises Malformed for anything else."""
    value = parse(source)
    if not isinstance(value, dict):
        raise Malformed("sent JSON that is not an object")
    return value


def child(owner: JsonObject, name: str) -> JsonObject:
    """The object under `name`, empty where there is none. Raises Malformed."""
    value = owner.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed(f"sent a `{name}` that is not an object")
    return value


def list_of(owner: JsonObject, name: str) -> list[JsonObject]:
    """The objects listed under `name`, none where it is missing. Raises Malformed."""
    value = owner.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Malformed(f"sent a `{name}` that is not a list of objects")
    return value


def text(owner: JsonObject, name: str) -> str:
    """The text under `name`, empty where there is none. Raises Malformed."""
    value = owner.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(f"sent a `{name}` that is not text")
    return value


class Characters:
    """Joins pieces of text of which one may end in the middle of a character: JSON writes an emoji as two
    escapes, and some servers send each in a chunk of its own."""

    def __init__(self) -> None:
        self._half = ""

    def whole(self, piece: str) -> str:
        """The characters that this piece completes. Raises Malformed where one is only half."""
        joined = self._half + piece
        self._half = joined[-1:] if "\ud800" <= joined[-1:] <= "\udbff" else ""
        try:
            return joined.removesuffix(self._half).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            raise Malformed("sent half a character") from error

    def end(self) -> None:
        """Raises Malformed where the text ended in the middle of a character."""
        if self._half:
            raise Malformed("ended the answer with half a character")


def count(owner: JsonObject, name: str, most: int = MOST_TOKENS) -> int:
    """The number under `name`; 0 where there is none, or something that cannot be one."""
    value = owner.get(name)
    return value if type(value) is int and 0 <= value <= most else 0


#: fields that explain an error, in the order in which they are shown; the others only where there is none
_EXPLAINING = ("error", "message", "msg", "detail", "details", "errors", "reason", "metadata", "raw", "loc")
_NAMING = ("type", "status", "code")

#: levels within an error; a gateway's quotation of a gateway's error has eight
_DEEPEST = 12


def error_text(error: Any) -> str:
    """Every text with which a reply explains an error, however deep it is, each once."""
    texts = _texts(error, _EXPLAINING) or _texts(error, _EXPLAINING + _NAMING)
    return shorten("; ".join(dict.fromkeys(texts))) or "an error without words"


def _texts(value: Any, names: Sequence[str], depth: int = 0) -> list[str]:
    if depth > _DEEPEST:
        return []
    if isinstance(value, dict):
        return [found for name in names for found in _texts(value.get(name), names, depth + 1)]
    if isinstance(value, list):
        return [found for item in value for found in _texts(item, names, depth + 1)]
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):  # a gateway quotes another's reply
        with suppress(Malformed):
            return _texts(parse(value), names, depth + 1) or [value]
    return [str(value)] if isinstance(value, str | int) and value not in ("", True, False) else []


#: what engines call the two ends that every one has, in lower case
_STOP = frozenset({"stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete", "completed"})
_LENGTH = frozenset({"length", "max_tokens", "max_length", "model_length", "max_output_tokens"})


def finish_reason(owner: JsonObject, name: str) -> str:
    """Why the answer ended, in one line, empty where that is not said; synonyms are `stop` and `length`."""
    said = shorten(text(owner, name))
    known = said.lower()
    return "stop" if known in _STOP else "length" if known in _LENGTH else said


def shorten(words: str) -> str:
    """One printable line of bounded length, whatever was sent."""
    line = " ".join("".join(c if c.isprintable() else " " for c in words[: 8 * _SHOWN]).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


#: the largest number of 32 bits: clients may ask for vectors of these
_LARGEST = 3.4e38


def vector(owner: JsonObject, name: str) -> list[float]:
    """The vector under `name`. Raises Malformed."""
    value = owner.get(name)
    if not isinstance(value, list) or not value or not all(map(_is_finite, value)):
        raise Malformed(f"sent a `{name}` that is no vector")
    return value


def _is_finite(value: Any) -> bool:
    return type(value) in (float, int) and -_LARGEST <= value <= _LARGEST


# Writing a request the way both OpenAI's API and Ollama's want it.


def sent_object(fields: Mapping[str, Any], name: str) -> JsonObject:
    """The object that a client sent under `name`, empty where it sent none. Raises EngineRefused: the worker
    is not at fault."""
    value = fields.get(name) or {}
    if not isinstance(value, dict):
        raise EngineRefused(f"`{name}` must be an object")
    return value


def chat_fields(request: ChatRequest) -> JsonObject:
    """The request's further fields, model, messages, and that the answer is to be streamed. A completion has
    a prompt in place of messages.
    """
    written: JsonObject = {**request.fields, "model": request.model, "stream": True}
    if (completion := request.completion) is not None:
        return {**written, **completion_fields(completion)}
    written["messages"] = [
        {"role": message.role, "content": message.content, **message.fields} for message in request.messages
    ]
    return written


def completion_fields(completion: Completion) -> JsonObject:
    suffix = {"suffix": completion.suffix} if completion.suffix else {}
    return {"prompt": completion.prompt, **suffix}


def sampling_fields(sampling: Sampling, *, max_tokens: str) -> JsonObject:
    """What is given of `sampling`; `max_tokens` is the API's name for the most tokens of an answer."""
    fields = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        max_tokens: sampling.max_tokens,
        "stop": list(sampling.stop) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}
