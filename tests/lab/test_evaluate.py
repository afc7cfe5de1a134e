"""What becomes of pairs, as the cache would have it where `b` is stored and `a` is asked, and the figures
from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from doubles.embedders import WordEmbedder
from doubles.scripted_verifier import DOUBT, REFUSAL, ScriptedGuards, ScriptedVerifier
from hypothesis import assume, given
from hypothesis import strategies as st

from llmhost.cache.calibration import UNCALIBRATED, Calibration
from llmhost.cache.models import Answer, CacheDecision, Candidate, Objection, Verdict
from llmhost.cache.policy import (
    CachePolicy,
    ThresholdPolicy,
    Thresholds,
    VerifiedPolicy,
    threshold_with_doubt,
)
from llmhost.config.models import CacheConfig
from llmhost.errors import ModelError
from llmhost.lab.evaluate import (
    MOST_POINTS,
    Evaluation,
    Frontier,
    PairOutcome,
    assess,
    cosine_frontier,
    evaluate,
    frontier,
    highest_threshold,
)
from llmhost.lab.pairs import Pair
from llmhost.wiring.questions import thresholds

THRESHOLDS = Thresholds(serve=0.9, doubted=threshold_with_doubt(0.9), judge=None, floor=0.8)


PAIR = Pair("red fish one", "red fish two", True)


def verified(
    probability: float,
    found: Sequence[Objection] = (),
    stored: str = "red fish two",
    judge: float | None = None,
) -> tuple[VerifiedPolicy, ScriptedVerifier]:
    verifier = ScriptedVerifier({stored: probability})
    thresholds = Thresholds(THRESHOLDS.serve, THRESHOLDS.doubted, judge, THRESHOLDS.floor)
    return VerifiedPolicy(ScriptedGuards({stored: found}), verifier.probability, thresholds), verifier


def outcome_of(
    a: str,
    b: str,
    policy: CachePolicy,
    calibration: Calibration = UNCALIBRATED,
) -> PairOutcome:
    (outcome,) = evaluate([Pair(a, b, True)], WordEmbedder(), policy, calibration)
    return outcome


@pytest.mark.parametrize(("threshold", "accepted"), [(0.66, True), (0.67, False)])
def test_a_threshold_is_compared_with_the_cosine(threshold: float, accepted: bool) -> None:
    outcome = outcome_of(PAIR.a, PAIR.b, ThresholdPolicy(threshold))
    assert (outcome.similarity, outcome.accepted) == (pytest.approx(2 / 3), accepted)
    assert (outcome.ms or 0) > 0


def test_what_lies_below_the_policys_floor_is_never_shown_to_it() -> None:
    policy, verifier = verified(1.0, stored="blue fish two")
    outcome = outcome_of("red fish one", "blue fish two", policy)
    assert (outcome.accepted, outcome.verdict, verifier.asked) == (False, None, [])


def test_the_same_wording_is_an_exact_hit_and_no_policy_is_asked() -> None:
    policy, verifier = verified(0.0)
    outcome = outcome_of(" red fish two ", "red fish two", policy)
    assert (outcome.accepted, outcome.exact, outcome.ms, verifier.asked) == (True, True, None, [])


@pytest.mark.parametrize("turned", [False, True])
def test_a_question_that_cannot_be_embedded_is_a_miss(turned: bool) -> None:
    long, short = "word " * 51, "word"
    a, b = (short, long) if turned else (long, short)
    outcome = outcome_of(a, b, ThresholdPolicy(-1))
    assert (outcome.accepted, outcome.unread, outcome.similarity) == (False, True, None)


def test_the_policy_sees_the_answer_that_a_pair_brings() -> None:
    seen: list[str] = []
    policy, _ = verified(0.99)
    looking = replace(policy, answers=lambda _one, _other, answer: seen.append(answer))
    list(evaluate([replace(PAIR, answer="a fish"), PAIR], WordEmbedder(), looking))
    assert seen == ["a fish", ""]


def test_what_is_left_to_the_judge_is_not_accepted() -> None:
    policy, _ = verified(0.6, judge=0.5)
    outcome = outcome_of(PAIR.a, PAIR.b, policy)
    assert (outcome.decision.action, outcome.accepted) == ("judge", False)


def test_each_question_is_embedded_once_and_every_pair_has_an_outcome() -> None:
    embedder = WordEmbedder()
    pairs = [Pair("one", "two", True), Pair("two", "three", False), Pair("one", "one", True)]
    found = list(evaluate(pairs, embedder, ThresholdPolicy(0.8)))
    assert [outcome.pair for outcome in found] == pairs
    assert embedder.calls == 3


def test_a_model_that_fails_ends_it() -> None:
    def fail(question: str, stored: str) -> float:
        raise ModelError(f"{question}, {stored}")

    with pytest.raises(ModelError):
        outcome_of(PAIR.a, PAIR.b, VerifiedPolicy(ScriptedGuards(), fail, THRESHOLDS))


# What each threshold would cost, beside what the policy itself does at that threshold.


scored = st.lists(
    st.tuples(st.none() | st.just(math.inf) | st.sampled_from([0.1, 0.5, 0.5001, 0.9, 0.99]), st.booleans()),
    max_size=30,
)


def at_threshold(threshold: float, probability: float, found: Sequence[Objection] = ()) -> CachePolicy:
    """The product's own policy, with `cache.confidence` at `bar`."""
    verifier = ScriptedVerifier({PAIR.b: probability})
    config = CacheConfig(confidence=threshold)
    return VerifiedPolicy(ScriptedGuards({PAIR.b: found}), verifier.probability, thresholds(config))


