"""What may be bought, and what that promises."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.errors import LimitError
from llmhost.fleet.budget import Limits, Spent, check, fits, period_starts, projections, runway_hours

HOUR, DAY = 3_600.0, 86_400.0
ROUNDING = 1 + 1e-6


def at(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


#: 10:30 UTC: half an hour and 13.5 hours are left.
MORNING = at(2026, 6, 10, 10, 30)

MONEY = st.floats(0, 200)
LIMIT = st.none() | st.floats(0, 500)
LIMITS = st.builds(Limits, LIMIT, LIMIT, LIMIT)
SPENT = st.builds(Spent, MONEY, MONEY, MONEY)
NOW = st.floats(at(2020, 1, 1), at(2040, 1, 1))
CREDIT = st.none() | st.floats(-10, 500)


def approves(*args: Any) -> bool:
    try:
        check(*args)
    except LimitError:
        return False
    return True


def message(limits: Limits, spent: Spent, burn: float, price: float, **more: Any) -> str:
    with pytest.raises(LimitError) as refused:
        check(limits, spent, burn, price, MORNING, **more)
    assert "\n" not in refused.value.message
    return refused.value.message


def test_periods_begin_with_the_hour_the_day_and_the_month_in_utc() -> None:
    assert period_starts(MORNING) == (at(2026, 6, 10, 10), at(2026, 6, 10), at(2026, 6, 1))
    assert period_starts(at(2026, 1, 1)) == (at(2026, 1, 1),) * 3


@given(NOW)
def test_now_is_in_every_period(now: float) -> None:
    hour, day, month = period_starts(now)
    assert month <= day <= hour <= now < hour + HOUR
    assert now < day + DAY
    assert datetime.fromtimestamp(month, UTC).month == datetime.fromtimestamp(int(now), UTC).month


def test_the_day_counts_what_was_spent_and_what_is_still_to_come() -> None:
    limits, spent = Limits(per_day=20.0), Spent(day=4.2)
    assert message(limits, spent, 1.2, 0.35) == (
        "per_day: $4.20 spent today + $1.55/h x 13.5 h until midnight UTC = $25.12, "
        "over the $20.00 of fleet.budget.per_day"
    )
    assert approves(limits, spent, 0.8, 0.35, MORNING)


def test_the_month_ends_with_its_last_day() -> None:
    # 10 June, 10:30: 20 days and 13.5 hours are left.
    assert message(Limits(per_month=100.0), Spent(month=60.0), 0.0, 0.1) == (
        "per_month: $60.00 spent this month + $0.10/h x 493.5 h until the month ends, UTC = $109.35, "
        "over the $100.00 of fleet.budget.per_month"
    )


def test_the_hour_counts_what_was_spent_in_it() -> None:
    assert message(Limits(per_hour=2.0), Spent(hour=1.6), 0.5, 0.5) == (
        "per_hour: $1.60 spent this hour + $1.00/h x 0.5 h until the hour ends = $2.10, "
        "over the $2.00 of fleet.budget.per_hour"
    )


def test_an_hour_that_is_nearly_over_is_followed_by_a_whole_one() -> None:
    assert message(Limits(per_hour=1.0), Spent(), 0.8, 0.347) == (
        "per_hour: with one more worker the fleet costs $1.15 an hour, "
        "over the $1.00 of fleet.budget.per_hour"
    )


def test_the_limit_that_is_broken_most_is_named() -> None:
    limits = Limits(per_hour=9.0, per_day=100.0, per_month=150.0)
    assert message(limits, Spent(), 0.0, 10.0).startswith("per_month: ")


def test_a_limit_may_be_used_up_to_the_last_cent() -> None:
    burn = 0.4 + 0.4  # and 0.4 more is 1.2000000000000002
    assert approves(Limits(per_hour=1.2, per_day=1.2 * 13.5), Spent(), burn, 0.4, MORNING)


def test_a_sum_just_over_the_limit_is_shown_as_over_it() -> None:
    assert "costs $1.0004 an hour, over the $1.0000" in message(Limits(per_hour=1.0), Spent(), 0.0, 1.0004)


def test_credit_must_last_for_an_hour() -> None:
    assert message(Limits(), Spent(), 1.0, 0.6, credit=0.8) == (
        "the account's credit of $0.80 would last 0.50 h at $1.60/h, less than 1 h"
    )
    assert approves(Limits(), Spent(), 1.0, 0.6, MORNING, 1.6)


def test_an_account_in_debt_buys_nothing() -> None:
    assert "-$3.00 would last 0.00 h" in message(Limits(), Spent(), 0.0, 0.5, credit=-3.0)


def test_a_refusal_says_what_can_be_done() -> None:
    with pytest.raises(LimitError) as refused:
        check(Limits(per_day=1.0), Spent(), 0.0, 1.0, MORNING)
    assert refused.value.hint == (
        "raise fleet.budget.per_day, ask for fewer or cheaper workers, or take some down"
    )


@pytest.mark.parametrize(("credit", "burn", "hours"), [(3.0, 1.5, 2.0), (0.0, 1.0, 0.0), (-1.0, 1.0, 0.0)])
def test_credit_is_hours_of_runway(credit: float, burn: float, hours: float) -> None:
    assert runway_hours(credit, burn) == hours


def test_there_is_no_end_to_the_runway_where_nothing_burns_or_nothing_is_known() -> None:
    assert runway_hours(3.0, 0.0) is None
    assert runway_hours(None, 1.0) is None


def test_projections_show_this_period_and_all_of_the_next() -> None:
    limits = Limits(per_hour=2.0, per_month=1_000.0)
    hour, month = projections(limits, Spent(0.25, 3.0, 9.0), 1.5, MORNING)
    assert (hour.name, hour.limit, hour.projected, hour.whole) == ("per_hour", 2.0, 1.0, 1.5)
    assert (month.name, month.limit, month.projected) == ("per_month", 1_000.0, 9.0 + 1.5 * 493.5)
    assert month.whole == 1.5 * 31 * 24  # July
    assert (month.breaks, month.breaks_later) == (False, True)


@given(SPENT, MONEY, MONEY, NOW)
def test_without_limits_everything_is_approved(spent: Spent, burn: float, price: float, now: float) -> None:
    assert approves(Limits(), spent, burn, price, now)
    assert not Limits().any


@given(LIMITS, SPENT, MONEY, MONEY, NOW, CREDIT)
def test_nothing_is_approved_that_breaks_a_limit(
    limits: Limits, spent: Spent, burn: float, price: float, now: float, credit: float | None
) -> None:
    if not approves(limits, spent, burn, price, now, credit):
        return
    after = burn + price
    hour, day, month = period_starts(now)
    assert limits.per_hour is None or after <= limits.per_hour * ROUNDING
    for limit, so_far, end in (
        (limits.per_hour, spent.hour, hour + HOUR),
        (limits.per_day, spent.day, day + DAY),
        (limits.per_month, spent.month, period_starts(month + 32 * DAY)[2]),
    ):
        assert limit is None or so_far + after * (end - now) / HOUR <= limit * ROUNDING
    assert credit is None or after <= max(0.0, credit) * ROUNDING


@given(LIMITS, SPENT, MONEY, MONEY, NOW, CREDIT)
def test_what_breaks_no_limit_is_approved(
    limits: Limits, spent: Spent, burn: float, price: float, now: float, credit: float | None
) -> None:
    rows = projections(limits, spent, burn + price, now)
    fits = all(row.projected <= row.limit for row in rows)
    fits = fits and (limits.per_hour is None or burn + price <= limits.per_hour)
    if fits and (credit is None or burn + price <= credit):
        check(limits, spent, burn, price, now, credit)


@given(LIMITS, SPENT, MONEY, MONEY, NOW, CREDIT, st.floats(0, 50), st.sampled_from(range(5)))
def test_whoever_has_spent_more_or_buys_dearer_is_never_allowed_more(
    limits: Limits,
    spent: Spent,
    burn: float,
    price: float,
    now: float,
    credit: float | None,
    more: float,
    what: int,
) -> None:
    dearer = [
        (limits, spent, burn, price + more, now, credit),
        (limits, spent, burn + more, price, now, credit),
        (limits, replace(spent, hour=spent.hour + more), burn, price, now, credit),
        (limits, replace(spent, day=spent.day + more), burn, price, now, credit),
        (limits, replace(spent, month=spent.month + more), burn, price, now, credit),
    ][what]
    assert approves(limits, spent, burn, price, now, credit) or not approves(*dearer)


def test_the_traffic_of_a_purchase_counts_once_and_is_named() -> None:
    limits = Limits(per_day=10.0)
    assert approves(limits, Spent(day=2.0), 0.0, 0.5, MORNING, None, 1.25)
    assert message(limits, Spent(day=2.0), 0.0, 0.5, traffic=1.3) == (
        "per_day: $2.00 spent today + $1.30 for traffic + $0.50/h x 13.5 h until midnight UTC = $10.05, "
        "over the $10.00 of fleet.budget.per_day"
    )


def test_the_credit_must_pay_for_the_traffic_too() -> None:
    assert message(Limits(), Spent(), 0.0, 0.5, credit=0.9, traffic=0.5) == (
        "the account's credit of $0.90, less $0.50 for traffic, would last 0.80 h at $0.50/h, less than 1 h"
    )


BAD = st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.01])


@given(BAD, st.sampled_from(range(7)))
def test_a_number_that_is_none_is_refused_as_a_mistake(bad: float, where: int) -> None:
    calls = [
        lambda: check(Limits(), Spent(), bad, 10.0, MORNING),
        lambda: check(Limits(), Spent(), 0.0, bad, MORNING),
        lambda: check(Limits(), Spent(), 0.0, 0.0, bad),
        lambda: check(Limits(), Spent(), 0.0, 1.0, MORNING, None, bad),
        lambda: Limits(per_day=bad),
        lambda: Spent(month=bad),
        lambda: runway_hours(1.0, bad),
    ]
    with pytest.raises(ValueError, match="cannot be"):
        calls[where]()


def test_credit_that_is_no_number_is_refused_as_a_mistake() -> None:
    with pytest.raises(ValueError, match="credit cannot be nan"):
        check(Limits(), Spent(), 0.0, 1.0, MORNING, float("nan"))


@dataclass
class Fleet:
    """A month of somebody who buys whatever is approved, and of what it cost, hour by hour."""

    limits: Limits
    now: float
    prices: list[float] = field(default_factory=list)
    hours: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    bought_on: set[float] = field(default_factory=set)
    burn_at_midnight: dict[float, float] = field(default_factory=dict)

    @property
    def burn(self) -> float:
        return sum(self.prices)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            hour, day, _ = period_starts(self.now)
            if self.now == day:
                self.burn_at_midnight[day] = self.burn
            following = min(end, hour + HOUR)
            self.hours[hour] += self.burn * (following - self.now) / HOUR
            self.now = following

    def spent(self) -> Spent:
        hour, day, month = period_starts(self.now)
        return Spent(self.hours[hour], self.since(day), self.since(month))

    def since(self, start: float, until: float = float("inf")) -> float:
        return sum(usd for hour, usd in self.hours.items() if start <= hour < until)

    def buy(self, price: float, traffic: float) -> None:
        if approves(self.limits, self.spent(), self.burn, price, self.now, None, traffic):
            self.hours[period_starts(self.now)[0]] += traffic
            self.prices.append(price)
            self.bought_on.add(period_starts(self.now)[1])


STEPS = st.lists(
    st.tuples(
        st.floats(1, 30 * HOUR),
        st.lists(st.tuples(st.floats(0.1, 3), st.sampled_from([0.0, 0.02, 0.57])), max_size=4),
        st.integers(0, 3),
    ),
    max_size=30,
)


def live(limits: Limits, steps: list[tuple[float, list[tuple[float, float]], int]]) -> Fleet:
    """Each step waits, takes some workers down and tries to buy others."""
    fleet = Fleet(limits, at(2026, 6, 1))
    for seconds, wanted, gone in steps:
        fleet.wait(seconds)
        del fleet.prices[:gone]
        for price, traffic in wanted:
            fleet.buy(price, traffic)
    fleet.wait(3 * DAY)
    return fleet


@given(st.floats(0.5, 5), STEPS)
def test_no_clock_hour_ever_costs_more_than_its_limit(per_hour: float, steps: Any) -> None:
    fleet = live(Limits(per_hour=per_hour), steps)
    assert max(fleet.hours.values()) <= per_hour * ROUNDING


@given(st.floats(2, 60), STEPS)
def test_no_day_on_which_something_was_bought_costs_more_than_its_limit(per_day: float, steps: Any) -> None:
    fleet = live(Limits(per_day=per_day), steps)
    for day in fleet.bought_on:
        assert fleet.since(day, day + DAY) <= per_day * ROUNDING


@given(st.floats(2, 60), STEPS)
def test_a_day_on_which_nothing_was_bought_costs_no_more_than_the_fleet_of_its_first_minute(
    per_day: float, steps: Any
) -> None:
    fleet = live(Limits(per_day=per_day), steps)
    for day, burn in fleet.burn_at_midnight.items():
        if day not in fleet.bought_on:
            assert fleet.since(day, day + DAY) <= burn * 24 * ROUNDING


def test_such_a_day_may_cost_more_than_its_limit() -> None:
    """The promise ends at midnight, and `projections` says so before anything is bought."""
    limits, evening = Limits(per_day=10.0), at(2026, 6, 1, 23)
    check(limits, Spent(), 0.0, 2.0, evening)
    (row,) = projections(limits, Spent(), 2.0, evening)
    assert (row.breaks, row.breaks_later, row.whole) == (False, True, 48.0)


@given(st.floats(2, 60), STEPS)
def test_with_a_limit_for_the_hour_that_goes_with_it_no_day_costs_more(per_day: float, steps: Any) -> None:
    fleet = live(Limits(per_hour=per_day / 24, per_day=per_day), steps)
    for day in fleet.burn_at_midnight:
        assert fleet.since(day, day + DAY) <= per_day * ROUNDING


@given(st.floats(5, 500), STEPS)
def test_the_month_in_which_something_was_bought_last_costs_no_more_than_its_limit(
    per_month: float, steps: Any
) -> None:
    fleet = live(Limits(per_month=per_month), steps)
    months = {period_starts(day)[2] for day in fleet.bought_on}
    for month in months:
        following = period_starts(month + 32 * DAY)[2]
        assert fleet.since(month, following) <= per_month * ROUNDING


def test_a_fleet_fits_where_every_period_ends_within_its_limit() -> None:
    assert fits(Limits(per_hour=2.0, per_day=27.0, per_month=990.0), Spent(), 2.0, MORNING)
    assert not fits(Limits(per_hour=1.9), Spent(), 2.0, MORNING)
    assert not fits(Limits(per_day=26.0), Spent(), 2.0, MORNING)
    assert not fits(Limits(per_month=970.0), Spent(), 2.0, MORNING)
    assert not fits(Limits(per_day=27.0), Spent(day=1.0), 2.0, MORNING)


def test_a_fleet_that_is_over_its_limit_by_less_than_a_hundredth_fits_though_no_more_is_bought() -> None:
    limits = Limits(per_day=27.0)
    assert fits(limits, Spent(day=0.26), 2.0, MORNING)
    assert not approves(limits, Spent(day=0.26), 1.9, 0.1, MORNING)
    assert not fits(limits, Spent(day=0.28), 2.0, MORNING)


def test_a_fleet_that_costs_nothing_always_fits() -> None:
    assert fits(Limits(per_hour=0.0, per_day=1.0), Spent(day=50.0), 0.0, MORNING)


@given(LIMITS, SPENT, MONEY, MONEY, NOW)
def test_what_was_approved_fits(limits: Limits, spent: Spent, burn: float, price: float, now: float) -> None:
    assert fits(limits, spent, burn + price, now) or not approves(limits, spent, burn, price, now)


@given(LIMITS, SPENT, MONEY, st.floats(0, 50), NOW)
def test_a_dearer_fleet_never_fits_where_a_cheaper_one_does_not(
    limits: Limits, spent: Spent, burn: float, more: float, now: float
) -> None:
    assert fits(limits, spent, burn, now) or burn + more == 0 or not fits(limits, spent, burn + more, now)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.01])
def test_a_fleet_cannot_cost_what_is_no_number(bad: float) -> None:
    with pytest.raises(ValueError, match="burn cannot be"):
        fits(Limits(), Spent(), bad, MORNING)
