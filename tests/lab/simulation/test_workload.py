"""What is made of a trace before it is played."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from doubles.simulated import make_trace, poisson_trace, world

from llmhost.errors import UsageError
from llmhost.lab.simulation.workload import Settings, Trace, make_workload


def test_an_answer_takes_reading_and_writing() -> None:
    trace = Trace(np.zeros(1), np.array([8000.0]), np.array([300.0]))
    load = make_workload(trace, world(worker_tokens_per_s=400, prompt_tokens_per_s=4000), slots=4)
    assert load.service.tolist() == [2 + 3]  # a place writes a quarter of what its worker does


def test_speed_divides_the_times() -> None:
    load = make_workload(make_trace([0, 10, 20]), world(speed=2), 1)
    assert load.times.tolist() == [0, 5, 10]
    assert load.span == 15


def test_repeats_follow_each_other() -> None:
    load = make_workload(make_trace([0, 10]), world(repeat=3), 1)
    assert load.times.tolist() == [0, 10, 20, 30, 40, 50]
    assert load.span == 60


def test_the_cache_thins_what_the_gpus_get() -> None:
    trace = poisson_trace(10, 5000)
    load = make_workload(trace, world(hit_ratio=0.7), 1)
    assert load.hits + len(load) == len(trace)
    assert load.hits / len(trace) == pytest.approx(0.7, abs=0.01)
    assert set(load.times.tolist()) <= set(trace.times.tolist())


def test_another_seed_hits_others_and_the_same_seed_the_same() -> None:
    trace = poisson_trace(1, 1000)
    first, again, other = (
        make_workload(trace, world(hit_ratio=0.5, seed=seed), 1).times.tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


def test_too_much_and_nothing_at_all_are_refused() -> None:
    with pytest.raises(UsageError, match="more than 20,000,000"):
        make_workload(poisson_trace(10, 1000), world(repeat=10_000), 1)
    with pytest.raises(UsageError, match="it would last for 20,000 days"):
        make_workload(make_trace([0, 86_400]), world(repeat=10_000), 1)
    with pytest.raises(UsageError, match="nothing to simulate"):
        make_workload(make_trace([0]), world(hit_ratio=0.999), 1)
    with pytest.raises(UsageError, match="has a token"):
        make_workload(make_trace([0, 1], tokens=0), world(), 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("worker_tokens_per_s", 0),
        ("boot_seconds", -1),
        ("price", float("nan")),
        ("speed", float("inf")),
        ("hit_ratio", 1),
        ("interval", 0),
        ("boot_failures", 1.5),
        ("repeat", 0),
    ],
)
def test_a_world_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=name.replace("_", " ")):
        replace(Settings(worker_tokens_per_s=100), **dict[str, Any]({name: value}))
