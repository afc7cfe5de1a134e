"""What the autoscaler decides: the policy, sentence by sentence."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from doubles.scaling import (
    NOW,
    SPEED,
    TOKENS,
    Rate,
    in_flight,
    judge,
    make_scale,
    make_traffic,
    make_worker,
    make_workers,
)

from llmhost.autoscale.models import FleetView, Metrics, ScaleDecision, ScaleSpec
from llmhost.autoscale.policy import decide
from llmhost.config.hours import parse_window
from llmhost.fleet.budget import Limits, Spent
from llmhost.fleet.plan import Funds

#: may be without workers
LAZY = make_scale(min_gpus=0)


def spike(height: float, ago: float) -> Rate:
    """10 tokens a second, and in one minute `ago` seconds ago `height`."""
    return lambda moment: height if NOW - ago <= moment < NOW - ago + 60 else 10.0


def sized(decision: ScaleDecision) -> tuple[str, int, int]:
    return decision.action, decision.before, decision.after


# --- up ---


def test_a_load_inside_the_band_changes_nothing() -> None:
    decision = judge(40, 1)
    assert sized(decision) == ("hold", 1, 1)
    assert decision.reason == "demand 40, capacity 50 tok/s"
    assert decision.blocked is None


def test_a_minute_over_the_target_buys_the_missing_workers() -> None:
    decision = judge(190, 2)
    assert (*sized(decision), decision.buy) == ("up", 2, 5, 3)
    assert decision.reason == "demand 190, capacity 100 tok/s: utilization 190.0%, over 85.0%"


def test_a_burst_of_seconds_is_no_demand() -> None:
    assert judge(lambda moment: 100.0 if moment >= NOW - 15 else 20.0, 1).action == "hold"
    assert judge(lambda moment: 100.0 if moment >= NOW - 60 else 20.0, 1).action == "up"


def test_supply_is_what_each_worker_was_seen_to_deliver() -> None:
    slow, fast = make_worker("slow", tokens_per_s=10.0), make_worker("fast", tokens_per_s=90.0)
    assert judge(80, [slow, fast]).observed.supply_tokens_per_s == 100
    assert sized(judge(80, [slow, fast])) == ("hold", 2, 2)
    assert sized(judge(80, [slow, slow])) == ("up", 2, 8)


def test_a_worker_that_was_not_measured_counts_as_the_others_do() -> None:
    known, new = make_worker(tokens_per_s=30.0), make_worker("new", tokens_per_s=None)
    assert judge(0, [known, new]).observed.supply_tokens_per_s == 60
    assert judge(0, [new], spec=make_scale(tokens_per_s=7.0)).observed.supply_tokens_per_s == 7


def test_booting_workers_count_as_capacity() -> None:
    booting = make_workers(2, "new", ready=False, tokens_per_s=None)
    decision = judge(120, [*make_workers(1), *booting])
    assert sized(decision) == ("hold", 3, 3)
    assert (decision.observed.ready, decision.observed.booting) == (1, 2)


def test_questions_that_wait_too_long_scale_up_at_once() -> None:
    decision = judge(0, 2, traffic={"workers": in_flight({"w0": 41, "w1": 41})})
    assert (*sized(decision), decision.observed.waiting) == ("up", 2, 3, 80)
    assert decision.reason.endswith(": 80 questions waiting, a new one would wait 8.2 s, over 5 s")


def test_questions_before_all_workers_count_as_if_they_waited_at_each() -> None:
    for waiting, at_workers in ((80, (41, 41)), (3, (3, 2)), (1, (2, 1)), (0, (1, 1))):
        loads = dict(zip(("w0", "w1"), at_workers, strict=True))
        spread = judge(0, 2, traffic={"workers": in_flight(loads)})
        central = judge(0, 2, traffic={"workers": in_flight({"w0": 1, "w1": 1}), "waiting": waiting})
        assert central == spread


def test_a_question_that_waits_where_there_is_no_worker_brings_one() -> None:
    decision = judge(0, 0, traffic={"waiting": 1})
    assert (decision.action, decision.buy, decision.observed.waiting) == ("up", 1, 1)


def test_a_queue_buys_no_second_worker_where_the_first_one_is_replaced() -> None:
    assert judge(0, 0, traffic={"waiting": 1}, lost=1).buy == 1


def test_questions_within_the_queue_time_do_not_scale_up() -> None:
    assert judge(0, 2, traffic={"workers": in_flight({"w0": 25, "w1": 25})}).action != "up"


def test_busy_slots_do_not_scale_up_before_a_question_waits() -> None:
    """A place is taken for longer than a question may wait: that is work, and no queue."""
    quiet: dict[str, Any] = {"asked": {}, "answered": {}, "tokens": {}}
    spec = make_scale(tokens_per_answer=60 * SPEED)
    busy = judge(0, 1, spec=spec, traffic={**quiet, "workers": in_flight({"w0": 1})})
    assert (sized(busy), busy.observed.queue_seconds) == (("hold", 1, 1), 60.0)
    late = judge(0, 1, spec=spec, traffic={**quiet, "workers": in_flight({"w0": 9})})
    assert late.action == "up"


def test_a_queue_that_chance_makes_of_long_answers_does_not_scale_up() -> None:
    """With one place and answers of a minute, the few that may be late wait for minutes."""
    quiet: dict[str, Any] = {"asked": {}, "answered": {}, "tokens": {}}
    spec = make_scale(tokens_per_answer=60 * SPEED)
    for ahead, action in ((2, "hold"), (6, "hold"), (7, "up")):
        decision = judge(0, 1, spec=spec, traffic={**quiet, "workers": in_flight({"w0": ahead})})
        assert decision.action == action


def test_no_worker_is_drained_while_the_remaining_ones_have_no_free_slot() -> None:
    quiet: dict[str, Any] = {"asked": {}, "answered": {}, "tokens": {}}
    spec = make_scale(tokens_per_answer=60 * SPEED)
    decision = judge(0, 2, spec=spec, traffic={**quiet, "workers": in_flight({"w0": 1})})
    assert sized(decision) == ("hold", 2, 2)
    assert decision.reason.endswith("; not scaling down: a new question would wait for a slot")


def test_enough_workers_stay_for_a_new_question_to_find_a_slot() -> None:
    """One that hangs does not hold the others, and more demand does not lead to fewer."""
    stuck = {"workers": in_flight({"w0": 80})}
    decision = judge(10, 4, traffic=stuck)
    assert sized(decision) == ("down", 4, 2)
    assert decision.reason.endswith(": 1 worker was enough for 5 minutes; keeping 2: 79 questions waiting")
    assert sized(judge(60, 4, traffic=stuck)) == ("down", 4, 2)


def test_one_waiting_question_is_reported_in_the_singular() -> None:
    decision = judge(0, 1, spec=make_scale(queue_time=0.1), traffic={"workers": in_flight({"w0": 2})})
    assert decision.reason.startswith("demand 0 and 1 question waiting, capacity 50 tok/s")


def test_questions_in_slots_are_no_queue() -> None:
    busy = {"workers": in_flight({"w0": 30, "w1": 30})}
    assert judge(0, 2, spec=make_scale(slots=30), traffic=busy).observed.waiting == 0


def test_a_queue_buys_no_second_worker_while_the_first_one_boots() -> None:
    workers = [*make_workers(1), make_worker("new", ready=False, tokens_per_s=None)]
    decision = judge(0, workers, traffic={"workers": in_flight({"w0": 50})})
    assert sized(decision) == ("hold", 2, 2)


def test_a_long_queue_buys_the_workers_that_drain_it_while_one_boots() -> None:
    decision = judge(0, 1, traffic={"workers": in_flight({"w0": 3001})})
    assert decision.after == math.ceil(3000 * TOKENS / 180 / 0.85 / SPEED) == 4


def test_a_fleet_sized_by_probability_does_not_shrink_and_grow_in_turn() -> None:
    """By probability two are enough, with nothing to spare: a fleet of three keeps them."""
    hasty = make_scale(queue_time=0.05)
    assert [judge(20, count, spec=hasty).after for count in (1, 2, 3, 4)] == [2, 2, 3, 3]


def test_a_boot_that_takes_longer_than_was_learned_does_not_bring_more_and_more() -> None:
    queue, quick = {"workers": in_flight({"w0": 3001})}, {"boot_seconds": 10.0}
    for age, size in ((5, 8), (300, 3), (9000, 2)):
        booting = make_worker("new", ready=False, tokens_per_s=None, started=NOW - age)
        assert judge(0, [*make_workers(1), booting], traffic=queue, history=quick).after == size


def test_no_worker_is_drained_while_questions_wait_too_long() -> None:
    """Otherwise a queue of long ago would bring a worker in one step and end it in the next, for ever."""
    workers = [*make_workers(1), make_worker("new", ready=False, tokens_per_s=None)]
    decision = judge(0, workers, traffic={"workers": in_flight({"w0": 30})})
    assert decision.drain == ()
    assert "not scaling down: 29 questions waiting" in decision.reason


def test_questions_wait_where_no_worker_is_ready() -> None:
    workers = make_workers(2, ready=False, tokens_per_s=None)
    decision = judge(0, workers, traffic={"workers": in_flight({"w0": 2})})
    assert decision.observed.queue_seconds == math.inf
    assert "2 questions waiting" in decision.reason


# --- down ---


def test_fewer_are_wanted_when_fewer_would_have_done_for_the_whole_time() -> None:
    decision = judge(41, 3)
    assert sized(decision) == ("down", 3, 2)
    assert decision.reason == ("demand 41, capacity 150 tok/s: 2 workers were enough for 5 minutes")


def test_no_fewer_where_fewer_would_come_into_the_band() -> None:
    assert judge(39, 2).action == "down"
    assert judge(41, 2).action == "hold"


@pytest.mark.parametrize(("ago", "after"), [(280, 3), (365, 1)])
def test_the_highest_minute_of_the_time_counts(ago: float, after: int) -> None:
    assert judge(spike(110.0, ago), 3).after == after


def test_a_boot_that_takes_longer_than_the_time_counts_instead() -> None:
    history = {"boot_seconds": 900.0}
    assert judge(spike(110.0, 600), 3).after == 1
    assert judge(spike(110.0, 600), 3, history=history).after == 3
    assert judge(10, 3, history=history).reason.endswith("1 worker was enough for 15 minutes")


def test_the_boot_time_that_was_learned_counts_and_until_then_the_one_that_is_set() -> None:
    assert judge(0, history={"boot_seconds": 77.0}).observed.boot_seconds == 77
    assert judge(0, spec=make_scale(boot_seconds=66.0)).observed.boot_seconds == 66


def test_a_boot_longer_than_counts_are_kept_does_not_keep_workers_for_ever() -> None:
    workers = make_workers(3, started=NOW - 14_400)
    assert judge(10, workers, history={"boot_seconds": 80_000.0}).after == 1


def test_no_worker_is_drained_on_too_short_a_history() -> None:
    decision = judge(0, 3, traffic={"since": NOW - 90})
    assert sized(decision) == ("hold", 3, 3)
    assert decision.reason.endswith("; not scaling down: only 90 s of history")


def test_counts_from_the_future_drain_no_worker() -> None:
    """The clock of Redis was put back: what it counted last is still to come."""
    counts = {int(NOW) + 3600: 900, int(NOW) - 60: 1}
    traffic = replace(make_traffic({}), asked=counts)
    decision = decide(make_scale(), Metrics(traffic), FleetView(make_workers(3)), NOW)
    assert sized(decision) == ("hold", 3, 3)


def test_the_worker_with_the_fewest_tokens_per_dollar_is_drained_first() -> None:
    workers = [
        make_worker("dear", price=2.0, tokens_per_s=60.0),
        make_worker("cheap", price=0.1, tokens_per_s=20.0),
        make_worker("usual", price=0.4, tokens_per_s=50.0),
    ]
    assert judge(0, workers, spec=LAZY, traffic={"asked": {}}).drain == ("dear", "usual", "cheap")


def test_where_nothing_costs_anything_the_slowest_goes_first() -> None:
    workers = [make_worker("slow", price=0.0, tokens_per_s=10.0), make_worker("fast", price=0.0)]
    assert judge(10, workers).drain == ("slow",)


def test_a_worker_that_delivers_nothing_goes_first_whatever_it_costs() -> None:
    workers = [make_worker("idle", price=0.0, tokens_per_s=0.0), make_worker("dear", price=9.0)]
    assert judge(20, workers).drain == ("idle",)


def test_among_equals_the_one_that_boots_goes_and_then_the_youngest() -> None:
    workers = [
        make_worker("boots", ready=False),
        make_worker("young", started=NOW - 600),
        make_worker("old", started=NOW - 6000),
    ]
    assert judge(10, workers).drain == ("boots", "young")


def test_no_ready_worker_is_drained_for_a_better_one_that_still_boots() -> None:
    better = make_worker("better", price=0.2, tokens_per_s=None, ready=False)
    decision = judge(10, [make_worker("dear", price=2.0), better])
    assert sized(decision) == ("hold", 2, 2)
    assert decision.reason.endswith("; not scaling down: the workers that would stay are still booting")
    assert judge(10, [make_worker("dear", price=2.0), replace(better, ready=True)]).drain == ("dear",)


def test_a_worker_that_drains_is_taken_back_before_one_is_bought() -> None:
    workers = [*make_workers(1), make_worker("back", draining=True)]
    decision = judge(130, workers)
    assert (sized(decision), decision.revive, decision.buy) == (("up", 1, 4), ("back",), 2)


def test_the_best_draining_worker_is_revived() -> None:
    drained = [make_worker("dear", price=3.0, draining=True), make_worker("cheap", draining=True)]
    assert judge(60, [*make_workers(1), *drained]).revive == ("cheap",)


def test_a_worker_that_drains_delivers_nothing_and_does_not_count() -> None:
    decision = judge(40, [*make_workers(1), make_worker("gone", draining=True)])
    assert (decision.before, decision.observed.draining, decision.observed.supply_tokens_per_s) == (1, 1, 50)


def test_a_fleet_that_drains_as_a_whole_is_taken_back() -> None:
    decision = judge(40, make_workers(3, draining=True))
    assert (sized(decision), decision.revive, decision.buy) == (("up", 0, 1), ("w0",), 0)


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


# --- to zero and back ---


def test_the_last_worker_is_drained_after_a_long_time_without_questions() -> None:
    quiet = {int(NOW) - 1860: 9}
    assert sized(judge(quiet, 1, spec=LAZY)) == ("down", 1, 0)


def test_the_last_worker_stays_after_a_recent_question() -> None:
    decision = judge({int(NOW) - 1800: 9}, 1, spec=LAZY)
    assert sized(decision) == ("hold", 1, 1)
    assert decision.reason.endswith("; the last question came 30 minutes ago")


def test_the_last_worker_stays_where_the_last_question_is_unknown() -> None:
    decision = judge({}, 1, spec=LAZY, traffic={"since": NOW - 600})
    assert sized(decision) == ("hold", 1, 1)
    assert decision.reason.endswith("; not known yet when the last question came")


def test_a_question_brings_the_first_one() -> None:
    decision = judge({int(NOW) - 15: 1}, 0, spec=LAZY)
    assert (sized(decision), decision.buy) == (("up", 0, 1), 1)
    assert decision.reason.endswith("; the last question came 0 s ago")


def test_a_question_of_some_time_ago_brings_the_first_one_too() -> None:
    decision = judge({int(NOW) - 900: 1}, 0, spec=LAZY)
    assert sized(decision) == ("up", 0, 1)
    assert decision.reason.endswith("; the last question came 15 minutes ago")


def test_many_questions_bring_more_than_the_first_one() -> None:
    assert judge(100, 0, spec=LAZY).after == 3


def test_without_workers_and_questions_nothing_happens() -> None:
    assert sized(judge({}, 0, spec=LAZY)) == ("hold", 0, 0)
    assert sized(judge({}, 0, spec=LAZY, traffic={"since": NOW})) == ("hold", 0, 0)


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


# --- what cannot be ---


def test_metrics_that_lie_change_nothing() -> None:
    decision = judge(200, [*make_workers(2), make_worker("bad", tokens_per_s=math.nan)])
    assert sized(decision) == ("hold", 3, 3)
    assert decision.blocked is not None
    assert decision.blocked.kind == "metrics"
    assert decision.reason == "invalid metric: tokens per second of bad: nan"


def test_workers_that_deliver_nothing_are_said_to() -> None:
    decision = judge(30, make_workers(2, tokens_per_s=0.0))
    assert decision.after == 3
    assert decision.reason.endswith(": the workers deliver nothing")


@pytest.mark.parametrize("speed", [5e-324, 1e-9, 0.01])
def test_workers_that_deliver_next_to_nothing_lead_to_no_more_than_the_most(speed: float) -> None:
    assert judge(30, [make_worker(tokens_per_s=speed)]).after == 8


# What chance does, and a worker that is ill


def test_a_minute_that_is_busy_by_chance_does_not_scale_up() -> None:
    """14 questions instead of 10: a few questions are never the same number."""
    now = int(NOW)
    asked = {now - 60: 14, **dict.fromkeys(range(now - 300, now - 60, 60), 10)}
    traffic = {"asked": asked, "answered": asked, "tokens": {at: 200 * n for at, n in asked.items()}}
    decision = judge(0, 1, spec=make_scale(max_late_ratio=1.0), traffic=traffic)
    assert decision.observed.demand_tokens_per_s > 0.85 * decision.observed.supply_tokens_per_s
    assert decision.action == "hold"


def test_the_same_minute_scales_up_where_there_were_many_questions() -> None:
    now = int(NOW)
    asked = {now - 60: 1600, **dict.fromkeys(range(now - 300, now - 60, 60), 1000)}
    traffic = {"asked": asked, "answered": asked, "tokens": {at: 2 * n for at, n in asked.items()}}
    assert judge(0, 1, spec=make_scale(max_late_ratio=1.0), traffic=traffic).action == "up"


def test_a_worker_of_a_steady_load_is_not_drained_for_five_quiet_minutes() -> None:
    """9 questions in 15 seconds take three workers; 5 may be chance for some minutes, but not for an hour."""
    now, spec = int(NOW), make_scale(tokens_per_answer=180.0, max_late_ratio=1.0)
    for minutes, action in ((6, "hold"), (60, "down")):
        quiet = range(now - 60 * minutes, now, 15)
        asked = {**dict.fromkeys(range(now - 10_800, now, 15), 9), **dict.fromkeys(quiet, 5)}
        decision = judge(0, 3, spec=spec, traffic={"asked": asked, "answered": {}, "tokens": {}})
        assert (minutes, decision.action) == (minutes, action)


def test_a_queue_at_one_worker_does_not_scale_up_while_another_is_free() -> None:
    """Questions that wait for a worker stay with it: others would not help them."""
    decision = judge(0, 2, traffic={"workers": in_flight({"w0": 200})})
    assert (decision.action, decision.observed.waiting, decision.observed.queue_seconds) == ("hold", 199, 0.0)


def test_one_worker_that_is_much_faster_is_not_what_the_next_one_will_be() -> None:
    speeds = (50.0, 50.0, 5000.0)
    workers = [make_worker(f"w{n}", tokens_per_s=speed) for n, speed in enumerate(speeds)]
    decision = judge(5000, workers, spec=make_scale(max_gpus=100, max_step=100, max_late_ratio=1.0))
    assert decision.buy == math.ceil((5000 / 0.85 - 5100) / 50)


def test_a_draining_worker_that_delivers_nothing_is_not_revived() -> None:
    workers = [make_worker("w0"), make_worker("sick", tokens_per_s=0.0, draining=True)]
    decision = judge(90, workers, spec=make_scale(max_late_ratio=1.0))
    assert (decision.revive, decision.buy) == ((), 2)


def test_a_cheap_worker_stays_where_the_budget_ends_a_dear_one() -> None:
    workers = [make_worker("dear", price=2.0, tokens_per_s=4000.0), make_worker("cheap", price=0.1)]
    decision = judge(100, workers, funds=limited(per_hour=1.0))
    assert (decision.drain, decision.after) == (("dear",), 1)


def test_what_waits_is_worked_off_within_a_boot() -> None:
    waiting = {"workers": in_flight({"w0": 181, "w1": 181})}
    decision = judge(0, 2, spec=make_scale(max_late_ratio=1.0, max_gpus=100, max_step=100), traffic=waiting)
    assert decision.buy == 1  # 360 questions of 10 tokens in 180 s are 20 tokens/s, and nobody boots


def test_what_waits_may_be_worked_off_sooner() -> None:
    waiting = {"workers": in_flight({"w0": 181, "w1": 181})}
    spec = make_scale(max_late_ratio=1.0, max_gpus=100, max_step=100, drain_backlog_within=5.0)
    decision = judge(0, 2, spec=spec, traffic=waiting)
    assert decision.after == math.ceil(360 * 10 / 5 / 0.85 / 50)
