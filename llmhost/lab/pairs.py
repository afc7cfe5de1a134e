"""Files of labelled questions: pairs that ask the same or not, and streams in the order they were asked.

One JSON object a line, each checked by itself: one broken line does not cost the others.
"""

from __future__ import annotations

import codecs
import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from llmhost.errors import UsageError

__all__ = [
    "About",
    "Asked",
    "BrokenLine",
    "Lines",
    "Pair",
    "read_bounded",
    "read_pairs",
    "read_stream",
    "sample",
    "skipped_words",
]

Row = TypeVar("Row")

#: bytes; a question of 10,000 words has some 60,000, and no line is read into memory that is much longer
_LONGEST_LINE = 1_000_000
#: lines; the questions of a busy month, which still fit into memory
_MOST_LINES = 5_000_000
#: characters; of a question
_LONGEST_QUESTION = 100_000
#: share of the lines; where more are broken, the rest is hardly what it was meant to be
_MOST_BROKEN = 0.05
#: lines; a message that names more would not be read
_NAMED = 3
#: bytes, unpacked; a small archive can hold more than any machine has room for
_LARGEST_FILE = 2_000_000_000


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """`line` counts from 1; `reason` is for people."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Lines(Generic[Row]):
    """The valid rows of a file, in its order, and its broken lines."""

    rows: tuple[Row, ...]
    broken: tuple[BrokenLine, ...]


def read_lines(
    path: Path, parse: Callable[[Mapping[str, Any]], Row], *, hint: str, limit: int | None = None
) -> Lines[Row]:
    """The JSON objects of a file, one a line; ``.gz`` is unpacked, blank lines are skipped.

    `parse` makes a row of an object, or raises ValueError with a message for people. After `limit` rows the
    rest of the file is not read. `hint` says what a line should be. Raises UsageError where the file cannot
    be read, no line of it makes sense, or more than 5 % do not.
    """
    rows: list[Row] = []
    broken: list[BrokenLine] = []
    for number, line in enumerate(read_bounded(path, _LONGEST_LINE), 1):
        if limit is not None and len(rows) >= limit:
            break
        if number > _MOST_LINES:
            raise UsageError(f"{path.name} has more than {_MOST_LINES:,} lines")
        if not line.strip():
            continue
        try:
            rows.append(parse(_object(line.removeprefix(codecs.BOM_UTF8))))
        except ValueError as error:
            broken.append(BrokenLine(number, str(error)))
    lines = len(rows) + len(broken)
    if not lines:
        raise UsageError(f"{path.name} is empty", hint=hint)
    if len(broken) > _MOST_BROKEN * lines:
        message = f"{path.name}: {len(broken):,} of {lines:,} lines make no sense: {_named(broken)}"
        raise UsageError(message, hint=hint)
    return Lines(tuple(rows), tuple(broken))


def question_in(row: Mapping[str, Any], name: str) -> str:
    """The text under `name`. Raises ValueError where there is none."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name!r} is {'missing' if value is None else 'not a text with words in it'}")
    if len(value) > _LONGEST_QUESTION:
        raise ValueError(f"{name!r} is longer than {_LONGEST_QUESTION:,} characters")
    return value


def skipped_words(path: Path, broken: Sequence[BrokenLine]) -> str:
    """What was left out, for people."""
    count = f"{len(broken):,} line{'s make' if len(broken) > 1 else ' makes'}"
    return f"{path.name}: {count} no sense and {'are' if len(broken) > 1 else 'is'} skipped: {_named(broken)}"


def _named(broken: Sequence[BrokenLine]) -> str:
    named = "; ".join(f"line {one.line}: {one.reason}" for one in broken[:_NAMED])
    return named + (f"; and {len(broken) - _NAMED:,} more" if len(broken) > _NAMED else "")


def read_bounded(path: Path, longest: int) -> Iterator[bytes]:
    """The lines of a file; ``.gz`` is unpacked. A line that is longer than `longest` bytes is cut to one byte
    more than that. Raises UsageError where the file cannot be read, or is too large.
    """
    remaining = _LARGEST_FILE
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            line = b"\n"
            while part := file.readline(longest + 1):
                remaining -= len(part)
                if remaining < 0:
                    raise UsageError(f"{path.name} holds more than {_LARGEST_FILE / 1e9:g} GB")
                if line.endswith(b"\n"):
                    yield part
                line = part
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is not whole, or not what its name says"
        raise UsageError(f"cannot read {path}: {reason}") from error


def _object(line: bytes) -> Mapping[str, Any]:
    """The object on a line. Raises ValueError, for people."""
    if len(line) > _LONGEST_LINE:
        raise ValueError(f"it is longer than {_LONGEST_LINE:,} bytes")
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError("it is not text in UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


#: characters; a kind is a word or two
_LONGEST_KIND = 60

_HINT = 'write {"a": "...", "b": "...", "same": 1} on each line; "kind" and "answer" may be added'

#: so that the same pairs are drawn each time
_SEED = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """`same`: the answer to one is the answer to the other. `kind` is what the file calls such a pair,
    `answer` the one that is stored with `b`, empty where the file has none."""

    a: str
    b: str
    same: bool
    kind: str | None = None
    answer: str = ""


def read_pairs(path: Path) -> Lines[Pair]:
    """Reads a file with ``{"a", "b", "same"[, "kind"][, "answer"]}`` on each line; ``.gz`` is unpacked.
    Raises UsageError where the file cannot be read, no line of it is sound, or more than 5 % are not.
    """

    def pair(row: Mapping[str, Any]) -> Pair:
        a, b, same, kind = question_in(row, "a"), question_in(row, "b"), row.get("same"), row.get("kind")
        if type(same) not in (bool, int) or same not in (0, 1):
            raise ValueError(
                "'same' is missing" if same is None else "'same' is neither 0, 1, true nor false"
            )
        if kind is not None and not (isinstance(kind, str) and kind.strip() and len(kind) <= _LONGEST_KIND):
            raise ValueError(f"'kind' is not a text of 1 to {_LONGEST_KIND} characters")
        answer = row.get("answer", "")
        if not isinstance(answer, str) or len(answer) > _LONGEST_QUESTION:
            raise ValueError(f"'answer' is not a text of at most {_LONGEST_QUESTION:,} characters")
        return Pair(a, b, bool(same), kind, answer)

    return read_lines(path, pair, hint=_HINT)


def sample(pairs: Sequence[Row], limit: int | None) -> Sequence[Row]:
    """At most `limit` of the rows, drawn at random but always the same ones, in their order."""
    if limit is None or limit >= len(pairs):
        return pairs
    drawn = random.Random(_SEED).sample(range(len(pairs)), limit)
    return [pairs[place] for place in sorted(drawn)]


#: What a question really asks; two that differ need two answers.
About = str | int

_STREAM_HINT = 'write {"question": "...", "class": "..."} on each line'


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of a stream."""

    question: str
    about: About


def read_stream(path: Path, *, limit: int | None = None) -> Lines[Asked]:
    """The first `limit` questions of a file of lines ``{"question": "...", "class": "..."}``; ``.gz`` is
    unpacked. A class is a text or a whole number. Raises UsageError where the file cannot be read, no line of
    it makes sense, or more than 5 % do not.
    """

    def asked(row: Mapping[str, Any]) -> Asked:
        about = row.get("class")
        if isinstance(about, bool) or not isinstance(about, (str, int)) or about == "":
            problem = "missing" if about is None else "neither a text nor a whole number"
            raise ValueError(f"'class' is {problem}")
        return Asked(question_in(row, "question"), about)

    return read_lines(path, asked, hint=_STREAM_HINT, limit=limit)
