"""Regular expressions of the operator's own, which must not keep a question waiting. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

__all__ = ["check_patterns"]

#: characters of a pattern
_LONGEST = 200
#: characters of a question that are read
_READ = 2000
#: ways in which the beginning of a pattern can fit a text of that length: each is tried in the worst case,
#: some ten million of them in a second. `refund.*invoice` has four million.
_MOST_WAYS = 10_000_000

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
            ways = _READ * _ways(_parser.parse(pattern, re.IGNORECASE))
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        if ways > _MOST_WAYS:
            raise ValueError(
                f"the pattern {pattern!r} might take long, as it can fit in too many ways; write "
                "{0,40} for * and +, and fewer of them"
            )


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
        inner, times = _ways(body), min(int(most), _READ) - min(int(least), _READ) + 1
        if inner > 1 and int(most) > 1:
            raise ValueError("a pattern has a repeat, or a choice, within what it repeats")
        return inner + 1 if inner > 1 else times
    raise ValueError("a pattern looks ahead, behind, or back to a group")
