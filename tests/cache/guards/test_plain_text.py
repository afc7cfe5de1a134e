"""The guards of text that cannot be judged by reading it."""

from __future__ import annotations

import pytest
from doubles.guard_verdict import verdict

from llmhost.cache.guards.plain_text import guard, length_guard
from llmhost.cache.guards.wording import MOST_WORDS, read


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is p\u0430ypal safe?", "Is paypal safe?"),
        ("Is pay\u200bpal safe?", "Is paypal safe?"),
        ("Is it \u202esafe?", "Is it safe?"),
        ("Is \u0440\u0430\u0443 safe for me?", "Is pay safe for me?"),
        ("Is \uff50\uff41\uff59 safe?", "Is pay safe?"),
        ("What is \uff58\u00b2?", "What is x\u00b2?"),
        ("Is pay\u00adpal safe?", "Is paypal safe?"),
        ("Is \u03bfpera safe?", "Is opera safe?"),
        ("bell\x07", "bell"),
        ("a\U000e0041b", "ab"),
    ],
)
def test_hidden_and_forged_characters_are_refused(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "refuses"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is na\u00efve caf\u00e9 talk \u201cfine\u201d?", "Is it \u2013 really?"),
        ("\u041a\u0430\u043a\u0430\u044f \u043f\u043e\u0433\u043e\u0434\u0430?", "\u0427\u0442\u043e?"),
        ("5 \u00b5m and 10 \u03bcm", "What is \u03b2-carotene?"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 family", "family"),
        ("\u0646\u0645\u06cc\u200c\u062f\u0627\u0646\u0645", "\u0646\u0645\u06cc"),
        ("Expand (x + 3)\u00b2", "A 5 m\u00b3 tank"),
        ("one\ntwo\tthree", "one two three"),
    ],
)
def test_plain_text_of_any_script_passes(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "silent"


def test_it_shows_which_word_is_forged() -> None:
    objection = guard(read("Is p\u0430ypal safe?"), read("Is paypal safe?"))
    assert objection is not None
    assert "letters of another alphabet" in objection.words


# Texts that are too long to be read whole.


LONG = "word " * MOST_WORDS


def test_a_text_that_goes_on_after_what_is_read_is_refused() -> None:
    assert verdict(length_guard, LONG + "and more", "word") == "refuses"


def test_one_long_word_is_as_long_as_many() -> None:
    assert verdict(length_guard, "w" * 100_000, "word") == "refuses"


def test_a_short_text_passes() -> None:
    assert verdict(length_guard, "What is a long text?", "What is a short text?") == "silent"
