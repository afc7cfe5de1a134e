"""The paper's rule, as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.decision import threshold_policy
from llmhost.cache.models import Answer, Candidate

ANSWER = Answer("text", "model", 1.0, 1, 1, "stop", 1.0, 0.0)


def candidate(similarity: float, entry: str = "e") -> Candidate:
    return Candidate(entry, "question", similarity, ANSWER)


@pytest.mark.parametrize(
    ("similarities", "served"),
    [
        ([], None),
        ([0.79], None),
        ([0.8], 0.8),
        ([0.5, 0.9, 0.85], 0.9),
        ([-1.0], None),
    ],
)
def test_the_most_similar_question_is_served_from_the_threshold_on(
    similarities: list[float], served: float | None
) -> None:
    decision = threshold_policy(0.8)("q", [candidate(similarity) for similarity in similarities], None)
    assert (decision.candidate.similarity if decision.candidate else None) == served


def test_a_refusal_says_why() -> None:
    assert threshold_policy(0.8)("q", [candidate(0.7)], None).reason == "similarity 0.700 is below 0.8"


@pytest.mark.parametrize(("own", "served"), [(None, False), (0.6, True), (0.71, False)])
def test_a_question_may_bring_its_own_threshold(own: float | None, served: bool) -> None:
    decision = threshold_policy(0.8)("q", [candidate(0.7)], own)
    assert (decision.candidate is not None) == served


def test_what_is_no_number_is_never_served() -> None:
    assert threshold_policy(float("nan"))("q", [candidate(1.0)], None).candidate is None


@given(st.lists(st.floats(-1, 1), max_size=8), st.floats(-1, 1))
def test_nothing_below_the_threshold_is_ever_served(similarities: list[float], threshold: float) -> None:
    served = threshold_policy(threshold)("q", [candidate(s) for s in similarities], None).candidate
    assert (served is None) == (max(similarities, default=-2) < threshold)
    assert served is None or served.similarity >= threshold
