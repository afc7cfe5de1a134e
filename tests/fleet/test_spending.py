from __future__ import annotations

from collections.abc import Callable

import pytest
from doubles.fleet_values import make_worker
from doubles.rented_fleet import RentedFleet

from llmhost.fleet.spending import bills_since, reconcile, spent_now, tally
from llmhost.ledger.cost import corrected, spent
from llmhost.ledger.ledger import Ledger
from llmhost.ledger.rentals import Charge, Rental

NOW = 1_700_000_000.0  # 22:13:20 UTC
HOUR = 3600.0

#: USD; a bill rounds each of its items to a tenth of a cent
ROUNDING = 0.005


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


def test_traffic_counts_from_the_purchase_on_in_every_period() -> None:
    paid = Rental("w", 0.0, NOW, NOW, once=0.3)
    spent_so_far = tally([Rental("w", 0.5, NOW), paid], (), (), NOW)
    assert spent_so_far.by_worker == {"w": 0.3}
    periods = spent_now([Rental("w", 0.5, NOW), paid], NOW)
    assert (periods.hour, periods.day, periods.month) == (0.3, 0.3, 0.3)
    assert spent_now([paid], NOW + HOUR).hour == 0.0


@pytest.mark.parametrize("listed", [True, False])
def test_what_was_billed_and_never_recorded_was_spent_in_its_periods_too(listed: bool) -> None:
    workers = [make_worker("w", started=NOW - HOUR, price_per_hour=0.5)] if listed else []
    spending = tally((), [Charge("w", 0.6, NOW - HOUR, NOW)], workers, NOW)
    assert (spending.total, spending.periods.day, spending.periods.month) == pytest.approx((0.6, 0.6, 0.6))
    assert 0.0 < spending.periods.hour < 0.6


def test_a_worker_nobody_recorded_was_paid_for_in_its_periods_too() -> None:
    worker = make_worker("w", started=NOW - 2 * HOUR, price_per_hour=0.5)
    assert tally((), (), [worker], NOW).periods.day == pytest.approx(1.0)


def test_a_bill_has_the_traffic_in_it_so_the_estimate_is_not_added() -> None:
    rentals = [Rental("w", 0.0, NOW - HOUR, NOW - HOUR, once=0.3), Rental("w", 0.5, NOW - HOUR)]
    worker = make_worker("w", started=NOW - HOUR)
    spending = tally(rentals, [Charge("w", 0.6, NOW - HOUR, NOW)], [worker], NOW)
    assert (spending.total, spending.periods.day) == pytest.approx((0.6, 0.6))


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


def test_where_the_provider_was_not_asked_a_worker_runs_until_its_rental_ends() -> None:
    charges = [
        Charge("here", 0.6, NOW - 9 * HOUR, NOW - 2 * HOUR),
        Charge("gone", 0.6, NOW - 9 * HOUR, NOW - 2 * HOUR),
    ]
    rentals = [Rental("here", 0.5, NOW - 9 * HOUR), Rental("gone", 0.5, NOW - 9 * HOUR, NOW)]
    assert tally(rentals, charges, None, NOW).by_worker == pytest.approx({"here": 1.6, "gone": 0.6})


def test_what_is_given_back_makes_no_period_negative() -> None:
    spending = tally([Rental("w", 1.0, NOW - HOUR)], [Charge("w", -0.2, NOW - HOUR, NOW)], (), NOW)
    assert (spending.total, spending.periods.day) == (-0.2, 0.0)


def test_no_period_costs_more_than_all_of_it() -> None:
    rentals = [Rental("w", 1.0, NOW - HOUR)]
    worker = make_worker("w", started=NOW - HOUR)
    spending = tally(rentals, [Charge("w", 0.05, NOW - HOUR, NOW)], [worker], NOW)
    assert spending.total == spending.periods.day == spending.periods.month == 0.05


async def shown(fleet: RentedFleet, command: str) -> float:
    """USD that all workers have cost so far, as this command would show it; 10 seconds pass meanwhile."""
    await fleet.clock.sleep(10.0)
    if command == "stats":
        ledger, now = Ledger(fleet.client, fleet.fleet), fleet.clock.now()
        rentals = await ledger.rentals()
        by_worker = tally(rentals, await ledger.charges(), None, now).by_worker
        return spent(corrected(rentals, by_worker, now), 0.0, now)
    if command == "status":
        return (await fleet.service().status()).spending.total
    return sum((await fleet.service().up(2)).spent.values())


async def test_what_was_spent_never_goes_backwards_between_commands_and_ends_as_it_was_billed(
    fleet: RentedFleet,
) -> None:
    server = fleet.server
    await fleet.service().up(2)
    one, other = server.alive()
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: server.traffic(one, down=40.0),
        lambda: server.become(one, "unknown"),
        lambda: server.become(one, "running"),
        lambda: server.become(other, "frozen"),
    ]
    before = 0.0
    for step in steps:
        step()
        for pause in (60.0, 3000.0, 7200.0):  # over midnight, too, by which the bill stamps its items
            await fleet.clock.sleep(pause)
            for command in ("status", "stats", "status"):
                now = await shown(fleet, command)
                assert now >= before - ROUNDING, (step, command)
                assert now == pytest.approx(server.billed_total(), abs=0.05), (step, command)
                before = now
    for command in ("up", "status", "stats"):  # what was frozen is replaced by the first
        now = await shown(fleet, command)
        assert now >= before - ROUNDING, command
        before = now
    await fleet.service().down()
    await fleet.clock.sleep(7200.0)
    for command in ("status", "stats"):
        assert await shown(fleet, command) == pytest.approx(server.billed_total(), abs=ROUNDING)


def test_a_bill_that_differs_is_explained_by_its_time_its_traffic_and_what_is_not_billed_yet() -> None:
    rentals = [
        Rental("w", 0.5, NOW - 4 * HOUR),
        Rental("w", 0.0, NOW - 4 * HOUR, NOW - 4 * HOUR, once=0.3),
    ]
    (row,) = reconcile(rentals, [Charge("w", 1.72, NOW - 4 * HOUR, NOW - HOUR, traffic=0.2)], NOW)
    assert (row.ledger_usd, row.billed_usd) == (pytest.approx(2.3), 1.72)
    assert row.causes == pytest.approx({"time and price": 0.02, "traffic": -0.1, "not billed yet": -0.5})
    assert row.difference_usd == pytest.approx(sum(row.causes.values()))


def test_what_is_on_the_bill_alone_or_on_record_alone_is_named() -> None:
    rentals = [Rental("new", 0.5, NOW - HOUR)]
    billed, recorded = reconcile(rentals, [Charge("lost", 0.6, NOW - 9 * HOUR, NOW - HOUR)], NOW)
    assert (billed.worker, billed.ledger_usd, billed.causes) == ("lost", 0.0, {"not on record": 0.6})
    assert (recorded.worker, recorded.billed_usd, recorded.difference_usd) == ("new", None, None)


def test_nothing_is_compared_with_the_bill_of_a_part_of_a_life() -> None:
    rentals = [Rental("old", 0.5, NOW - 40 * 24 * HOUR)]
    (row,) = reconcile(rentals, [Charge("old", 300.0, NOW - 31 * 24 * HOUR, NOW)], NOW)
    assert row.billed_usd is None
