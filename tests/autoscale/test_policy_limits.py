"""What bounds the autoscaler's decisions: numbers of workers, hours, broken workers and purchases, money."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from doubles.scaling import (
    NOW,
    judge,
    make_scale,
    make_worker,
    make_workers,
    sized,
)

from llmhost.autoscale.models import ScaleSpec
from llmhost.config.hours import parse_window
from llmhost.fleet.budget import Limits, Spent
from llmhost.fleet.plan import Funds

# --- least and most ---


def test_there_are_never_fewer_than_the_least() -> None:
    decision = judge(0, 5, spec=make_scale(min_gpus=3))
    assert sized(decision) == ("down", 5, 3)
    assert decision.reason.endswith(": 0 workers were enough for 5 minutes; the minimum is 3")
    assert judge(0, 0).reason.endswith("; the minimum is 1")


def test_there_are_never_more_than_the_most() -> None:
    decision = judge(1000, 2, spec=make_scale(max_gpus=4))
    assert (decision.after, decision.buy) == (4, 2)
    assert decision.reason.endswith("; 24 needed, max_gpus is 4")


def test_a_fleet_larger_than_the_most_shrinks_at_once() -> None:
    assert sized(judge(1000, 6, spec=make_scale(max_gpus=4))) == ("down", 6, 4)


def test_no_more_than_a_step_is_bought_at_once() -> None:
    assert judge(1000, 2, spec=make_scale(max_step=3, max_gpus=50)).buy == 3


def test_what_is_taken_back_is_no_step() -> None:
    workers = [*make_workers(1), *make_workers(4, "back", draining=True)]
    decision = judge(1000, workers, spec=make_scale(max_step=2, max_gpus=50))
    assert (len(decision.revive), decision.buy) == (4, 2)


# --- hours of the week; NOW is a Wednesday, 10:30 UTC ---


def scheduled(when: str, workers: int, **changes: object) -> ScaleSpec:
    return make_scale(windows=(parse_window(when, workers),), **changes)


def test_in_its_hours_a_schedule_says_how_many_there_are_at_least() -> None:
    assert judge({}, 1, spec=scheduled("wed 08:00-18:00", 4)).after == 4
    assert judge({}, 1, spec=scheduled("thu 08:00-18:00", 4)).after == 1


def test_a_schedule_may_want_fewer_than_usual() -> None:
    assert judge({}, 3, spec=scheduled("08:00-18:00", 1, min_gpus=3)).after == 1


def test_workers_are_there_when_their_hours_begin() -> None:
    spec = scheduled("10:35-18:00", 4)
    assert judge({}, 1, spec=spec, history={"boot_seconds": 240.0}).after == 1
    assert judge({}, 1, spec=spec, history={"boot_seconds": 300.0}).after == 4


def test_hours_that_are_over_before_a_boot_would_be_do_not_make_workers_come_and_go() -> None:
    spec, slow = scheduled("10:35-10:40", 4), {"boot_seconds": 900.0}
    assert [judge({}, 4, NOW + 60 * m, spec=spec, history=slow).after for m in (0, 3, 7, 9)] == [4] * 4
    assert judge({}, 4, NOW + 600, spec=spec, history=slow).after == 1


def test_a_pause_shorter_than_a_boot_drains_no_worker() -> None:
    windows = (parse_window("08:00-10:29", 4), parse_window("10:31-18:00", 4))
    assert judge({}, 4, spec=make_scale(windows=windows)).after == 4


def test_workers_stay_until_their_hours_end() -> None:
    assert judge({}, 4, spec=scheduled("08:00-10:31", 4)).after == 4
    assert judge({}, 4, spec=scheduled("08:00-10:30", 4)).after == 1


def test_hours_are_those_of_the_zone() -> None:
    zone = ZoneInfo("Asia/Tokyo")  # 19:30
    assert judge({}, 1, spec=scheduled("wed 19:00-20:00", 4, zone=zone)).after == 4
    assert judge({}, 1, spec=scheduled("wed 10:00-11:00", 4, zone=zone)).after == 1


def test_no_schedule_wants_more_than_the_most() -> None:
    assert judge({}, 1, spec=scheduled("00:00-24:00", 40)).after == 8


# --- those that broke ---


def test_broken_workers_are_replaced_while_they_are_needed() -> None:
    decision = judge(120, 1, lost=2)
    assert (sized(decision), decision.buy) == (("up", 1, 3), 2)
    assert decision.reason.startswith("2 workers failed; demand 120, capacity 50 tok/s")


def test_broken_workers_are_not_replaced_where_fewer_are_enough() -> None:
    decision = judge(20, 1, lost=2)
    assert (sized(decision), decision.buy) == (("hold", 1, 1), 0)


def test_broken_workers_are_replaced_where_fewer_would_be_too_busy() -> None:
    assert judge(83, 2, lost=1).after == 3
    assert judge(83, 2).after == 2


def test_broken_workers_are_replaced_while_the_load_is_unknown() -> None:
    assert judge({}, 2, lost=1, traffic={"since": NOW - 60}).buy == 1


# --- purchases that fail ---


FAILED = (NOW - 3000, NOW - 1200, NOW - 600, NOW - 60)


def test_after_some_failures_nothing_is_bought_and_it_says_until_when() -> None:
    decision = judge(100, 1, history={"failures": FAILED[:3]})
    assert (sized(decision), decision.buy) == (("hold", 1, 1), 0)
    assert decision.blocked is not None
    assert decision.blocked.kind == "failures"
    assert decision.reason.endswith("; 3 purchases failed within an hour; no purchases until 10:40 UTC")


def test_it_says_when_the_last_one_goes_that_counts() -> None:
    """After the first of four is forgotten, there are still three."""
    decision = judge(100, 1, history={"failures": FAILED})
    assert "until 11:10 UTC" in decision.reason
    then = datetime(2026, 6, 10, 11, 10, tzinfo=UTC).timestamp()
    assert judge(100, 1, then - 1, history={"failures": FAILED}).buy == 0
    assert judge(100, 1, then, history={"failures": FAILED}).buy == 2


def test_it_says_the_same_for_as_long_as_the_time_until_then_is_the_same() -> None:
    """An operator is told once of what is said twice."""
    four, three = (judge(100, 1, at, history={"failures": FAILED}).blocked for at in (NOW, NOW + 900))
    assert four is not None
    assert four == three


def test_fewer_failures_or_older_ones_stop_nothing() -> None:
    assert judge(100, 1, history={"failures": FAILED[:2]}).buy == 2
    assert judge(100, 1, history={"failures": (NOW - 3600, *FAILED[:2])}).buy == 2


def test_failures_do_not_stop_what_costs_nothing() -> None:
    workers = [*make_workers(1), make_worker("back", draining=True)]
    decision = judge(100, workers, history={"failures": FAILED})
    assert (decision.revive, decision.buy) == (("back",), 0)
    assert sized(judge(10, 3, history={"failures": FAILED})) == ("down", 3, 1)


# --- money ---


def limited(spent: Spent | None = None, credit: float | None = None, **limits: float) -> Funds:
    return Funds(Limits(**limits), spent or Spent(), credit)


@pytest.mark.parametrize(
    ("funds", "arithmetic"),
    [
        (
            limited(per_hour=1.0),
            (
                "per_hour: with one more worker the fleet costs $1.20 an hour, over the $1.00 of"
                " fleet.budget.per_hour"
            ),
        ),
        (
            limited(Spent(day=2.0), per_day=15.0),
            (
                "per_day: $2.00 spent today + $1.20/h x 13.5 h until midnight UTC = $18.20, over the $15.00"
                " of fleet.budget.per_day"
            ),
        ),
        (
            limited(Spent(month=10.0), per_month=500.0),
            (
                "per_month: $10.00 spent this month + $1.20/h x 493.5 h until the month ends, UTC = $602.20,"
                " over the $500.00 of fleet.budget.per_month"
            ),
        ),
        (limited(credit=1.0), "the account's credit of $1.00 would last 0.83 h at $1.20/h, less than 1 h"),
    ],
)
def test_no_more_is_bought_than_the_money_allows(funds: Funds, arithmetic: str) -> None:
    decision = judge(200, 1, funds=funds)
    assert (sized(decision), decision.buy) == (("up", 1, 2), 1)
    assert decision.blocked is not None
    assert decision.blocked.kind == "budget"
    assert decision.blocked.message == arithmetic
    assert decision.reason.endswith(f": utilization 400.0%, over 85.0%; {arithmetic}")


def test_what_drains_is_paid_for_too() -> None:
    workers = [*make_workers(1), make_worker("back", draining=True)]
    assert judge(200, workers, funds=limited(per_hour=1.2)).buy == 1


def test_a_budget_that_the_fleet_itself_breaks_makes_it_shrink() -> None:
    decision = judge(140, 4, funds=limited(Spent(day=10.0), per_day=22.0))
    assert (sized(decision), decision.drain) == (("down", 4, 2), ("w3", "w2"))
    assert decision.reason == (
        "demand 140, capacity 200 tok/s; the budget allows 2 of 4 workers: "
        "per_day: $10.00 spent today + $1.20/h x 13.5 h until midnight UTC = $26.20, "
        "over the $22.00 of fleet.budget.per_day"
    )


def test_a_budget_that_is_used_up_ends_everything_even_the_least() -> None:
    assert judge(40, 2, funds=limited(Spent(day=5.0), per_day=5.0)).after == 0


def test_an_excess_under_one_percent_drains_no_worker() -> None:
    assert judge(140, 4, funds=limited(per_hour=1.59)).action == "hold"
    assert judge(140, 4, funds=limited(per_hour=1.58)).action == "down"


def test_a_worker_drained_for_the_budget_is_not_revived() -> None:
    """Otherwise it would be ended in one step and taken back in the next, for ever."""
    workers = [*make_workers(2), make_worker("dear", price=2.0, draining=True)]
    decision = judge(140, workers, funds=limited(per_hour=1.0))
    assert (decision.action, decision.revive, decision.buy) == ("hold", (), 0)
    assert decision.reason.endswith(
        "; the budget allows 2 of 3 workers: per_hour: $0.00 spent this hour + $2.80/h x 0.5 h until "
        "the hour ends = $1.40, over the $1.00 of fleet.budget.per_hour"
    )


def test_a_cheap_worker_stays_where_the_budget_ends_a_dear_one() -> None:
    workers = [make_worker("dear", price=2.0, tokens_per_s=4000.0), make_worker("cheap", price=0.1)]
    decision = judge(100, workers, funds=limited(per_hour=1.0))
    assert (decision.drain, decision.after) == (("dear",), 1)
