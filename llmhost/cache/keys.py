"""What makes two questions the same one. Pure.

An entry is named by a hash of its scope and its normalised wording. The scope is a hash of everything
besides the wording that an answer depends on, so that answers never cross from one scope into another.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ENTRY_PATTERN", "CacheKey", "cache_key", "normalise", "pair_id", "scope_id"]

#: hex digits; 128 bits keep a collision out of reach for any number of entries that fits in a Redis
_ID_DIGITS = 32

ENTRY_PATTERN = re.compile(r"[0-9a-f]{32}")

# Inside these, a space can be what the question is about.
_VERBATIM = re.compile("[\"'`\n\r\x85\u2028\u2029\u2018\u2019\u201c\u201d\u00ab\u00bb]")
_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Where a question stands in the cache."""

    scope: str
    entry: str
    question: str


def normalise(text: str) -> str:
    """The wording that counts: same characters, same line ends, no outer or doubled spaces.

    Letter case and punctuation stay, they carry meaning. Inner spaces stay where the text has quotes,
    code or several lines: there they may be what the question is about.
    """
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").rstrip()
    if _VERBATIM.search(text.strip()):
        return _BLANK_LINES.sub("", text)
    return " ".join(text.split())


def scope_id(parts: Mapping[str, object]) -> str:
    """A hash of the named parts; they must be JSON values. The order of the names does not matter."""
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return _digest(canonical)


def cache_key(scope: str, question: str) -> CacheKey:
    """The key of `question` in `scope`."""
    normalised = normalise(question)
    return CacheKey(scope=scope, entry=_digest(f"{scope}\n{normalised}"), question=normalised)


def pair_id(scope: str, question: str, other: str) -> str:
    """Names a pair of questions in `scope`, whichever comes first."""
    return scope_id({"scope": scope, "questions": sorted((normalise(question), normalise(other)))})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_ID_DIGITS]
