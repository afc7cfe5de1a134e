"""What answers and workers cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.ledger.cost import answer_cost, money, rental_cost, spent, spent_by_worker
from llmhost.ledger.rentals import Rental

MOMENT = st.floats(0, 1e9)
RENTALS = st.lists(
    st.builds(Rental, st.text(max_size=3), st.floats(0, 100), MOMENT, st.none() | MOMENT), max_size=6
)


@pytest.mark.parametrize(
    ("since", "now", "expected"),
    [
        (0, 7_200, 0.5),  # one of two hours
        (0, 3_600, 0.0),  # not started yet
        (5_400, 7_200, 0.25),  # only what lies in the stretch
        (0, 90_000, 1.0),  # ended
        (20_000, 90_000, 0.0),  # ended before
    ],
)
def test_a_worker_costs_its_price_for_the_hours_within(since: float, now: float, expected: float) -> None:
    assert rental_cost(Rental("w", 0.5, 3_600, 10_800), since, now) == pytest.approx(expected)


def test_a_worker_that_still_runs_costs_until_now() -> None:
    assert rental_cost(Rental("w", 2.0, 0, None), 0, 1_800) == pytest.approx(1.0)


def test_a_worker_costs_all_its_prices_together() -> None:
    rentals = [Rental("a", 1.0, 0, 3_600), Rental("b", 0.5, 0, None), Rental("a", 3.0, 3_600, None)]
    assert spent_by_worker(rentals, 1_800, 7_200) == pytest.approx({"a": 3.5, "b": 0.75})


@given(RENTALS, MOMENT, MOMENT)
def test_all_workers_cost_what_each_of_them_does(rentals: list[Rental], one: float, two: float) -> None:
    since, now = sorted((one, two))
    each = spent_by_worker(rentals, since, now)
    assert sum(each.values()) == pytest.approx(spent(rentals, since, now))


@given(RENTALS, MOMENT, MOMENT, MOMENT)
def test_two_stretches_cost_what_they_cost_together(
    rentals: list[Rental], one: float, two: float, three: float
) -> None:
    first, middle, last = sorted((one, two, three))
    parts = spent(rentals, first, middle) + spent(rentals, middle, last)
    assert spent(rentals, first, last) == pytest.approx(parts, abs=1e-6)


def test_requests_that_share_a_worker_share_its_price() -> None:
    assert answer_cost(3_600, 0.5, parallel=2) == pytest.approx(0.25)


def test_the_sums_of_a_fleet_with_hits() -> None:
    sums = money(spent_usd=3.0, saved_usd=1.0, answered=400)
    assert (sums.per_query_usd, sums.baseline_usd, sums.savings_ratio) == (0.0075, 4.0, 0.25)


def test_without_questions_or_cost_there_is_no_ratio() -> None:
    sums = money(spent_usd=0.0, saved_usd=0.0, answered=0)
    assert (sums.per_query_usd, sums.savings_ratio) == (None, None)
