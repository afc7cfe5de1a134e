"""Pairs of questions of which somebody has said whether they ask the same."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmhost.lab.lines import Lines, question_in, read_lines

__all__ = ["Pair", "read_pairs", "sample"]

#: characters; a kind is a word or two
_LONGEST_KIND = 60

_HINT = 'write {"a": "...", "b": "...", "same": 1} on each line; "kind" may be added'

#: so that the same pairs are drawn each time
_SEED = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """`same`: the answer to one is the answer to the other. `kind` is what the file calls such a pair."""

    a: str
    b: str
    same: bool
    kind: str | None = None


def read_pairs(path: Path) -> Lines[Pair]:
    """Reads a file with ``{"a", "b", "same"[, "kind"]}`` on each line; ``.gz`` is unpacked.

    Raises:
        UsageError: the file cannot be read, no line of it is sound, or more than 5 % are not.
    """
    return read_lines(path, _pair, hint=_HINT)


def sample(pairs: Sequence[Pair], limit: int | None) -> Sequence[Pair]:
    """At most `limit` of the pairs, drawn at random but always the same ones, in their order."""
    if limit is None or limit >= len(pairs):
        return pairs
    drawn = random.Random(_SEED).sample(range(len(pairs)), limit)
    return [pairs[place] for place in sorted(drawn)]


def _pair(row: Mapping[str, Any]) -> Pair:
    """Raises ValueError, in words for people."""
    return Pair(question_in(row, "a"), question_in(row, "b"), _same(row), _kind(row))


def _same(row: Mapping[str, Any]) -> bool:
    value = row.get("same")
    if type(value) not in (bool, int) or value not in (0, 1):
        raise ValueError("'same' is missing" if value is None else "'same' is neither 0, 1, true nor false")
    return bool(value)


def _kind(row: Mapping[str, Any]) -> str | None:
    kind = row.get("kind")
    if kind is None:
        return None
    if not isinstance(kind, str) or not kind.strip() or len(kind) > _LONGEST_KIND:
        raise ValueError(f"'kind' is not a text of 1 to {_LONGEST_KIND} characters")
    return kind
