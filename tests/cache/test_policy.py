"""What is served: the verified and the threshold policy, as tables and as laws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from doubles.scripted_verifier import DOUBT, REFUSAL, ScriptedGuards, ScriptedVerifier
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.calibration import UNCALIBRATED, Calibration
from llmhost.cache.models import Answer, CacheDecision, Candidate, Judgement, Objection
from llmhost.cache.policy import (
    ThresholdPolicy,
    Thresholds,
    VerifiedPolicy,
    judged,
    shifted,
    threshold_with_doubt,
)

ANSWER = Answer("text", "model", 1.0, 1, 1, "stop", 1.0, 0.0)
THRESHOLDS = Thresholds(serve=0.9, doubted=threshold_with_doubt(0.9), judge=None, floor=0.8)
JUDGED = replace(THRESHOLDS, judge=0.5)
NO_NUMBERS = [float("nan"), float("inf"), -float("inf"), 1.5, -0.1]


def candidate(name: str = "a", similarity: float = 0.9) -> Candidate:
    return Candidate(name, name, similarity, ANSWER)


def decide(
    probabilities: dict[str, float],
    objections: dict[str, Sequence[Objection]] | None = None,
    *,
    thresholds: Thresholds = THRESHOLDS,
    threshold: float | None = None,
    calibration: Calibration = UNCALIBRATED,
) -> CacheDecision:
    """On candidates of these names, most similar first, with the verifier's probabilities."""
    policy = VerifiedPolicy(
        ScriptedGuards(objections or {}), ScriptedVerifier(probabilities).probability, thresholds
    )
    found = [candidate(name, 0.95 - 0.01 * number) for number, name in enumerate(probabilities)]
    return policy.decide("q", found, threshold, calibration)


def policy_of(verifier: ScriptedVerifier, **refused: Sequence[Objection]) -> VerifiedPolicy:
    return VerifiedPolicy(ScriptedGuards(refused), verifier.probability, THRESHOLDS)


def served(decision: CacheDecision) -> str | None:
    return decision.candidate.entry if decision.action == "serve" and decision.candidate else None


# The verified policy


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ({}, None),
        ({"a": 0.899}, None),
        ({"a": 0.9}, "a"),
        ({"a": 0.3, "b": 0.95}, "b"),
        ({"a": 0.91, "b": 0.99}, "a"),
    ],
    ids=["none", "below the bar", "at the bar", "a less similar one", "the most similar of two"],
)
def test_the_first_candidate_over_the_threshold_is_served(
    probabilities: dict[str, float], expected: str | None
) -> None:
    assert served(decide(probabilities)) == expected


def test_a_guard_refuses_before_the_verifier_is_asked() -> None:
    verifier = ScriptedVerifier(others=1.0)
    decision = policy_of(verifier, a=[REFUSAL]).decide("q", [candidate("a")])
    assert (decision.action, verifier.asked) == ("miss", [])
    assert decision.verdicts[0].objections == (REFUSAL,)
    assert served(decide({"a": 0.99, "b": 0.95}, {"a": [DOUBT, REFUSAL]})) == "b"


def test_nothing_is_verified_after_one_was_taken() -> None:
    verifier = ScriptedVerifier(others=0.99)
    policy_of(verifier).decide("q", [candidate("b", 0.7), candidate("a", 0.8)])
    assert verifier.asked == ["a"]


def test_no_more_than_three_candidates_are_verified() -> None:
    verifier = ScriptedVerifier({"d": 0.99})
    found = [candidate(name, 0.9 - 0.01 * i) for i, name in enumerate("abcdef")]
    decision = policy_of(verifier, b=[REFUSAL]).decide("q", found)
    assert (served(decision), verifier.asked) == ("d", ["a", "c", "d"])
    decision = decide({"a": 0.1, "b": 0.1, "c": 0.1, "d": 0.99})
    assert decision.action == "miss"
    assert decision.verdicts[3].words == "the verifier read 3 more similar ones"


@pytest.mark.parametrize("similarity", [0.499, -1.0, float("nan")])
def test_an_unrelated_candidate_is_not_verified(similarity: float) -> None:
    verifier = ScriptedVerifier(others=1.0)
    assert policy_of(verifier).decide("q", [candidate("a", similarity)], -1.0).action == "miss"
    assert verifier.asked == []


