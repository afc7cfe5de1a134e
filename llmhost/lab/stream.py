"""Questions in the order in which they were asked, each with what it is really about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmhost.lab.lines import Lines, question_in, read_lines

__all__ = ["About", "Asked", "read_stream"]

#: What a question really asks; two that differ need two answers.
About = str | int

_HINT = 'write {"question": "...", "class": "..."} on each line'


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of a stream."""

    question: str
    about: About


def read_stream(path: Path, *, limit: int | None = None) -> Lines[Asked]:
    """The first `limit` questions of a file of lines ``{"question": "...", "class": "..."}``; ``.gz`` is
    unpacked. A class is a text or a whole number.

    Raises:
        UsageError: the file cannot be read, no line of it makes sense, or more than 5 % do not.
    """
    return read_lines(path, _asked, hint=_HINT, limit=limit)


def _asked(row: Mapping[str, Any]) -> Asked:
    about = row.get("class")
    if isinstance(about, bool) or not isinstance(about, (str, int)) or about == "":
        raise ValueError(f"'class' is {'missing' if about is None else 'neither a text nor a whole number'}")
    return Asked(question_in(row, "question"), about)
