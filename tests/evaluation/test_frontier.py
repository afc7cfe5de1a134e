"""What each bar would cost, held against what the policy itself does at that bar."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from doubles.scripted_verifier import DOUBT, REFUSAL, ScriptedGuards, ScriptedVerifier
from doubles.word_embedder import WordEmbedder
from hypothesis import assume, given
from hypothesis import strategies as st

from llmhost.cache.calibration import UNCALIBRATED, Calibration
from llmhost.cache.models import Objection
from llmhost.cache.policy import CachePolicy, ThresholdPolicy, VerifiedPolicy
from llmhost.config.models import CacheConfig
from llmhost.lab.evaluate import (
    MOST_POINTS,
    Frontier,
    PairOutcome,
    cosine_frontier,
    evaluate,
    frontier,
    highest_threshold,
)
from llmhost.lab.pairs import Pair
from llmhost.wiring.questions import thresholds

PAIR = Pair("red fish one", "red fish two", True)
SAME = Pair("red fish", "red  fish", True)

scored = st.lists(
    st.tuples(st.none() | st.just(math.inf) | st.sampled_from([0.1, 0.5, 0.5001, 0.9, 0.99]), st.booleans()),
    max_size=30,
)


def at_bar(bar: float, probability: float, found: Sequence[Objection] = ()) -> CachePolicy:
    """The product's own policy, with `cache.confidence` at `bar`."""
    verifier = ScriptedVerifier({PAIR.b: probability})
    config = CacheConfig(confidence=bar)
    return VerifiedPolicy(ScriptedGuards({PAIR.b: found}), verifier.probability, thresholds(config))


def outcome_of(
    policy: CachePolicy, calibration: Calibration = UNCALIBRATED, pair: Pair = PAIR
) -> PairOutcome:
    (outcome,) = evaluate([pair], WordEmbedder(), policy, calibration)
    return outcome


@given(
    raw=st.floats(0.001, 0.999),
    bar=st.floats(0.5, 0.99),
    doubted=st.booleans(),
    shift=st.sampled_from([0.0, -0.7, 0.4, 2.0]),
    raised=st.integers(0, 3),
)
def test_a_pair_is_served_up_to_its_highest_bar_and_no_further(
    raw: float, bar: float, doubted: bool, shift: float, raised: int
) -> None:
    calibration, found = Calibration(shift, raised), [DOUBT] if doubted else []
    highest = highest_threshold(outcome_of(at_bar(0.9, raw, found), calibration), calibration)
    assert highest is not None
    assume(abs(highest - bar) > 1e-9)
    assert outcome_of(at_bar(bar, raw, found), calibration).accepted is (bar < highest)


@given(threshold=st.floats(-1, 1))
def test_over_a_threshold_the_cosine_is_the_highest_bar(threshold: float) -> None:
    highest = highest_threshold(outcome_of(ThresholdPolicy(0.8)))
    assert highest == pytest.approx(2 / 3)
    assume(abs(threshold - 2 / 3) > 1e-6)
    assert outcome_of(ThresholdPolicy(threshold)).accepted is (threshold < 2 / 3)


@pytest.mark.parametrize(("raw", "found"), [(0.99, [REFUSAL]), (0.99, [DOUBT, REFUSAL]), (0.0, [])])
def test_what_a_guard_refuses_or_the_verifier_cannot_read_is_served_at_no_bar(
    raw: float, found: list[Objection]
) -> None:
    assert highest_threshold(outcome_of(at_bar(0.9, raw, found))) is None


def test_the_same_wording_is_served_at_every_bar_and_by_every_rule() -> None:
    outcome = outcome_of(at_bar(0.9, 0.0), pair=SAME)
    assert highest_threshold(outcome) == math.inf
    assert cosine_frontier([outcome]).at(1.0).accepted_same == 1


def test_similarity_alone_knows_no_guards() -> None:
    outcome = outcome_of(at_bar(0.9, 0.99, [REFUSAL]))
    assert frontier([outcome]).at(0.5).accepted_same == 0
    assert cosine_frontier([outcome]).at(0.5).accepted_same == 1


@given(scored, st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0]))
def test_a_point_counts_what_lies_at_its_bar_or_above(
    pairs: list[tuple[float | None, bool]], bar: float
) -> None:
    point = Frontier(pairs).at(bar)
    accepted = [same for highest, same in pairs if highest is not None and highest >= bar]
    right, same = sum(accepted), sum(same for _, same in pairs)
    assert (point.accepted_same, point.accepted_different) == (right, len(accepted) - right)
    assert point.precision == (right / len(accepted) if accepted else None)
    assert point.recall == (right / same if same else None)
    different = len(pairs) - same
    assert point.false_accept_rate == ((len(accepted) - right) / different if different else None)


@given(scored, st.sampled_from([0.5, 0.8, 1.0]))
def test_the_best_recall_is_that_of_the_best_bar(
    pairs: list[tuple[float | None, bool]], precision: float
) -> None:
    curve = Frontier(pairs)
    points = [curve.at(bar) for bar, _ in pairs if bar is not None]
    enough = [p.recall for p in points if p.recall is not None and (p.precision or 0) >= precision]
    assert curve.best_recall(precision) == max(enough, default=None)


@pytest.mark.parametrize("count", [0, 1, 2, 99, 100, 101, 1000])
def test_a_frontier_has_at_most_100_points_from_the_lowest_bar_to_the_highest(count: int) -> None:
    curve = Frontier([(number / 1000, number % 3 > 0) for number in range(count)])
    points = curve.points()
    assert len(points) <= MOST_POINTS
    assert [point.bar for point in points] == sorted({point.bar for point in points})
    if count:
        assert (points[0].bar, points[-1].bar) == (0.0, (count - 1) / 1000)


def test_a_frontier_of_exact_hits_alone_has_no_points() -> None:
    assert Frontier([(math.inf, True)]).points() == []