@pytest.mark.parametrize(("raw", "expected"), [(0.93, None), (0.94, "a")])
def test_a_doubt_asks_for_more(raw: float, expected: str | None) -> None:
    assert threshold_with_doubt(0.9) == pytest.approx(0.937, abs=0.001)
    assert served(decide({"a": raw}, {"a": [DOUBT]})) == expected


@pytest.mark.parametrize(
    ("raw", "calibration", "expected"),
    [
        (0.87, Calibration(), None),
        (0.87, Calibration(shift=0.5), "a"),
        (0.92, Calibration(shift=-0.5), None),
        (0.92, Calibration(raised=1), None),
        (0.94, Calibration(raised=1), "a"),
        (0.94, Calibration(raised=2), None),
        (0.94, Calibration(shift=0.5, raised=2), "a"),
        (0.9999999999, Calibration(raised=30), None),
    ],
)
def test_what_labels_have_taught_moves_confidence_and_threshold(
    raw: float, calibration: Calibration, expected: str | None
) -> None:
    assert served(decide({"a": raw}, calibration=calibration)) == expected


def test_the_confidence_is_the_corrected_one_and_the_raw_one_stays_known() -> None:
    (verdict,) = decide({"a": 0.9}, calibration=Calibration(shift=1.0)).verdicts
    assert (verdict.confidence, verdict.raw) == (pytest.approx(0.961, abs=0.001), 0.9)


@pytest.mark.parametrize(("raw", "expected"), [(0.79, None), (0.8, "a")])
def test_no_label_lets_the_verifiers_own_probability_fall_below_the_floor(
    raw: float, expected: str | None
) -> None:
    assert served(decide({"a": raw}, calibration=Calibration(shift=100.0))) == expected


@pytest.mark.parametrize(
    ("threshold", "expected"), [(None, None), (0.6, "a"), (0.71, None), (float("nan"), None)]
)
def test_a_question_may_bring_its_own_confidence(threshold: float | None, expected: str | None) -> None:
    assert served(decide({"a": 0.7}, threshold=threshold)) == expected
    assert served(decide({"a": 0.93}, {"a": [DOUBT]}, threshold=0.5)) is None


@pytest.mark.parametrize("probability", NO_NUMBERS)
@pytest.mark.parametrize("threshold", [None, -1.0])
def test_what_is_no_probability_is_never_served(probability: float, threshold: float | None) -> None:
    decision = decide({"a": probability}, thresholds=JUDGED, threshold=threshold)
    assert (decision.action, decision.confidence) == ("miss", 0.0)


def test_what_is_no_probability_does_not_hide_another_candidate() -> None:
    assert decide({"a": float("nan"), "b": 0.6}, thresholds=JUDGED).candidate == candidate("b", 0.94)


@pytest.mark.parametrize("shift", [float("nan"), -1e6])
def test_what_labels_cannot_have_taught_serves_nothing(shift: float) -> None:
    assert served(decide({"a": 0.99}, calibration=Calibration(shift=shift))) is None


@pytest.mark.parametrize(
    ("probabilities", "asked_about"),
    [({"a": 0.49}, None), ({"a": 0.5}, "a"), ({"a": 0.6, "b": 0.8}, "b"), ({"a": 0.6, "b": 0.95}, None)],
    ids=["below the zone", "in it", "the surest of two", "one is served"],
)
def test_the_judge_is_asked_about_the_surest_in_the_grey_zone(
    probabilities: dict[str, float], asked_about: str | None
) -> None:
    decision = decide(probabilities, thresholds=JUDGED)
    asked = decision.candidate.entry if decision.action == "judge" and decision.candidate else None
    assert asked == asked_about


def test_the_judge_is_asked_about_what_a_guard_doubts_and_not_about_what_it_refuses() -> None:
    assert decide({"a": 0.93}, {"a": [DOUBT]}, thresholds=JUDGED).action == "judge"
    assert decide({"a": 0.8}, {"a": [REFUSAL]}, thresholds=JUDGED).action == "miss"


