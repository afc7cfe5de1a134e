"""What is certainly no difference between two questions, and what only looks so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.models import Answer, Candidate
from llmhost.cache.policy import Thresholds, VerifiedPolicy
from llmhost.cache.rewording import undone

WORDS = (
    "what whats dont u how is the colour color recieve receive form from hi thanks please no wait i mean $5 "
    "5 five dollars % percent , ? . ! um wi fi wifi not Centre centre Monday to Friday weekdays 1,000 1.000 "
    "can't"
)
QUESTION = st.lists(st.sampled_from(WORDS.split()), max_size=10).map(" ".join) | st.text(max_size=40)


def pairs(section: str) -> Iterator[tuple[str, str]]:
    """The pairs of a section of `rewordings.txt`."""
    here = ""
    for line in (Path(__file__).parent / "rewordings.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            here = line.strip("[]")
        elif line and not line.startswith("#") and here == section:
            one, other = line.split(" | ")
            yield one, other


def bare(text: str) -> str:
    """Without what the verifier does not see either."""
    return text.casefold().replace("'", "").rstrip(" ?.")


@pytest.mark.parametrize(("one", "other"), list(pairs("same")))
def test_what_is_no_difference_is_undone(one: str, other: str) -> None:
    for question, stored in ((one, other), (other, one)):
        ours, theirs = undone(question, stored)
        assert bare(ours) == bare(theirs)


@pytest.mark.parametrize(("one", "other"), list(pairs("apart")))
def test_what_may_be_a_difference_is_left(one: str, other: str) -> None:
    for question, stored in ((one, other), (other, one)):
        ours, theirs = undone(question, stored)
        assert bare(ours) != bare(theirs)


def test_a_number_in_words_is_found_beside_a_letter_that_is_two_in_lower_case() -> None:
    ours, theirs = undone("Has \u0130zmir five gates?", "Has \u0130zmir 5 gates?")
    assert ours == theirs


@given(QUESTION, QUESTION)
def test_the_order_of_the_two_does_not_matter(one: str, other: str) -> None:
    ours, theirs = undone(one, other)
    assert (theirs, ours) == undone(other, one)


@given(QUESTION)
def test_a_text_beside_itself_stays_as_it_is(text: str) -> None:
    assert undone(text, text) == (text, text)


@pytest.mark.parametrize("hidden", ["\u200b", "\u00ad", "\x1f", "\u2028", "\n"])
def test_what_cannot_be_seen_is_left_to_the_guards(hidden: str) -> None:
    pair = (f"What is{hidden} the colour?", "What is the color?")
    assert undone(*pair) == pair


@pytest.mark.parametrize("letters", ["\u0130'm", "what'\u017f", "who\u017f"])
def test_letters_that_only_look_like_a_short_form_are_none(letters: str) -> None:
    assert undone(f"I dont know {letters} here", "What is here?")[0] == f"I don't know {letters} here"


@pytest.mark.parametrize("text", ["colour " * 80, "no wait " * 70, "u " * 290, "hi, " * 140, "a b " * 140])
def test_no_text_takes_long(text: str) -> None:
    undone("recieve", "receive")
    began = time.process_time()
    undone(text, text.replace("o", "e") + "x")
    assert time.process_time() - began < 0.5


def test_guards_and_verifier_see_what_is_left() -> None:
    seen: list[tuple[str, str]] = []

    def verify(one: str, other: str) -> float:
        seen.append((one, other))
        return 0.9

    policy = VerifiedPolicy(lambda *_: (), verify, Thresholds(0.8, 0.8, None, 0.0))
    stored = Candidate("e", "What color is it?", 0.9, Answer("", "", 0.0, 0, 0, "stop", 0.0, 0.0))
    decision = policy.decide("Hi, whats the colour of it", [stored])
    assert decision.action == "serve"
    assert seen == [("what is the color of it", "What color is it?")]
