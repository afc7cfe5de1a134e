"""The paper's rule, as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.decision import threshold_policy, with_threshold
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
    decision = threshold_policy(0.8)([candidate(similarity) for similarity in similarities])
    assert (decision.candidate.similarity if decision.candidate else None) == served


def test_a_refusal_says_why() -> None:
    assert threshold_policy(0.8)([candidate(0.7)]).reason == "similarity 0.700 is below 0.8"


def test_a_question_may_bring_its_own_threshold() -> None:
    policy = with_threshold(threshold_policy(0.8), 0.6)
    assert policy([candidate(0.7)]).candidate is not None


def test_without_one_the_policy_stays() -> None:
    policy = threshold_policy(0.8)
    assert with_threshold(policy, None) is policy


@given(st.lists(st.floats(-1, 1), max_size=8), st.floats(-1, 1))
def test_nothing_below_the_threshold_is_ever_served(similarities: list[float], threshold: float) -> None:
    served = threshold_policy(threshold)([candidate(s) for s in similarities]).candidate
    assert (served is None) == (max(similarities, default=-2) < threshold)
    assert served is None or served.similarity >= threshold
