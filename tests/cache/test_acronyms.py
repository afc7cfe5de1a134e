"""Acronyms are spelt out where the other wording says what they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.verifiers.wording import spelt_out


@pytest.mark.parametrize(
    ("text", "beside", "spelt"),
    [
        (
            "Explain ML in simple terms",
            "What is machine learning?",
            "Explain machine learning in simple terms",
        ),
        (
            "Who leads the USA?",
            "Who is the leader of the United States of America?",
            "Who leads the United States of America?",
        ),
        (
            "Where is my FAQ page?",
            "frequently asked questions",
            "Where is my frequently asked questions page?",
        ),
    ],
)
def test_an_acronym_becomes_the_words_that_stand_in_the_other_wording(
    text: str, beside: str, spelt: str
) -> None:
    assert spelt_out(text, beside) == (spelt, beside)
    assert spelt_out(beside, text) == (beside, spelt)


@pytest.mark.parametrize(
    ("text", "beside"),
    [
        ("What is AI?", "What is an apple inside?"),
        ("How do I install ML?", "How do I use my laptop?"),
        ("What is the NBA?", "What is the NFL?"),
        ("HOW ARE YOU", "how are you"),
        ("Explain ml", "What is machine learning?"),
    ],
)
def test_what_is_no_acronym_of_the_other_words_stays(text: str, beside: str) -> None:
    assert spelt_out(text, beside) == (text, beside)


@given(st.text(), st.text())
def test_any_two_texts_are_taken_in_either_order(one: str, other: str) -> None:
    first, second = spelt_out(one, other)
    assert spelt_out(other, one) == (second, first)
