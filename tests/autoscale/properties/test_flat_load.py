"""A load that stays the same for hours: the fleet settles, and chance does not move it to and fro."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.config.models import Config
from llmhost.lab.simulation.report import POLICY, REQUEST_RATE, Row, Scenario
from llmhost.lab.simulation.workload import Settings, Trace
from llmhost.wiring.fleets import scale_spec

HOURS = 8
#: steps, one a minute; until then the load is not known
SETTLING = 60


def play(load: float, slots: int, seconds: float, *, boot: float = 180.0, seed: int = 1) -> Scenario:
    """Questions that come by chance at an even rate and keep `load` workers busy on average. Answers take
    `seconds` on one of `slots`, some longer, most shorter.
    """
    chance, tokens = np.random.default_rng(seed), 300.0 * seconds / slots
    count = max(2, int(chance.poisson(load * slots / seconds * HOURS * 3600)))
    times = np.sort(chance.random(count) * HOURS * 3600)
    answers = np.maximum(1.0, np.round(chance.exponential(tokens, count)))
    trace = Trace(times - times[0], np.zeros(count), answers)
    spec = replace(scale_spec(Config()), max_gpus=50, slots=slots)
    return Scenario(trace, Settings(worker_tokens_per_s=300.0, boot_seconds=boot), spec)


def turns(row: Row) -> int:
    """How often the fleet changed its direction after it had settled."""
    sizes = row.played.sizes[SETTLING:].tolist()
    steps = [after - before for before, after in pairwise(sizes) if after != before]
    return sum((one > 0) != (other > 0) for one, other in pairwise(steps))


def run_policy(scenario: Scenario) -> Row:
    return scenario.row(POLICY, scenario.policy())


@pytest.mark.slow
@settings(max_examples=40)
@given(
    load=st.floats(0.1, 6.0),
    slots=st.sampled_from([1, 2, 4, 8]),
    seconds=st.floats(2.0, 60.0),
    boot=st.sampled_from([60.0, 180.0, 600.0]),
    seed=st.integers(0, 1000),
)
def test_a_fleet_under_a_constant_load_turns_at_most_twice_in_seven_hours(
    load: float, slots: int, seconds: float, boot: float, seed: int
) -> None:
    assert turns(run_policy(play(load, slots, seconds, boot=boot, seed=seed))) <= 2


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("load", "slots", "seconds"),
    [
        (0.6, 4, 3.0),  # 0.58 of a worker is what one may do by the odds
        (0.3, 4, 20.0),
        (1.6, 1, 3.0),
        (1.0, 4, 20.0),
        (2.5, 4, 20.0),
    ],
)
def test_a_load_at_the_edge_between_two_sizes_does_not_make_the_fleet_go_to_and_fro(
    load: float, slots: int, seconds: float, seed: int
) -> None:
    """An earlier policy turned 13 to 30 times in these seven hours."""
    scenario = play(load, slots, seconds, seed=seed)
    row = run_policy(scenario)
    assert turns(row) == 0
    assert row.in_time >= 0.95


def test_a_constant_load_costs_about_what_the_requests_per_second_rule_costs() -> None:
    scenario = play(2.5, 4, 20.0)
    rule = scenario.row(REQUEST_RATE, scenario.request_rate())
    row = run_policy(scenario)
    assert row.cost_usd <= rule.cost_usd * 1.05
    assert row.in_time >= rule.in_time - 0.01
