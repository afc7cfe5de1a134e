"""How much is asked of a fleet."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from doubles.scaling import NOW, TOKENS, even_questions, make_traffic, random_questions
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.autoscale.demand import Capacity, Demand, late_share, measure
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


def test_an_average_answer_is_that_of_hours_as_far_as_the_last_minutes_may_be_chance() -> None:
    old, new = int(NOW) - 3600, int(NOW) - 60
    traffic = replace(counted({15: 1}), answered={old: 900, new: 100}, tokens={old: 90_000, new: 11_000})
    assert demand(traffic).tokens_per_answer == 101
    longer = demand(replace(traffic, tokens={old: 90_000, new: 40_000})).tokens_per_answer
    assert 400 * 0.7 <= longer <= 400 * 0.9


def test_the_last_minute_is_judged_by_the_answers_of_the_last_two() -> None:
    old, new = int(NOW) - 300, int(NOW) - 60
    traffic = replace(counted({15: 1}), answered={old: 100, new: 50}, tokens={old: 100, new: 5000})
    assert demand(traffic).short == 100 / 60


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
    found = demand(counted({}, since=NOW))
    assert found == Demand(0.0, 0.0, 0.0, found.most, 0.0, USUAL, 0.0, None)


def test_the_longer_nothing_is_asked_the_less_there_may_be() -> None:
    known = [demand(counted({}, since=NOW - seconds)).most for seconds in (0, 600, 3600, 10_800)]
    assert known == sorted(known, reverse=True)
    assert known[-1] < 0.01 * known[0]


def test_a_count_of_very_long_ago_is_not_looked_for_bucket_by_bucket() -> None:
    traffic = replace(counted({15: 1}), answered={-(10**10): 5}, tokens={-(10**10): 5})
    assert demand(traffic).tokens_per_answer == USUAL


@given(
    st.dictionaries(st.integers(-40, 800).map(lambda n: int(NOW) - n * BUCKET), st.integers(0, 10**6)),
    st.floats(0, KEPT),
    st.floats(0, 2 * BUCKET),
)
def test_the_highest_minute_is_no_lower_than_the_last_and_what_is_sure_no_more_than_the_most(
    asked: dict[int, int], watch: float, after: float
) -> None:
    found = demand(counted({}) if not asked else replace(counted({}), asked=asked), NOW + after, watch)
    assert 0 <= found.short <= found.peak
    assert 0 <= found.sure <= found.long <= found.most


@given(st.floats(0.02, 50), st.integers(0, 1000))
@settings(max_examples=30)
def test_an_even_load_of_chance_is_nearly_always_between_what_is_sure_and_the_most(
    questions_per_s: float, seed: int
) -> None:
    load = questions_per_s * TOKENS
    counts = random_questions(load, NOW - KEPT, NOW + 3600, seed)
    found = [demand(make_traffic(counts, NOW + 60 * minute), NOW + 60 * minute) for minute in range(60)]
    assert sum(one.sure <= load <= one.most for one in found) >= 55


def test_hours_make_an_even_load_known_ten_times_as_well_as_a_minute_does() -> None:
    found = demand(make_traffic(100.0))
    assert found.sure == pytest.approx(98.7, abs=0.3)
    assert found.most == pytest.approx(101.3, abs=0.3)


def test_a_load_that_doubles_is_believed_within_a_minute() -> None:
    found = demand(make_traffic(lambda moment: 200.0 if moment >= NOW - 60 else 100.0))
    assert 170 < found.sure <= found.most < 240
    back = demand(make_traffic(lambda moment: 100.0 if moment >= NOW - 60 else 200.0))
    assert 80 < back.sure <= back.most < 125


@given(st.floats(0, 5000), st.integers(0, 3600))
def test_an_even_load_is_measured_as_what_it_is(load: float, after: int) -> None:
    counts = even_questions(load, NOW - KEPT, NOW + 3700)
    found = demand(make_traffic(counts, NOW + after), NOW + after)
    # A question more or less in a bucket is a difference of the measure, not of the load.
    assert found.short == pytest.approx(load, abs=2.5 * TOKENS / 60 + load * 0.02)


# How many workers deliver enough, and begin soon enough


speeds = st.lists(st.floats(0.0, 500.0), max_size=12).map(lambda found: sorted(found, reverse=True))


def make_capacity(*speeds: float, slots: int = 4, tokens: float = 100.0) -> Capacity:
    return Capacity(speeds, 100.0, slots, tokens)


def test_workers_deliver_what_they_deliver_together() -> None:
    assert make_capacity(100.0, 50.0).supply(2) == 150.0


def test_one_that_is_still_to_come_delivers_what_is_usual() -> None:
    assert make_capacity(50.0).supply(3) == 250.0


@pytest.mark.parametrize(("load", "workers"), [(0.0, 0), (1.0, 1), (100.0, 1), (100.1, 2), (1000.0, 10)])
def test_as_many_are_enough_as_deliver_the_load(load: float, workers: int) -> None:
    assert make_capacity().delivering(load) == workers


@given(speeds, st.floats(0.0, 5000.0))
def test_what_is_enough_delivers_the_load_and_one_fewer_does_not(speeds: list[float], load: float) -> None:
    staff = make_capacity(*speeds)
    size = staff.delivering(load)
    assert staff.supply(size) >= load * (1 - 1e-9) - 1e-7  # a billionth of a worker is none
    assert size == 0 or staff.supply(size - 1) < load


@pytest.mark.parametrize(
    ("slots", "busy", "share"),
    [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (5, 4.0, 0.5541), (10, 8.0, 0.4092), (100, 90.0, 0.2172)],
)
def test_the_share_that_has_to_wait_at_all_is_erlangs(slots: int, busy: float, share: float) -> None:
    """The well-known table of Erlang C."""
    assert late_share(slots, busy, 0.0) == pytest.approx(share, abs=2e-3)


def test_with_one_place_the_wait_falls_off_as_the_queue_of_the_textbook_does() -> None:
    assert late_share(1, 0.8, 2.0) == pytest.approx(0.8 * math.exp(-0.2 * 2.0))


def test_who_is_asked_for_more_than_there_are_places_waits_for_ever() -> None:
    assert late_share(3, 3.0, 100.0) == 1.0


@given(st.integers(1, 100), st.floats(0.0, 100.0), st.floats(0.0, 10.0))
def test_a_share_is_a_share(slots: int, busy: float, wait: float) -> None:
    assert 0.0 <= late_share(slots, busy, wait) <= 1.0


@given(st.integers(1, 60), st.floats(0.01, 50.0), st.floats(0.0, 5.0))
def test_one_more_place_never_makes_more_wait(slots: int, busy: float, wait: float) -> None:
    assert late_share(slots + 1, busy, wait) <= late_share(slots, busy, wait) + 1e-12


def test_a_few_places_must_idle_more_than_many_for_the_same_promise() -> None:
    few, many = make_capacity(slots=1), make_capacity(slots=100)
    assert few.in_time(80.0, 1, wait=5.0, max_late_ratio=0.05) > 1
    assert many.in_time(80.0, 1, wait=5.0, max_late_ratio=0.05) == 1


def test_no_worker_is_needed_without_questions() -> None:
    assert make_capacity().in_time(0.0, 0, wait=5.0, max_late_ratio=0.05) == 0


def test_workers_that_deliver_nothing_keep_nobody_from_an_answer() -> None:
    assert make_capacity(0.0, 0.0).in_time(50.0, 1, wait=5.0, max_late_ratio=0.05) == 3