@given(
    raw=st.floats(0.001, 0.999),
    threshold=st.floats(0.5, 0.99),
    doubted=st.booleans(),
    shift=st.sampled_from([0.0, -0.7, 0.4, 2.0]),
    raised=st.integers(0, 3),
)
def test_a_pair_is_served_up_to_its_highest_threshold_and_no_further(
    raw: float, threshold: float, doubted: bool, shift: float, raised: int
) -> None:
    calibration, found = Calibration(shift, raised), [DOUBT] if doubted else []
    highest = highest_threshold(
        outcome_of(PAIR.a, PAIR.b, at_threshold(0.9, raw, found), calibration), calibration
    )
    assert highest is not None
    assume(abs(highest - threshold) > 1e-9)
    assert outcome_of(PAIR.a, PAIR.b, at_threshold(threshold, raw, found), calibration).accepted is (
        threshold < highest
    )


@given(threshold=st.floats(-1, 1))
def test_over_a_threshold_the_cosine_is_the_highest_threshold(threshold: float) -> None:
    highest = highest_threshold(outcome_of(PAIR.a, PAIR.b, ThresholdPolicy(0.8)))
    assert highest == pytest.approx(2 / 3)
    assume(abs(threshold - 2 / 3) > 1e-6)
    assert outcome_of(PAIR.a, PAIR.b, ThresholdPolicy(threshold)).accepted is (threshold < 2 / 3)


@pytest.mark.parametrize(("raw", "found"), [(0.99, [REFUSAL]), (0.99, [DOUBT, REFUSAL]), (0.0, [])])
def test_what_a_guard_refuses_or_the_verifier_cannot_read_is_served_at_no_threshold(
    raw: float, found: list[Objection]
) -> None:
    assert highest_threshold(outcome_of(PAIR.a, PAIR.b, at_threshold(0.9, raw, found))) is None


def test_the_same_wording_is_served_at_every_threshold_and_by_every_rule() -> None:
    outcome = outcome_of("red fish", "red fish ", at_threshold(0.9, 0.0))
    assert highest_threshold(outcome) == math.inf
    assert cosine_frontier([outcome]).at(1.0).accepted_same == 1


def test_similarity_alone_knows_no_guards() -> None:
    outcome = outcome_of(PAIR.a, PAIR.b, at_threshold(0.9, 0.99, [REFUSAL]))
    assert frontier([outcome]).at(0.5).accepted_same == 0
    assert cosine_frontier([outcome]).at(0.5).accepted_same == 1


@given(scored, st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0]))
def test_a_point_counts_what_lies_at_its_threshold_or_above(
    pairs: list[tuple[float | None, bool]], threshold: float
) -> None:
    point = Frontier(pairs).at(threshold)
    accepted = [same for highest, same in pairs if highest is not None and highest >= threshold]
    right, same = sum(accepted), sum(same for _, same in pairs)
    assert (point.accepted_same, point.accepted_different) == (right, len(accepted) - right)
    assert point.precision == (right / len(accepted) if accepted else None)
    assert point.recall == (right / same if same else None)
    different = len(pairs) - same
    assert point.false_accept_rate == ((len(accepted) - right) / different if different else None)


@given(scored, st.sampled_from([0.5, 0.8, 1.0]))
def test_the_best_recall_is_that_of_the_best_threshold(
    pairs: list[tuple[float | None, bool]], precision: float
) -> None:
    curve = Frontier(pairs)
    points = [curve.at(threshold) for threshold, _ in pairs if threshold is not None]
    enough = [p.recall for p in points if p.recall is not None and (p.precision or 0) >= precision]
    assert curve.best_recall(precision) == max(enough, default=None)


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 101, 1000])
def test_a_frontier_has_at_most_100_points_from_the_lowest_threshold_to_the_highest(count: int) -> None:
    curve = Frontier([(number / 1000, number % 3 > 0) for number in range(count)])
    points = curve.points()
    assert len(points) <= MOST_POINTS
    assert [point.bar for point in points] == sorted({point.bar for point in points})
    assert Frontier([(math.inf, True)] * count).points() == []
    if count:
        assert (points[0].bar, points[-1].bar) == (0.0, (count - 1) / 1000)


# Figures from what became of pairs.


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
