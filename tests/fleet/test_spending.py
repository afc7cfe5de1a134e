from __future__ import annotations

import pytest
from doubles.fleet_values import make_worker

from llmhost.fleet.models import Charge
from llmhost.fleet.spending import bills_since, spent_now, tally
from llmhost.ledger.rentals import Rental

NOW = 1_700_000_000.0  # 22:13:20 UTC
HOUR = 3600.0


def test_without_anything_nothing_was_spent() -> None:
    spending = tally((), (), (), NOW)
    assert (spending.by_worker, spending.total) == ({}, 0.0)


def test_what_is_gone_counts_in_the_total() -> None:
    rentals = [Rental("gone", 0.5, NOW - 10 * HOUR, NOW - 8 * HOUR), Rental("here", 0.5, NOW - HOUR)]
    spending = tally(rentals, (), [make_worker("here", started=NOW - HOUR)], NOW)
    assert spending.by_worker == pytest.approx({"gone": 1.0, "here": 0.5})
    assert spending.total == pytest.approx(1.5)


def test_a_worker_whose_price_changed_costs_the_sum_of_its_times() -> None:
    rentals = [Rental("w", 0.01, NOW - 2 * HOUR, NOW - HOUR), Rental("w", 0.5, NOW - HOUR)]
    assert tally(rentals, (), (), NOW).by_worker == pytest.approx({"w": 0.51})


def test_a_worker_nobody_recorded_costs_its_price_since_it_was_started() -> None:
    worker = make_worker("w", started=NOW - 2 * HOUR, price_per_hour=0.5)
    assert tally((), (), [worker], NOW).by_worker == pytest.approx({"w": 1.0})


def test_a_bill_goes_before_what_we_recorded() -> None:
    rentals = [Rental("w", 0.5, NOW - 2 * HOUR)]
    charges = [Charge("w", 0.6, NOW - 2 * HOUR, NOW)]
    worker = make_worker("w", started=NOW - 2 * HOUR)
    assert tally(rentals, charges, [worker], NOW).by_worker == pytest.approx({"w": 0.6})


def test_what_a_bill_does_not_reach_up_to_is_added_at_the_present_price() -> None:
    worker = make_worker("w", started=NOW - 2 * HOUR, price_per_hour=0.5, billing=0.1)
    charges = [Charge("w", 0.6, NOW - 2 * HOUR, NOW - HOUR)]
    assert tally((), charges, [worker], NOW).by_worker == pytest.approx({"w": 0.7})


def test_the_bill_of_a_worker_that_is_gone_is_final() -> None:
    assert tally((), [Charge("w", 0.6, NOW - 9 * HOUR, NOW - HOUR)], (), NOW).by_worker == {"w": 0.6}


def test_a_bill_that_is_late_lets_nothing_of_a_worker_that_is_gone_be_forgotten() -> None:
    rentals = [Rental("w", 0.6, NOW - HOUR, NOW - 60.0)]
    charges = [Charge("w", 0.3, NOW - HOUR, NOW - HOUR / 2)]
    assert tally(rentals, charges, (), NOW).by_worker == pytest.approx({"w": 0.6 * 59 / 60})


def test_an_end_that_was_noticed_late_costs_nothing() -> None:
    rentals = [Rental("w", 0.5, NOW - 9 * HOUR, NOW)]
    charges = [Charge("w", 0.6, NOW - 9 * HOUR, NOW - 6 * HOUR)]
    assert tally(rentals, charges, (), NOW).by_worker == {"w": 0.6}


def test_the_periods_begin_with_the_hour_the_day_and_the_month() -> None:
    spent = spent_now([Rental("w", 1.0, NOW - 40 * 24 * HOUR)], NOW)
    assert spent.hour == pytest.approx(13 / 60 + 20 / HOUR)
    assert spent.day == pytest.approx(22 + 13 / 60 + 20 / HOUR)
    assert spent.month == pytest.approx(13 * 24 + spent.day)


def test_bills_are_read_a_month_back_whatever_the_ledger_knows() -> None:
    assert bills_since(NOW) == NOW - 31 * 24 * HOUR


def test_a_bill_of_a_part_of_a_life_does_not_replace_what_was_recorded() -> None:
    rentals = [Rental("old", 1.0, NOW - 40 * 24 * HOUR)]
    spending = tally(rentals, [Charge("old", 744.0, NOW - 31 * 24 * HOUR, NOW)], (), NOW)
    assert spending.by_worker == pytest.approx({"old": 960.0})


def test_no_period_costs_more_than_all_of_it() -> None:
    rentals = [Rental("w", 1.0, NOW - HOUR)]
    worker = make_worker("w", started=NOW - HOUR)
    spending = tally(rentals, [Charge("w", 0.05, NOW - HOUR, NOW)], [worker], NOW)
    assert spending.total == spending.periods.day == spending.periods.month == 0.05
