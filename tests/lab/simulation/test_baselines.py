"""The rivals of the policy."""

from __future__ import annotations

import numpy as np
import pytest
from doubles.simulated import SPEC, make_trace, poisson_trace, world

from llmhost.lab.simulation.baselines import (
    Fixed,
    RequestRate,
    clairvoyant_plan,
    first_need,
    for_mean,
    for_peak,
)
from llmhost.lab.simulation.play import play
from llmhost.lab.simulation.report import Scenario
from llmhost.lab.simulation.workload import Workload, make_workload


def sizes_by_rule(questions_per_minute: list[int], start: int = 1) -> list[int]:
    """The sizes that the request rule wants at 1 question a second and worker, step by step."""
    times = [
        60 * minute + place * 60 / count
        for minute, count in enumerate(questions_per_minute)
        for place in range(count)
    ]
    settings = world(worker_tokens_per_s=1000)
    load = make_workload(make_trace([*times, 60 * len(questions_per_minute)]), settings, 1)
    rule = RequestRate(1.0, start, 1, 5)
    return play(load, settings, rule, start).sizes.tolist()


def test_more_requests_count_after_they_were_more_for_five_minutes() -> None:
    sizes = sizes_by_rule([30] + [150] * 9)
    # 90 s fill the window enough for two, and 15 decisions of 20 s later it is done.
    assert sizes.index(2 if 2 in sizes else 3) * 20 >= 60 + 300
    assert max(sizes) == 3


def test_a_burst_shorter_than_the_delay_changes_nothing() -> None:
    assert set(sizes_by_rule([30, 200, 200, 200, 200, 30, 30, 30, 30, 30, 30])) == {1}


def test_a_pause_sets_the_delay_back() -> None:
    assert set(sizes_by_rule([30, 200, 200, 200, 200, 30, 30, 200, 200, 200, 200, 30, 30])) == {1}


def test_fewer_requests_count_after_they_were_fewer_for_twenty_minutes() -> None:
    sizes = sizes_by_rule([30] * 30, start=3)
    assert sizes.index(1) * 20 == 1200 - 20


def test_the_rule_keeps_to_its_limits() -> None:
    assert max(sizes_by_rule([1200] * 12)) == 5
    assert min(sizes_by_rule([1] * 30, start=2)) == 1


def test_the_fleet_for_the_mean_can_just_do_the_work() -> None:
    load = workload(poisson_trace(2.0, 3000))
    assert for_mean(load) == int(np.ceil(load.service.sum() / load.span))


def test_what_all_begin_with_is_what_ten_minutes_need() -> None:
    load = workload(make_trace([*np.arange(0, 600, 0.5), *np.arange(600, 3600, 0.1)]))
    assert first_need(load, 0.8) == 3  # two are busy all the time, with a fifth to spare


@pytest.mark.parametrize("rate", [0.7, 3.0])
def test_the_fleet_for_the_peak_is_the_smallest_that_serves_99_percent(rate: float) -> None:
    settings, load = world(), workload(poisson_trace(rate, 5000))
    size = for_peak(load, most=50)
    shares = [
        (play(load, settings, Fixed(count, 60.0), count).waits <= 5).mean() for count in (size - 1, size)
    ]
    assert shares[0] < 0.99 <= shares[1]


def test_the_fleet_for_the_peak_is_no_larger_than_allowed() -> None:
    assert for_peak(workload(poisson_trace(5.0, 500)), most=3) == 3


def workload(trace: object, **changed: float) -> Workload:
    return make_workload(trace, world(**changed), 1)  # type: ignore[arg-type]


def burst(start: float, count: int = 6) -> list[float]:
    return [start + place / 100 for place in range(count)]


def test_the_clairvoyant_plan_boots_before_a_burst_and_ends_after_it() -> None:
    load = workload(make_trace([0, *burst(1200), 3000], tokens=1000))
    plan = clairvoyant_plan(load, boot=120, least=1, most=50)
    assert plan == [1] * 18 + [6] * 3 + [1] * (len(plan) - 21)


def test_the_clairvoyant_plan_bridges_a_pause_that_is_shorter_than_a_boot() -> None:
    load = workload(make_trace([0, *burst(1200), *burst(1320), 3000], tokens=1000))
    assert clairvoyant_plan(load, boot=120, least=1, most=50)[18:23] == [6] * 5


def test_the_clairvoyant_plan_keeps_to_the_limits() -> None:
    load = workload(make_trace([0, *burst(1200), 3000], tokens=1000))
    plan = clairvoyant_plan(load, boot=120, least=2, most=4)
    assert set(plan) == {2, 4}


def test_the_clairvoyant_fleet_serves_all_in_time_and_for_less_than_a_fixed_one() -> None:
    quiet, busy = poisson_trace(0.5, 20_000), poisson_trace(4.0, 3000)
    trace = make_trace(list(np.sort(np.concatenate([quiet.times, 9000 + busy.times]))), tokens=150)
    scenario = Scenario(trace, world(boot_seconds=180), SPEC)
    row = scenario.row("clairvoyant", scenario.clairvoyant())
    peak = scenario.row("peak", scenario.for_peak())
    assert row.in_time > 0.995
    assert scenario.floor_usd <= row.cost_usd < peak.cost_usd