@pytest.mark.parametrize(
    ("same", "action", "taken"), [(True, "serve", True), (False, "miss", False), (None, "miss", False)]
)
def test_only_a_clear_yes_of_the_judge_is_served(same: bool | None, action: str, taken: bool) -> None:
    before = decide({"a": 0.4, "b": 0.7}, thresholds=JUDGED)
    after = judged(before, Judgement(same))
    assert (after.action, after.candidate, after.confidence) == (
        action,
        before.candidate if taken else None,
        0.7,
    )
    assert [verdict.taken for verdict in after.verdicts] == [False, taken]


@pytest.mark.parametrize(
    ("decision", "reason"),
    [
        (decide({}), "no similar question is stored"),
        (decide({"a": 0.95}), "confidence 0.950 ≥ 0.900"),
        (decide({"a": 0.4, "b": 0.7}), "confidence 0.700 < 0.900"),
        (decide({"a": 0.9}, {"a": [REFUSAL]}), "numbers: one says 5, the other 6"),
        (
            decide({"a": 0.93}, {"a": [DOUBT]}),
            "confidence 0.930 < 0.937; names doubts: one speaks of Redis",
        ),
        (
            judged(decide({"a": 0.7}, thresholds=JUDGED), Judgement(True)),
            "confidence 0.700 < 0.900; the judge says yes",
        ),
        (
            judged(decide({"a": 0.7}, thresholds=JUDGED), Judgement(False)),
            "confidence 0.700 < 0.900; the judge says no",
        ),
        (
            judged(decide({"a": 0.7}, thresholds=JUDGED), Judgement(None)),
            "confidence 0.700 < 0.900; the judge did not answer",
        ),
    ],
)
def test_the_reason_is_in_words(decision: CacheDecision, reason: str) -> None:
    assert decision.reason == reason


def test_every_candidate_is_explained_most_similar_first() -> None:
    decision = decide({"a": 0.3, "b": 0.95, "c": 0.9}, {"c": [REFUSAL]})
    assert [(verdict.candidate.entry, verdict.taken, verdict.words) for verdict in decision.verdicts] == [
        ("a", False, "confidence 0.300 < 0.900"),
        ("b", True, "confidence 0.950 ≥ 0.900"),
        ("c", False, "a more similar one was taken"),
    ]


# Its laws

_FOUND = st.lists(
    st.tuples(
        st.floats(0.5, 1) | st.sampled_from([0.7, 0.8]),  # some are equally similar
        st.floats(0, 1) | st.sampled_from(NO_NUMBERS),
        st.sampled_from([(), (DOUBT,), (REFUSAL,), (DOUBT, REFUSAL)]),
    ),
    max_size=6,
)
_CALIBRATION = st.builds(Calibration, shift=st.floats(-2, 2), raised=st.integers(0, 4))
_OWN = st.none() | st.floats(0, 1)
_Found = list[tuple[float, float, tuple[Objection, ...]]]


def decide_on(
    found: _Found, threshold: float | None, calibration: Calibration, order: Sequence[int] = ()
) -> CacheDecision:
    names = [f"e{number}" for number in range(len(found))]
    candidates = [candidate(name, one[0]) for name, one in zip(names, found, strict=True)]
    policy = VerifiedPolicy(
        ScriptedGuards({name: one[2] for name, one in zip(names, found, strict=True)}),
        ScriptedVerifier({name: one[1] for name, one in zip(names, found, strict=True)}).probability,
        JUDGED,
    )
    return policy.decide("q", [candidates[place] for place in order] or candidates, threshold, calibration)


@given(_FOUND, st.floats(0, 1), st.floats(0, 1), _CALIBRATION)
def test_a_higher_threshold_never_serves_more(
    found: _Found, one: float, other: float, calibration: Calibration
) -> None:
    low, high = sorted((one, other))
    if decide_on(found, high, calibration).action == "serve":
        assert decide_on(found, low, calibration).action == "serve"


@given(_FOUND, _OWN, _CALIBRATION)
def test_raising_the_threshold_never_serves_more(
    found: _Found, threshold: float | None, calibration: Calibration
) -> None:
    if decide_on(found, threshold, replace(calibration, raised=calibration.raised + 1)).action == "serve":
        assert decide_on(found, threshold, calibration).action == "serve"


