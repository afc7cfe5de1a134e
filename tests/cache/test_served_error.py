"""The share of wrong hits and its interval."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.calibration import ServedError, Tally, served_error


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


def test_without_samples_nothing_is_known() -> None:
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
