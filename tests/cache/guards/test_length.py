"""The guard of length."""

from __future__ import annotations

from collections.abc import Callable

from llmhost.cache.guards.length import guard
from llmhost.cache.guards.wording import MOST_WORDS

LONG = "word " * MOST_WORDS


def test_a_text_that_goes_on_after_what_is_read_is_refused(verdict: Callable[..., str]) -> None:
    assert verdict(guard, LONG + "and more", "word") == "refuses"


def test_one_long_word_is_as_long_as_many(verdict: Callable[..., str]) -> None:
    assert verdict(guard, "w" * 100_000, "word") == "refuses"


def test_a_short_text_passes(verdict: Callable[..., str]) -> None:
    assert verdict(guard, "What is a long text?", "What is a short text?") == "silent"
