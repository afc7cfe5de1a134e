"""The guard of months, weekdays and days from now."""

from __future__ import annotations

import pytest
from doubles.guard_verdict import verdict

from llmhost.cache.guards.dates import guard


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Weather in Lisbon in March", "Weather in Lisbon in May"),
        ("Is the bank open on Monday?", "Is the bank open on Sunday?"),
        ("What is the weather tomorrow?", "What was the weather yesterday?"),
        ("Events next week", "Events last week"),
        ("Flights to Rome in summer", "Flights to Rome in winter"),
        ("Rome in 50 BC", "Rome in 50 AD"),
        ("Write a daily report", "Write a weekly report"),
    ],
)
def test_another_time_of_the_same_kind_is_refused(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "refuses"


def test_a_month_that_only_one_names_is_doubted() -> None:
    assert verdict(guard, "Weather in Lisbon in March", "Weather in Lisbon") == "doubts"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Weather in Lisbon in January", "Lisbon weather Jan"),
        ("May I march here?", "Am I allowed to march here?"),
        ("What will happen next year?", "What happens in the coming year?"),
        ("Where is Rome?", "Where does Rome lie?"),
    ],
)
def test_the_same_time_passes(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "silent"
