"""How much is asked of a fleet."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doubles.scaling import NOW, TOKENS, even_questions, make_traffic
from hypothesis import given
from hypothesis import strategies as st

from llmhost.autoscale.demand import Demand, measure
from llmhost.engines.traffic import BUCKET, KEPT, Traffic

USUAL = 200.0


def demand(traffic: Traffic, now: float = NOW, watch: float = 300.0) -> Demand:
    return measure(traffic, now, watch, USUAL)


def counted(asked: dict[int, int], **more: object) -> Traffic:
    """Questions by how many seconds ago their bucket began; answers are not counted."""
    by_bucket = {int(NOW) - ago: count for ago, count in asked.items()}
    return make_traffic({}, asked=by_bucket, answered={}, tokens={}, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("after", [0, 4, 14])
def test_an_even_load_is_the_same_in_the_minute_on_average_and_at_its_highest(after: int) -> None:
    found = demand(make_traffic(80.0, NOW + after), NOW + after)
    assert (found.short, found.long, found.peak) == pytest.approx((80, 80, 80), rel=0.02)


def test_demand_is_questions_times_the_tokens_of_an_answer() -> None:
    traffic = counted(
        {15: 12},
    )
    assert demand(traffic).short == 12 * USUAL / 60
    answered = replace(traffic, answered={int(NOW) - 15: 4}, tokens={int(NOW) - 15: 120})
    assert demand(answered).short == 12 * 30 / 60


def test_questions_count_when_they_are_asked_not_when_they_are_answered() -> None:
    busy = make_traffic(80.0, answered={}, tokens={})
    assert demand(busy).short == 80 / TOKENS * USUAL


def test_the_minute_is_the_last_one_and_the_highest_is_the_highest_of_the_stretch() -> None:
    found = demand(counted({45: 3, 240: 9, 225: 9, 400: 900}))
    assert found.short == 3 * USUAL / 60
    assert found.peak == 18 * USUAL / 60


def test_a_minute_may_begin_in_any_bucket() -> None:
    for start in (60, 75, 90, 105, 240):
        burst = {start - offset: 5 for offset in (0, 15, 30, 45)}
        assert demand(counted(burst)).peak == pytest.approx(20 * USUAL / 60)


def test_what_was_asked_before_the_stretch_does_not_count() -> None:
    assert demand(counted({330: 900})).peak == 0
    assert demand(counted({330: 900}), watch=600.0).peak == 900 * USUAL / 60


def test_the_bucket_that_is_running_counts_for_as_long_as_it_runs() -> None:
    traffic = counted({-15: 6, 0: 0})
    assert demand(traffic, NOW + 25).short == pytest.approx(6 * USUAL / 70)


def test_an_average_answer_is_one_of_the_last_two_minutes() -> None:
    old, new = int(NOW) - 300, int(NOW) - 60
    traffic = counted(
        {15: 1},
    )
    traffic = replace(traffic, answered={old: 100, new: 50}, tokens={old: 100, new: 5000})
    assert demand(traffic).tokens_per_answer == 100


def test_where_there_were_few_answers_older_ones_help() -> None:
    old, new = int(NOW) - 3000, int(NOW) - 60
    traffic = replace(counted({}), answered={old: 30, new: 10}, tokens={old: 300, new: 500})
    assert demand(traffic).tokens_per_answer == 20


def test_without_answers_one_is_as_usual() -> None:
    assert demand(counted({15: 1})).tokens_per_answer == USUAL
    assert demand(replace(counted({}), answered={int(NOW): 3})).tokens_per_answer == USUAL


def test_answers_that_were_short_once_do_not_make_that_time_look_busier_now() -> None:
    """Each minute is judged by the answers that it had."""
    then, now = int(NOW) - 240, int(NOW) - 30
    traffic = replace(
        counted({240: 60, 30: 60}), answered={then: 60, now: 60}, tokens={then: 600, now: 60_000}
    )
    found = demand(traffic)
    assert (found.short, found.peak) == (1000, 1000)
    assert demand(replace(traffic, tokens={then: 60_000, now: 600})).peak == 1000


@pytest.mark.parametrize(("since", "watched"), [(NOW - 9000, 300), (NOW - 40, 40), (NOW, 0), (NOW + 50, 0)])
def test_no_more_is_watched_than_was_counted(since: float, watched: float) -> None:
    assert demand(make_traffic({}, since=since)).watched == watched


def test_counts_of_what_is_still_to_come_mean_that_nothing_is_known() -> None:
    ahead = counted({-3600: 4, 600: 4})
    assert demand(ahead).watched == 0
    assert demand(ahead).idle == 600 - BUCKET
    assert demand(counted({-60: 4})).watched == 300  # clocks differ


def test_idle_is_since_the_end_of_the_last_bucket_with_a_question() -> None:
    assert demand(counted({615: 2, 300: 0})).idle == 600
    assert demand(counted({0: 2}), NOW + 3).idle == 0
    assert demand(counted({})).idle is None


def test_nothing_counted_is_nothing_asked() -> None:
    assert demand(counted({}, since=NOW)) == Demand(0.0, 0.0, 0.0, 0.0, USUAL, 0.0, None)


def test_a_count_of_very_long_ago_is_not_looked_for_bucket_by_bucket() -> None:
    traffic = replace(counted({15: 1}), answered={-(10**10): 5}, tokens={-(10**10): 5})
    assert demand(traffic).tokens_per_answer == USUAL


@given(
    st.dictionaries(st.integers(-40, 800).map(lambda n: int(NOW) - n * BUCKET), st.integers(0, 10**6)),
    st.floats(0, KEPT),
    st.floats(0, 2 * BUCKET),
)
def test_the_highest_minute_is_no_lower_than_the_others(
    asked: dict[int, int], watch: float, after: float
) -> None:
    found = demand(counted({}) if not asked else replace(counted({}), asked=asked), NOW + after, watch)
    assert 0 <= found.short <= found.peak
    assert 0 <= found.long <= found.peak * (1 + 1e-9)


@given(st.floats(0, 5000), st.integers(0, 3600))
def test_an_even_load_is_measured_as_what_it_is(load: float, after: int) -> None:
    counts = even_questions(load, NOW - KEPT, NOW + 3700)
    found = demand(make_traffic(counts, NOW + after), NOW + after)
    # A question more or less in a bucket is a difference of the measure, not of the load.
    assert found.short == pytest.approx(load, abs=2.5 * TOKENS / 60 + load * 0.02)
