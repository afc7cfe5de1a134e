"""What the autoscaler decides from load and capacity: the policy, sentence by sentence."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

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
    sized,
)

from llmhost.autoscale.models import FleetView, Metrics
from llmhost.autoscale.policy import decide

#: may be without workers
LAZY = make_scale(min_gpus=0)


def spike(height: float, ago: float) -> Rate:
    """10 tokens a second, and in one minute `ago` seconds ago `height`."""
    return lambda moment: height if NOW - ago <= moment < NOW - ago + 60 else 10.0


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


def test_a_queue_at_one_worker_does_not_scale_up_while_another_is_free() -> None:
    """Questions that wait for a worker stay with it: others would not help them."""
    decision = judge(0, 2, traffic={"workers": in_flight({"w0": 200})})
    assert (decision.action, decision.observed.waiting, decision.observed.queue_seconds) == ("hold", 199, 0.0)


def test_one_worker_that_is_much_faster_is_not_what_the_next_one_will_be() -> None:
    speeds = (50.0, 50.0, 5000.0)
    workers = [make_worker(f"w{n}", tokens_per_s=speed) for n, speed in enumerate(speeds)]
    decision = judge(5000, workers, spec=make_scale(max_gpus=100, max_step=100, max_late_ratio=1.0))
    assert decision.buy == math.ceil((5000 / 0.85 - 5100) / 50)


def test_what_waits_is_worked_off_within_a_boot() -> None:
    waiting = {"workers": in_flight({"w0": 181, "w1": 181})}
    decision = judge(0, 2, spec=make_scale(max_late_ratio=1.0, max_gpus=100, max_step=100), traffic=waiting)
    assert decision.buy == 1  # 360 questions of 10 tokens in 180 s are 20 tokens/s, and nobody boots


def test_what_waits_may_be_worked_off_sooner() -> None:
    waiting = {"workers": in_flight({"w0": 181, "w1": 181})}
    spec = make_scale(max_late_ratio=1.0, max_gpus=100, max_step=100, drain_backlog_within=5.0)
    decision = judge(0, 2, spec=spec, traffic=waiting)
    assert decision.after == math.ceil(360 * 10 / 5 / 0.85 / 50)


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


def test_a_worker_of_a_steady_load_is_not_drained_for_five_quiet_minutes() -> None:
    """9 questions in 15 seconds take three workers; 5 may be chance for some minutes, but not for an hour."""
    now, spec = int(NOW), make_scale(tokens_per_answer=180.0, max_late_ratio=1.0)
    for minutes, action in ((6, "hold"), (60, "down")):
        quiet = range(now - 60 * minutes, now, 15)
        asked = {**dict.fromkeys(range(now - 10_800, now, 15), 9), **dict.fromkeys(quiet, 5)}
        decision = judge(0, 3, spec=spec, traffic={"asked": asked, "answered": {}, "tokens": {}})
        assert (minutes, decision.action) == (minutes, action)


def test_a_draining_worker_that_delivers_nothing_is_not_revived() -> None:
    workers = [make_worker("w0"), make_worker("sick", tokens_per_s=0.0, draining=True)]
    decision = judge(90, workers, spec=make_scale(max_late_ratio=1.0))
    assert (decision.revive, decision.buy) == ((), 2)


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
