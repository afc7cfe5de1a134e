"""Figures from what became of pairs."""

from __future__ import annotations

import pytest
from doubles.scripted_verifier import DOUBT, REFUSAL
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.models import Answer, CacheDecision, Candidate, Objection, Verdict
from llmhost.lab.evaluate import Evaluation, PairOutcome, assess
from llmhost.lab.pairs import Pair

NEAR = Candidate("e", "b", 0.8, Answer("", "", 0.0, 0, 0, "stop", 0.0, 0.0))


def outcome(
    same: bool,
    confidence: float | None,
    *found: Objection,
    kind: str | None = None,
    name: str = "a",
    ms: float = 1.0,
    judge: bool = False,
) -> PairOutcome:
    taken = confidence is not None and confidence >= 0.9
    verdict = Verdict(NEAR, taken, "because", confidence, confidence, found)
    action = "serve" if taken else "judge" if judge else "miss"
    decision = CacheDecision(action, NEAR if taken else None, confidence, "because", (verdict,))  # type: ignore[arg-type]
    return PairOutcome(Pair(name, "b", same, kind), decision, 0.8, ms)


def report(*outcomes: PairOutcome, show: int = 0) -> Evaluation:
    return assess("verified:0.9", outcomes, show=show)


def test_shares_are_of_what_they_say() -> None:
    made = report(
        *[outcome(True, 0.95)] * 3, outcome(True, 0.2), outcome(False, 0.95), *[outcome(False, 0.1)] * 4
    )
    assert (made.pairs, made.same, made.different) == (9, 4, 5)
    assert (made.accepted_same, made.accepted_different) == (3, 1)
    assert (made.precision, made.recall, made.false_accept_rate) == (0.75, 0.75, 0.2)
    assert made.precision_interval is not None
    assert made.precision_interval.low < 0.75 < made.precision_interval.high


def test_what_cannot_be_divided_is_not_known() -> None:
    made = report(outcome(False, 0.1))
    assert (made.precision, made.precision_interval, made.recall) == (None, None, None)
    assert made.best_recall_at_precision == {"0.80": None, "0.85": None, "0.90": None, "0.95": None}


def test_kinds_are_counted_apart_and_pairs_without_one_left_out() -> None:
    made = report(
        outcome(False, 0.95, kind="number"), outcome(True, 0.95, kind="number"), outcome(False, 0.95)
    )
    (counts,) = made.by_kind.values()
    assert (counts.pairs, counts.accepted, counts.same, counts.different) == (2, 2, 1, 1)
    assert (counts.accepted_same, counts.accepted_different) == (1, 1)


def test_guards_are_counted_by_what_they_did_to_whom() -> None:
    made = report(
        outcome(False, None, REFUSAL), outcome(True, None, REFUSAL, DOUBT), outcome(False, 0.5, DOUBT)
    )
    assert list(made.by_guard) == ["names", "numbers"]
    numbers, names = made.by_guard["numbers"], made.by_guard["names"]
    assert (numbers.refused_same, numbers.refused_different) == (1, 1)
    assert (names.refused_same, names.doubted_same, names.doubted_different) == (0, 1, 1)


def test_reliability_sets_what_was_said_beside_what_was_true() -> None:
    made = report(outcome(True, 0.91), outcome(False, 0.93), outcome(True, 1.0), outcome(True, None, REFUSAL))
    first, last = made.reliability
    assert (first.low, first.high, first.pairs, first.same_share) == (0.9, 0.95, 2, 0.5)
    assert first.mean_confidence == pytest.approx(0.92)
    assert (last.high, last.pairs) == (1.0, 1)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=40))
def test_every_confidence_falls_into_one_band(said: list[tuple[bool, float]]) -> None:
    made = report(*(outcome(same, confidence) for same, confidence in said))
    assert sum(band.pairs for band in made.reliability) == len(said)


def test_latency_has_its_middle_and_its_tail() -> None:
    made = report(*(outcome(True, 0.95, ms=float(number)) for number in range(100, 0, -1)))
    assert (made.latency_ms.p50, made.latency_ms.p99) == (50.0, 99.0)


def test_what_is_left_to_the_judge_is_counted() -> None:
    made = report(outcome(True, 0.6, judge=True), outcome(False, 0.6, judge=True), outcome(False, 0.1))
    assert (made.left_to_judge.same, made.left_to_judge.different) == (1, 1)


def test_the_surest_mistakes_come_first() -> None:
    mistakes = [
        outcome(True, None, REFUSAL, name="refused"),
        outcome(True, 0.7, name="nearly"),
        outcome(False, 0.92, name="sure"),
        outcome(True, 0.2, name="hardly"),
        outcome(False, 0.99, name="surest"),
    ]
    made = report(outcome(True, 0.95), *mistakes, show=9)
    assert [one.a for one in made.disagreements] == ["surest", "sure", "refused", "hardly", "nearly"]
    assert [one.a for one in report(*mistakes, show=1).disagreements] == ["surest"]
    assert report(*mistakes).disagreements == []
