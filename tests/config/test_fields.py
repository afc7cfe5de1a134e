"""Durations: parsing and writing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.config.fields import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("90s", 90), ("1.5h", 5400), ("24h", 86400), ("7d", 604800), ("5m", 300), ("12", 12)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "h", "soon", "1h30m", "5 minutes", "0x1s", "1,5s"])
def test_other_text_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="float"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.1, "100ms"),
        (0.001, "1ms"),
        (1.0, "1s"),
        (90.0, "90s"),
        (300.0, "5m"),
        (86400.0, "24h"),
        (129600.0, "36h"),
        (172800.0, "2d"),
        (604800.0, "7d"),
        (1.25, "1250ms"),
    ],
)
def test_seconds_are_written_as_people_write_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0.001, 3650 * 86400))
def test_what_is_written_gives_exactly_the_same_seconds(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(1, 10**6), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_whole_numbers_of_a_unit_are_written_without_a_fraction(count: int, unit: str) -> None:
    written = format_duration(parse_duration(f"{count}{unit}"))
    assert "." not in written
