"""How many workers deliver enough, and begin soon enough."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.autoscale.demand import Staff, late_share

speeds = st.lists(st.floats(0.0, 500.0), max_size=12).map(lambda found: sorted(found, reverse=True))


def make_staff(*speeds: float, places: int = 4, tokens: float = 100.0) -> Staff:
    return Staff(speeds, 100.0, places, tokens)


def test_workers_deliver_what_they_deliver_together() -> None:
    assert make_staff(100.0, 50.0).supply(2) == 150.0


def test_one_that_is_still_to_come_delivers_what_is_usual() -> None:
    assert make_staff(50.0).supply(3) == 250.0


@pytest.mark.parametrize(("load", "workers"), [(0.0, 0), (1.0, 1), (100.0, 1), (100.1, 2), (1000.0, 10)])
def test_as_many_are_enough_as_deliver_the_load(load: float, workers: int) -> None:
    assert make_staff().delivering(load) == workers


def test_the_best_are_counted_first() -> None:
    assert make_staff(300.0, 100.0, 10.0).delivering(390.0) == 2


@given(speeds, st.floats(0.0, 5000.0))
def test_what_is_enough_delivers_the_load_and_one_fewer_does_not(speeds: list[float], load: float) -> None:
    staff = make_staff(*speeds)
    size = staff.delivering(load)
    assert staff.supply(size) >= load * (1 - 1e-9) - 1e-7  # a billionth of a worker is none
    assert size == 0 or staff.supply(size - 1) < load


@pytest.mark.parametrize(
    ("places", "busy", "share"),
    [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (5, 4.0, 0.5541), (10, 8.0, 0.4092), (100, 90.0, 0.2172)],
)
def test_the_share_that_has_to_wait_at_all_is_erlangs(places: int, busy: float, share: float) -> None:
    """The well-known table of Erlang C."""
    assert late_share(places, busy, 0.0) == pytest.approx(share, abs=2e-3)


def test_with_one_place_the_wait_falls_off_as_the_queue_of_the_textbook_does() -> None:
    assert late_share(1, 0.8, 2.0) == pytest.approx(0.8 * math.exp(-0.2 * 2.0))


def test_who_is_asked_for_more_than_there_are_places_waits_for_ever() -> None:
    assert late_share(3, 3.0, 100.0) == 1.0


@given(st.integers(1, 100), st.floats(0.0, 100.0), st.floats(0.0, 10.0))
def test_a_share_is_a_share(places: int, busy: float, wait: float) -> None:
    assert 0.0 <= late_share(places, busy, wait) <= 1.0


@given(st.integers(1, 60), st.floats(0.01, 50.0), st.floats(0.0, 5.0))
def test_one_more_place_never_makes_more_wait(places: int, busy: float, wait: float) -> None:
    assert late_share(places + 1, busy, wait) <= late_share(places, busy, wait) + 1e-12


def test_a_few_places_must_idle_more_than_many_for_the_same_promise() -> None:
    few, many = make_staff(places=1), make_staff(places=100)
    assert few.in_time(80.0, 1, wait=5.0, late=0.05) > 1
    assert many.in_time(80.0, 1, wait=5.0, late=0.05) == 1


def test_who_is_content_with_any_wait_needs_nobody_more() -> None:
    assert make_staff(places=1).in_time(99.0, 1, wait=5.0, late=1.0) == 1


def test_nobody_is_needed_where_nothing_is_asked() -> None:
    assert make_staff().in_time(0.0, 0, wait=5.0, late=0.05) == 0


def test_workers_that_deliver_nothing_keep_nobody_from_an_answer() -> None:
    assert make_staff(0.0, 0.0).in_time(50.0, 1, wait=5.0, late=0.05) == 3