@given(_FOUND, _OWN, _CALIBRATION)
def test_neither_what_a_guard_refuses_nor_what_is_no_probability_is_ever_served(
    found: _Found, threshold: float | None, calibration: Calibration
) -> None:
    decision = decide_on(found, threshold, calibration)
    if decision.candidate is not None:
        _, raw, objections = found[int(decision.candidate.entry[1:])]
        assert not any(objection.refuses for objection in objections)
        assert 0 < raw <= 1


@given(_FOUND, _CALIBRATION)
def test_nothing_below_the_floor_is_ever_served(found: _Found, calibration: Calibration) -> None:
    decision = decide_on(found, None, calibration)
    if decision.action == "serve" and decision.candidate is not None:
        assert found[int(decision.candidate.entry[1:])][1] >= THRESHOLDS.floor


@given(st.data(), _FOUND, _OWN, _CALIBRATION)
def test_the_order_in_which_candidates_are_given_does_not_matter(
    data: st.DataObject, found: _Found, threshold: float | None, calibration: Calibration
) -> None:
    order = data.draw(st.permutations(range(len(found))))
    assert decide_on(found, threshold, calibration, order) == decide_on(found, threshold, calibration)


@given(st.floats(0, 1), st.floats(-1e9, 1e9))
def test_a_shifted_probability_is_one(probability: float, by: float) -> None:
    after = shifted(probability, by)
    assert 0 <= after <= 1
    assert (after >= probability if by >= 0 else after <= probability) or math.isclose(after, probability)


# The threshold policy


@pytest.mark.parametrize(
    ("similarities", "expected"),
    [([], None), ([0.79], None), ([0.8], 0.8), ([0.5, 0.9, 0.85], 0.9), ([-1.0], None)],
)
def test_the_threshold_policy_serves_the_most_similar_from_the_threshold_on(
    similarities: list[float], expected: float | None
) -> None:
    decision = ThresholdPolicy(0.8).decide("q", [candidate(similarity=value) for value in similarities])
    assert (decision.candidate.similarity if decision.candidate else None) == expected
    assert decision.action == ("miss" if expected is None else "serve")


@pytest.mark.parametrize(
    ("similarity", "reason"),
    [(0.7, "similarity 0.700 < 0.8"), (0.9, "similarity 0.900 ≥ 0.8")],
)
def test_the_threshold_policy_gives_a_reason_and_no_confidence(similarity: float, reason: str) -> None:
    decision = ThresholdPolicy(0.8).decide("q", [candidate(similarity=similarity)])
    assert (decision.reason, decision.confidence, len(decision.verdicts)) == (reason, None, 1)


@pytest.mark.parametrize(
    ("own", "action"), [(None, "miss"), (0.6, "serve"), (0.71, "miss"), (float("nan"), "miss")]
)
def test_a_question_may_bring_its_own_threshold(own: float | None, action: str) -> None:
    assert ThresholdPolicy(0.8).decide("q", [candidate(similarity=0.7)], own).action == action


def test_what_labels_have_taught_does_not_move_the_threshold_policy() -> None:
    decision = ThresholdPolicy(0.8).decide("q", [candidate(similarity=0.8)], None, Calibration(-5.0, 9))
    assert decision.action == "serve"


@pytest.mark.parametrize(("own", "floor"), [(None, 0.4), (0.3, 0.3), (-1.0, -1.0), (0.9, 0.4)])
def test_the_threshold_policy_looks_at_all_that_its_threshold_could_serve(
    own: float | None, floor: float
) -> None:
    assert ThresholdPolicy(0.8).floor(own) == floor


@given(st.lists(st.floats(-1, 1), max_size=8), st.floats(-1, 1))
def test_nothing_below_the_threshold_is_ever_served(similarities: list[float], threshold: float) -> None:
    found = [candidate(similarity=value) for value in similarities]
    taken = ThresholdPolicy(threshold).decide("q", found).candidate
    assert (taken is None) == (max(similarities, default=-2) < threshold)
    assert taken is None or taken.similarity >= threshold
