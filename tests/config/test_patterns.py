"""Regular expressions of the operator's own: what would be slow is refused when the configuration is read."""

from __future__ import annotations

import re
import time

import pytest

from llmhost.config.models import CacheConfig
from llmhost.config.patterns import check_patterns


@pytest.mark.parametrize(
    "pattern",
    [
        r"\bcanteen\b",
        "refund.*invoice",
        "^(?:what|which) floor",
        r"order \d{4,8}",
        "colou?r",
        r"project [a-z]{1,20}\b",
        "(?:mon|tues|wednes)day",
        "(ab){3}",
        "the .{0,40} of .{0,40} room",
    ],
)
def test_an_ordinary_pattern_passes(pattern: str) -> None:
    check_patterns([pattern])


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*b",
        "(a|ab)*c",
        "(?:a?b?)*c",
        "(x*)*y",
        ".*.*.*=",
        r"\w+\s*\w+\s*\w+$",
        "(?:a|b|ab|ba)" * 15,
        "a?" * 60 + "b",
    ],
)
def test_a_pattern_that_might_take_long_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        check_patterns([pattern])


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(", "not a regular expression"),
        ("x*", "fits every question"),
        ("", "fits every question"),
        (r"(a)\1", "looks ahead, behind, or back"),
        ("a(?=b)", "looks ahead, behind, or back"),
        ("a" * 201, "201 characters; the limit is 200"),
    ],
)
def test_what_cannot_be_a_pattern_is_refused_with_the_reason(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        CacheConfig(deny=(pattern,))


def test_patterns_that_pass_alone_are_refused_where_they_might_take_long_together() -> None:
    many = tuple(f".{{0,66}}.{{0,66}}x{number}" for number in range(10))
    for pattern in many:
        check_patterns([pattern])
    with pytest.raises(
        ValueError, match=re.escape("the 10 patterns of `cache.deny` and `cache.allow` might take")
    ):
        CacheConfig(deny=many[:5], allow=many[5:])


def test_fifty_ordinary_patterns_pass_together() -> None:
    words = tuple(rf"\bproject {name}[a-z]{{1,20}}\b" for name in map(str, range(50)))
    assert CacheConfig(deny=words, allow=words[:20]).deny == words


@pytest.mark.parametrize("pattern", ["a.*b", r"\bfoo.*bar$", "x.{0,60}y.{0,60}z"])
def test_the_slowest_pattern_that_passes_is_quick(pattern: str) -> None:
    check_patterns([pattern])
    compiled = re.compile(pattern, re.IGNORECASE)
    began = time.process_time()
    for text in ("a" * 2000, "foo bar" * 285, "xy" * 1000):
        compiled.search(text)
    assert time.process_time() - began < 0.5
