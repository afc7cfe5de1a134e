"""Reading what an engine sends: JSON of a shape that we do not trust, and words that people will see."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llmhost.engines.engine import ChatRequest, Delta, Done, Sampling

__all__ = [
    "BadReply",
    "Event",
    "JsonObject",
    "Reader",
    "Reported",
    "Thinking",
    "chat_fields",
    "child",
    "count",
    "error_text",
    "list_of",
    "parse_object",
    "sampling_fields",
    "shorten",
    "text",
]

JsonObject = dict[str, Any]

#: tokens; no answer is anywhere near as long, and sums of them stay exact
MOST_TOKENS = 1_000_000_000

#: characters of an engine's own words that are shown; its errors fit, a page of HTML does not
_SHOWN = 240


@dataclass(frozen=True, slots=True)
class Thinking:
    """The engine works, and has nothing to show yet: a reasoning token."""


Event = Delta | Done | Thinking


#: reads the lines of one streamed answer, in order: the events that a line brings; raises BadReply, Reported
Reader = Callable[[str], Sequence[Event]]


class BadReply(Exception):
    """What an engine sent cannot be used. The message completes a sentence that starts with its address."""


class Reported(BadReply):
    """The engine itself reports an error; `said` is its text, cleaned."""

    def __init__(self, said: str) -> None:
        super().__init__(f"reports an error: {said}")
        self.said = said


def parse_object(source: str) -> JsonObject:
    """One JSON object. Raises BadReply for anything else."""
    try:
        value = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise BadReply("sent invalid JSON") from error
    if not isinstance(value, dict):
        raise BadReply("sent JSON that is not an object")
    return value


def child(owner: JsonObject, name: str) -> JsonObject:
    """The object under `name`, empty where there is none. Raises BadReply."""
    value = owner.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadReply(f"sent a `{name}` that is not an object")
    return value


def list_of(owner: JsonObject, name: str) -> list[JsonObject]:
    """The objects listed under `name`, none where it is missing. Raises BadReply."""
    value = owner.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadReply(f"sent a `{name}` that is not a list of objects")
    return value


def text(owner: JsonObject, name: str) -> str:
    """The text under `name`, empty where there is none. Raises BadReply, also for half a character."""
    value = owner.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadReply(f"sent a `{name}` that is not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadReply(f"sent a `{name}` with half a character") from error
    return value


def count(owner: JsonObject, name: str, most: int = MOST_TOKENS) -> int:
    """The number under `name`; 0 where there is none, or something that cannot be one."""
    value = owner.get(name)
    return value if type(value) is int and 0 <= value <= most else 0


def error_text(error: Any) -> str:
    """The words in an `error` field, which is a text, or an object with a `message`."""
    if isinstance(error, dict):
        error = error.get("message") or error.get("type") or error.get("code")
    return shorten(str(error)) if error else "an error without words"


def shorten(words: str) -> str:
    """One printable line of bounded length, whatever came in."""
    line = " ".join("".join(c if c.isprintable() else " " for c in words[: 8 * _SHOWN]).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


# Writing a request the way both OpenAI's API and Ollama's want it.


def chat_fields(request: ChatRequest) -> JsonObject:
    """The request's further fields, model, messages, and that the answer is to be streamed."""
    return {
        **request.fields,
        "model": request.model,
        "messages": [
            {"role": message.role, "content": message.content, **message.fields}
            for message in request.messages
        ],
        "stream": True,
    }


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
