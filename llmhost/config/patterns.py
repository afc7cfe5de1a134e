"""Regular expressions of the operator's own, which must not keep a question waiting. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

__all__ = ["READ", "check_patterns", "check_time", "ways_to_fit"]

#: characters of a pattern
_LONGEST = 200
#: characters of a text that are searched at a time
READ = 2000
#: ways in which a pattern, and all patterns together, can fit from each character on: each is tried in the
#: worst case, some two hundred million of them in a second. `refund.*invoice` has 2,000.
_MOST_WAYS, _MOST_TOGETHER = 5000, 20_000

_FIX = "write {0,40} for * and +, and fewer of them"

# What `re` itself makes of a pattern. It has no public name, and is the same in all versions that we run on.
_parser: Any = import_module("re._parser")


def check_patterns(patterns: Sequence[str]) -> None:
    """Raises ValueError where one is no regular expression, or might take long."""
    for pattern in patterns:
        if len(pattern) > _LONGEST:
            raise ValueError(f"a pattern has {len(pattern)} characters; the limit is {_LONGEST}")
        try:
            if re.compile(pattern, re.IGNORECASE).search("") is not None:
                raise ValueError(f"the pattern {pattern!r} fits every question")
            ways = ways_to_fit(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        if ways > _MOST_WAYS:
            raise ValueError(
                f"the pattern {pattern!r} might take long, as it can fit in too many ways; {_FIX}"
            )


def check_time(patterns: Sequence[str]) -> None:
    """Raises ValueError where patterns that passed one by one might take long together."""
    if (ways := sum(map(ways_to_fit, patterns))) > _MOST_TOGETHER:
        slowest = max(patterns, key=ways_to_fit)
        raise ValueError(
            f"the {len(patterns)} patterns of `cache.deny` and `cache.allow` might take long together: "
            f"they can fit in {ways:,} ways of at most {_MOST_TOGETHER:,}, "
            f"{slowest!r} alone in {ways_to_fit(slowest):,}; {_FIX}"
        )


@lru_cache(200)
def ways_to_fit(pattern: str) -> int:
    """In how many ways a pattern can fit from a given place on. Raises ValueError where that is not known."""
    try:
        return _ways(_parser.parse(pattern, re.IGNORECASE))
    except ValueError as reason:
        raise ValueError(f"the pattern {pattern!r} {reason}") from None


def _ways(parts: Any) -> int:
    """In how many ways these parts of a pattern, one after the other, can fit from a given place on."""
    ways = 1
    for code, value in parts:
        ways *= _ways_of(str(code), value)
    return ways


def _ways_of(code: str, value: Any) -> int:
    if code in ("LITERAL", "NOT_LITERAL", "ANY", "IN", "AT"):
        return 1
    if code == "SUBPATTERN":
        return _ways(value[-1])
    if code == "BRANCH":
        return sum(_ways(option) for option in value[1])
    if code in ("MAX_REPEAT", "MIN_REPEAT"):
        least, most, body = value
        inner, times = _ways(body), min(int(most), READ) - min(int(least), READ) + 1
        if inner > 1 and int(most) > 1:
            raise ValueError("has a repeat, or a choice, within what it repeats; write it without")
        return inner + 1 if inner > 1 else times
    raise ValueError("looks ahead, behind, or back to a group; write it without")
