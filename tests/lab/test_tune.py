"""Which threshold to set for a wanted error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.lab.evaluate import Frontier
from llmhost.lab.tune import ErrorLimits, tune

#: 99 right ones and a wrong one from 0.7 on, and many wrong ones below
GOOD = [(0.95, True)] * 99 + [(0.7, False)] + [(0.6, False)] * 50


def test_the_lowest_threshold_that_does_it_is_suggested() -> None:
    tuning = tune(Frontier(GOOD), ErrorLimits(error=0.01))
    assert tuning.suggested is not None
    assert (tuning.suggested.confidence, tuning.suggested.error) == (0.601, 0.01)
    assert (tuning.suggested.hits, tuning.suggested.wrong) == (99, 1)


def test_a_false_accept_may_be_limited_too() -> None:
    error, both = (
        tune(Frontier(GOOD), ErrorLimits(error=0.5, false_accept=limit)).suggested for limit in (None, 0.0)
    )
    assert error is not None
    assert both is not None
    assert (error.confidence, both.confidence) == (0.5, 0.701)


@pytest.mark.parametrize("pairs", [[], [(None, True)], [(0.99, False)] * 3])
def test_where_no_threshold_does_it_none_is_suggested(pairs: list[tuple[float | None, bool]]) -> None:
    tuning = tune(Frontier(pairs), ErrorLimits(error=0.01))
    assert (tuning.suggested, tuning.supported) == (None, False)
    assert tuning.rows


@pytest.mark.parametrize(("count", "supported"), [(200, False), (400, True)])
def test_few_pairs_support_no_claim(count: int, supported: bool) -> None:
    tuning = tune(Frontier([(0.99, True)] * count + [(0.2, False)]), ErrorLimits(error=0.01))
    assert tuning.supported is supported
    assert tuning.enough == 368


def test_each_threshold_is_shown_with_what_it_costs_and_the_present_one_among_them() -> None:
    tuning = tune(Frontier(GOOD), ErrorLimits(error=0.01), present=0.875)
    thresholds = [row.confidence for row in tuning.rows]
    assert thresholds == sorted(thresholds)
    assert {0.875, 0.601, 0.9} <= set(thresholds)
    first = tuning.rows[0]
    assert (first.hits, first.wrong, first.recall) == (99, 51, 1.0)
    assert first.error_interval is not None
    assert first.error_interval.low < 51 / 150 < first.error_interval.high
    assert tuning.rows[-1].error_interval is None


outcomes = st.lists(
    st.tuples(st.none() | st.integers(400, 1000).map(lambda threshold: threshold / 1000), st.booleans()),
    max_size=40,
)


@given(outcomes, st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_what_is_suggested_does_what_is_wanted_and_can_be_set(
    pairs: list[tuple[float | None, bool]], error: float
) -> None:
    tuning = tune(Frontier(pairs), ErrorLimits(error=error))
    if tuning.suggested is not None:
        assert 0.5 <= tuning.suggested.confidence < 1
        assert tuning.suggested.wrong <= error * (tuning.suggested.wrong + tuning.suggested.hits) + 1e-9
