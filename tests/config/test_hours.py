"""Hours of the week."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.config.hours import Window, least_at, parse_window

ZURICH = ZoneInfo("Europe/Zurich")


def least(when: str, *moment: int, zone: str = "UTC", fold: int = 0) -> int:
    """5 in the window, else 1."""
    place = ZoneInfo(zone)
    local = datetime(*moment, tzinfo=place, fold=fold)  # type: ignore[misc, arg-type]
    return least_at([parse_window(when, 5)], 1, local.timestamp(), place)


@pytest.mark.parametrize(
    ("text", "days", "start", "end"),
    [
        ("mon-fri 08:00-18:00", {0, 1, 2, 3, 4}, 480, 1080),
        ("sat,sun 10:00-14:30", {5, 6}, 600, 870),
        ("22:00-06:00", set(range(7)), 1320, 360),
        ("sat-mon,wed 00:00-24:00", {5, 6, 0, 2}, 0, 1440),
        ("  MON   09:00-10:00 ", {0}, 540, 600),
        ("fri-fri 00:01-00:00", {4}, 1, 0),
    ],
)
def test_hours_are_read_as_they_are_written(text: str, days: set[int], start: int, end: int) -> None:
    assert parse_window(text, 3) == Window(frozenset(days), start, end, 3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not written like"),
        ("always", "not written like"),
        ("mon-fri", "not written like"),
        ("mon 8:00-18:00", "not written like"),
        ("mon 08:00-18:00 UTC", "not written like"),
        ("mon 08:60-18:00", "there is no 08:60"),
        ("mon 08:00-25:00", "there is no 25:00"),
        ("mon 08:00-24:01", "there is no 24:01"),
        ("tag 08:00-18:00", "'tag' is not a day"),
        ("mon-tag 08:00-18:00", "'mon-tag' is not a day"),
        ("mon, 08:00-18:00", "'' is not a day"),
        ("mon-tue-wed 08:00-18:00", "is not a day"),
        ("08:00-08:00", "is empty; write 00:00-24:00"),
        ("00:00-00:00", "is empty"),
        ("24:00-06:00", "begins at 24:00; write 00:00"),
    ],
)
def test_what_are_no_hours_is_refused_and_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_window(text, 1)


@given(st.text() | st.from_regex(r"([a-z,-]+ )?\d\d:\d\d-\d\d:\d\d", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        window = parse_window(text, 2)
    except ValueError:
        return
    assert window.days
    assert 0 <= window.start < 1440
    assert 0 <= window.end <= 1440


# 10 June 2026 is a Wednesday.


@pytest.mark.parametrize(("hour", "minute", "workers"), [(7, 59, 1), (8, 0, 5), (17, 59, 5), (18, 0, 1)])
def test_hours_begin_with_their_first_minute_and_end_before_their_last(
    hour: int, minute: int, workers: int
) -> None:
    assert least("wed 08:00-18:00", 2026, 6, 10, hour, minute) == workers


@pytest.mark.parametrize(
    ("day", "hour", "workers"), [(12, 21, 1), (12, 22, 5), (13, 5, 5), (13, 6, 1), (13, 22, 1), (12, 5, 1)]
)
def test_hours_that_end_before_they_begin_reach_into_the_next_day(day: int, hour: int, workers: int) -> None:
    assert least("fri 22:00-06:00", 2026, 6, day, hour) == workers


def test_sunday_night_reaches_into_monday() -> None:
    assert least("sun 22:00-06:00", 2026, 6, 15, 3) == 5


def test_where_hours_overlap_the_most_count() -> None:
    windows = [parse_window("08:00-18:00", 2), parse_window("12:00-13:00", 6), parse_window("12:00-20:00", 4)]
    noon = datetime(2026, 6, 10, 12, 30, tzinfo=ZoneInfo("UTC"))
    assert least_at(windows, 9, noon.timestamp(), ZoneInfo("UTC")) == 6


def test_hours_are_those_of_the_clock_on_the_wall_in_summer_and_winter() -> None:
    for month in (1, 7):
        assert least("08:00-09:00", 2026, month, 10, 8, 30, zone="Europe/Zurich") == 5
        assert least("08:00-09:00", 2026, month, 10, 9, 30, zone="Europe/Zurich") == 1


def test_an_hour_that_comes_twice_counts_twice() -> None:
    # In the night to 25 October 2026 it is half past two in Zurich twice, an hour apart.
    for fold in (0, 1):
        assert least("sun 02:00-03:00", 2026, 10, 25, 2, 30, zone="Europe/Zurich", fold=fold) == 5


def test_an_hour_that_is_left_out_is_left_out() -> None:
    # In the night to 29 March 2026 it is never half past two in Zurich.
    start = datetime(2026, 3, 29, tzinfo=ZURICH).timestamp()
    windows = [parse_window("sun 02:00-03:00", 5)]
    assert {least_at(windows, 1, start + 60 * minute, ZURICH) for minute in range(23 * 60)} == {1}


def test_a_night_with_a_change_of_the_clock_is_covered_without_a_gap() -> None:
    for month, day, hours in ((3, 28, 7), (10, 24, 9)):
        start = datetime(2026, month, day, 22, tzinfo=ZURICH).timestamp()
        windows = [parse_window("sat 22:00-06:00", 5)]
        found = [least_at(windows, 1, start + 60 * minute, ZURICH) for minute in range(-5, hours * 60 + 5)]
        assert found == [1] * 5 + [5] * hours * 60 + [1] * 5


@given(st.integers(0, 1439), st.integers(0, 1439), st.floats(0, 4e9))
def test_hours_and_the_rest_of_the_day_make_a_whole_day(start: int, end: int, moment: float) -> None:
    if start == end:
        return
    every = frozenset(range(7))
    inside = least_at([Window(every, start, end, 5)], 1, moment, ZURICH)
    outside = least_at([Window(every, end, start, 5)], 1, moment, ZURICH)
    assert {inside, outside} == {1, 5}
