"""What labels teach, and what audits prove."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.calibration import (
    BANDS,
    MOST_RAISED,
    Calibration,
    LabelSource,
    LabelsReport,
    ServedError,
    Tally,
    ThresholdChange,
    band_of,
    calibrate,
    served_error,
    threshold_change,
)

tallies = st.builds(Tally, st.integers(0, 500), st.integers(0, 500))
sources: st.SearchStrategy[LabelSource] = st.sampled_from(["audit", "judge", "forget"])
labels = st.dictionaries(sources, st.dictionaries(st.sampled_from(sorted(BANDS)), tallies))


def shift(bands: Mapping[LabelSource, Mapping[str, Tally]]) -> float:
    return calibrate(LabelsReport(bands)).shift


@pytest.mark.parametrize(
    ("raw", "band"),
    [
        (0.0, "0-0.5"),
        (0.49, "0-0.5"),
        (0.5, "0.5-0.6"),
        (0.9, "0.9-0.93"),
        (0.929, "0.9-0.93"),
        (0.9999, "0.99-1"),
        (1.0, "0.99-1"),
        (7.0, "0.99-1"),
        (-1.0, "0-0.5"),
        (math.nan, "0-0.5"),
    ],
)
def test_every_probability_has_a_band(raw: float, band: str) -> None:
    assert band_of(raw) == band


def test_no_labels_and_such_as_confirm_the_verifier_change_next_to_nothing() -> None:
    assert calibrate(LabelsReport()) == Calibration(0.0, 0)
    assert abs(shift({"audit": {"0.9-0.93": Tally(915, 85)}})) < 1e-5


def test_wrong_answers_make_the_verifier_count_for_less_and_right_ones_for_more() -> None:
    assert shift({"audit": {"0.9-0.93": Tally(80, 20)}}) < 0 < shift({"audit": {"0.9-0.93": Tally(100, 0)}})


def test_few_labels_teach_little_and_many_teach_the_truth() -> None:
    """A band of 0.915 where 0.85 are right: by 0.64 log-odds."""
    few, some, many = (shift({"audit": {"0.9-0.93": Tally(17 * n, 3 * n)}}) for n in (1, 10, 1000))
    assert 0 > few > -0.15 > some > many
    assert many == pytest.approx(math.log(0.85 / 0.15) - math.log(0.915 / 0.085), abs=0.01)


@pytest.mark.parametrize("source", ["judge", "forget"])
def test_what_is_no_sample_of_what_was_served_teaches_less(source: LabelSource) -> None:
    assert shift({"audit": {"0.9-0.93": Tally(0, 1)}}) < shift({source: {"0.9-0.93": Tally(0, 1)}}) < 0


@given(labels)
def test_the_shift_is_bounded(bands: Mapping[LabelSource, Mapping[str, Tally]]) -> None:
    assert -1 <= shift(bands) <= 1


@given(labels, sources, st.sampled_from(sorted(BANDS)))
def test_one_more_wrong_label_never_makes_the_verifier_count_for_more(
    bands: Mapping[LabelSource, Mapping[str, Tally]], source: LabelSource, band: str
) -> None:
    tally = bands.get(source, {}).get(band, Tally())
    more = {**bands, source: {**bands.get(source, {}), band: tally + Tally(wrong=1)}}
    assert shift(more) <= shift(bands)


@pytest.mark.parametrize(
    ("since", "raised"),
    [(Tally(), 0), (Tally(76, 4), 0), (Tally(0, 1), 0), (Tally(0, 100), MOST_RAISED), (Tally(10_000, 0), 0)],
    ids=["never audited", "could be chance", "one wrong alone", "highest step", "as shipped"],
)
def test_a_threshold_stays_without_proof_and_at_its_ends(since: Tally, raised: int) -> None:
    assert threshold_change(since, raised, 0.02) is None


def test_proven_errors_raise_the_threshold_by_one_step_and_say_why() -> None:
    words = "wrong answers in 4 of 40 audits: the threshold is raised to step 1"
    assert threshold_change(Tally(36, 4), 0, 0.02) == ThresholdChange(1, words)
    assert threshold_change(Tally(0, 2), 0, 0.02) is not None


def test_the_threshold_comes_down_only_when_audits_prove_that_it_may() -> None:
    words = "wrong answers in none of 183 audits: the threshold is lowered to step 1"
    assert threshold_change(Tally(182, 0), 2, 0.02) is None
    assert threshold_change(Tally(183, 0), 2, 0.02) == ThresholdChange(1, words)


@given(tallies, st.integers(0, MOST_RAISED), st.floats(0.001, 0.5))
def test_one_more_wrong_answer_never_lowers_the_threshold(
    since: Tally, raised: int, max_error: float
) -> None:
    def threshold(audited: Tally) -> int:
        change = threshold_change(audited, raised, max_error)
        return raised if change is None else change.raised

    assert raised - 1 <= threshold(since) <= threshold(since + Tally(wrong=1)) <= min(raised + 1, MOST_RAISED)


# The share of wrong hits and its interval.


@pytest.mark.parametrize(
    ("wrong", "samples", "low", "high"),
    [
        (0, 10, 0.0, 0.3084971),
        (1, 1, 0.025, 1.0),
        (1, 120, 0.0002110, 0.0455555),
        (5, 10, 0.1870860, 0.8129140),
        (10, 100, 0.0490047, 0.1762226),
        (20, 20, 0.8315665, 1.0),
    ],
)
def test_the_interval_is_the_exact_one(wrong: int, samples: int, low: float, high: float) -> None:
    error = served_error(Tally(samples - wrong, wrong))
    assert (error.low, error.high) == (pytest.approx(low, abs=1e-7), pytest.approx(high, abs=1e-7))
    assert (error.estimate, error.samples) == (wrong / samples, samples)
    assert served_error(Tally()) == ServedError(None, None, None, 0)


@given(st.integers(0, 300), st.integers(0, 300))
def test_one_more_wrong_answer_never_makes_the_error_look_smaller(right: int, wrong: int) -> None:
    before, after = served_error(Tally(right, wrong)), served_error(Tally(right, wrong + 1))
    assert (after.low or 0) >= (before.low or 0)
    assert (after.high or 0) >= (before.high or 0)


@pytest.mark.parametrize("truth", [0.005, 0.02, 0.1, 0.4])
def test_the_truth_lies_within_in_at_least_95_of_100_cases(truth: float) -> None:
    samples, within = 80, 0.0
    for wrong in range(samples + 1):
        error = served_error(Tally(samples - wrong, wrong))
        if (error.low or 0) <= truth <= (error.high or 0):
            within += math.comb(samples, wrong) * truth**wrong * (1 - truth) ** (samples - wrong)
    assert within >= 0.95


def test_a_count_as_large_as_one_can_be_takes_no_longer_than_a_moment() -> None:
    error = served_error(Tally(999_999_999, 20_000_000))
    assert error.low == pytest.approx(error.high, abs=1e-4)
