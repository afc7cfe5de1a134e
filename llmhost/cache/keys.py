"""What makes two questions the same one. Pure.

An entry is named by a hash of its scope and its normalised wording. The scope is a hash of everything
besides the wording that an answer depends on, so that answers never cross from one scope into another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ENTRY_PATTERN", "CacheKey", "cache_key", "normalise", "pair_id", "scope_id"]

#: hex digits; 128 bits keep a collision out of reach for any number of entries that fits in a Redis
_ID_DIGITS = 32

ENTRY_PATTERN = re.compile(r"[0-9a-f]{32}")

#: what keyboards and shells add around a text; no other character is taken from it
_BLANKS = " \t\r\n"
_BLANK_LINES = re.compile(r"\A(?:[ \t\r]*\n)+")


_canonical = json.JSONEncoder(
    sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":")
).encode


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Where a question stands in the cache."""

    scope: str
    entry: str
    question: str


def normalise(text: str) -> str:
    """The wording that counts: the text itself, without the blanks around it.

    Nothing else is taken for the same: two texts that look alike can ask for different things, and whether
    they do is for the guards and the verifier to say. The first of several lines keeps its indentation.
    """
    text = text.rstrip(_BLANKS)
    lines = _BLANK_LINES.sub("", text)
    return lines if "\n" in lines else text.lstrip(_BLANKS)


def scope_id(parts: Mapping[str, object]) -> str:
    """A hash of the named parts; they must be JSON values. The order of the names does not matter."""
    return _digest(_canonical(parts))


def cache_key(scope: str, question: str) -> CacheKey:
    """The key of `question` in `scope`."""
    normalised = normalise(question)
    return CacheKey(scope=scope, entry=_digest(f"{scope}\n{normalised}"), question=normalised)


def pair_id(scope: str, question: str, other: str) -> str:
    """Names a pair of questions in `scope`, whichever comes first."""
    return scope_id({"scope": scope, "questions": sorted((normalise(question), normalise(other)))})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_ID_DIGITS]
