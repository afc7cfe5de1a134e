"""The guard on the answer's side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.guards import answer_objection
from llmhost.cache.models import Answer, Candidate
from llmhost.cache.policy import Thresholds, VerifiedPolicy


def rows() -> Iterator[tuple[str, str, str, str]]:
    """What is expected, the question, the stored one and its answer, of each line of `answers.txt`."""
    expected = ""
    for line in (Path(__file__).parent / "answers.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            expected = line.strip("[]")
        elif line and not line.startswith("#"):
            question, stored, text = (part.strip() for part in f"{line} ".split(" | ", 2))
            yield expected, question, stored, text


@pytest.mark.parametrize(("expected", "question", "stored", "text"), list(rows()))
def test_the_guard_says_of_an_answer_what_it_must(
    expected: str, question: str, stored: str, text: str
) -> None:
    objection = answer_objection(question, stored, text)
    assert ("silent" if objection is None else "refuses") == expected


def test_it_says_what_the_answer_is_about() -> None:
    text = "Fill the kettle with water and vinegar, boil the kettle once, wait a while and rinse it twice."
    objection = answer_objection("How do I descale a toaster?", "How do I descale a kettle?", text)
    assert objection is not None
    assert objection.words == "the answer is about kettle, and says nothing of toaster"


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=200))
def test_any_texts_have_a_verdict(question: str, stored: str, text: str) -> None:
    objection = answer_objection(question, stored, text)
    assert objection is None or objection.words


@pytest.mark.parametrize("text", ["kettle " * 100_000, "a" * 500_000, "1 " * 200_000, "\u8a9e" * 200_000])
def test_a_huge_answer_does_not_take_long(text: str) -> None:
    answer_objection("How do I descale a toaster?", "How do I descale a kettle?", "warm up")
    began = time.process_time()
    answer_objection("How do I descale a toaster?", "How do I descale a kettle?", text)
    assert time.process_time() - began < 0.5


def test_the_policy_does_not_serve_an_answer_about_something_else() -> None:
    text = "Fill the kettle with water and vinegar, boil the kettle once, wait a while and rinse it twice."
    stored = Answer(text, "", 0.0, 0, 0, "stop", 0.0, 0.0)
    policy = VerifiedPolicy(lambda *_: (), lambda *_: 0.99, Thresholds(0.8, 0.8, None, 0.0))
    candidate = Candidate("e", "How do I descale a kettle?", 0.9, stored)
    refused = policy.decide("How do I descale a toaster?", [candidate])
    assert (refused.action, refused.verdicts[0].objections[0].guard) == ("miss", "answer")
    assert policy.decide("How can I descale a kettle?", [candidate]).action == "serve"
