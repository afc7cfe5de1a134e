"""The policy in the simulation sees what it would see in Redis, and is the same function."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from doubles.simulated import SPEC, make_trace, poisson_trace, world

from llmhost.autoscale.models import FleetView, Metrics, ScaleSpec
from llmhost.engines.traffic import BUCKET
from llmhost.fleet.budget import Limits
from llmhost.lab.simulation.play import Played, Scene, play
from llmhost.lab.simulation.policy import AutoscalePolicy
from llmhost.lab.simulation.workload import Settings, Trace, make_workload


class Watched(AutoscalePolicy):
    """Remembers what it was shown, and checks it against the book."""

    def __init__(self, spec: ScaleSpec, settings: Settings, limits: Limits | None = None) -> None:
        super().__init__(spec, settings.interval, settings.price, limits)
        self.seen: list[tuple[Metrics, FleetView]] = []
        self.truth: list[tuple[int, int, int]] = []

    def view(self, scene: Scene) -> tuple[Metrics, FleetView]:
        shown = super().view(scene)
        self.seen.append(deepcopy(shown))  # the counts go on
        finished = scene.book.finished[: scene.arrived]
        done = finished <= scene.now
        tokens = int(scene.load.tokens[: scene.arrived][done].sum())
        self.truth.append((scene.arrived, int(done.sum()), tokens))
        return shown


def watched(
    trace: Trace, spec: ScaleSpec = SPEC, limits: Limits | None = None, start: int = 1, **changed: float
) -> tuple[Played, Watched]:
    settings = world(**changed)
    spec = replace(spec, tokens_per_s=settings.worker_tokens_per_s, boot_seconds=settings.boot_seconds)
    policy = Watched(spec, settings, limits)
    return play(make_workload(trace, settings, spec.slots), settings, policy, start), policy


@pytest.mark.parametrize("interval", [60, 37])
def test_what_was_asked_and_answered_is_counted_once_and_nothing_of_the_future(interval: float) -> None:
    trace = poisson_trace(1.5, 1500, tokens=130)  # shorter than what is kept
    rounded = Trace(trace.times, trace.prompt, np.round(trace.generated), epoch=1_700_000_040.0)
    _, policy = watched(rounded, start=2, interval=interval, deaths_per_hour=6)
    for (history, _), truth in zip(policy.seen, policy.truth, strict=True):
        traffic, (arrived, done, _) = history.traffic, truth
        counts = (traffic.asked, traffic.answered, traffic.tokens)
        assert tuple(sum(count.values()) for count in counts) == truth
        assert sum(worker.in_flight for worker in traffic.workers.values()) <= arrived - done
        assert max([*traffic.asked, *traffic.answered], default=0) <= traffic.at


def test_buckets_are_those_of_the_product() -> None:
    trace = replace(make_trace([0, 14, 16, 100]), epoch=1_700_000_040.0)
    _, policy = watched(trace)
    history, _ = policy.seen[1]
    assert history.traffic.asked == {1_700_000_040 // BUCKET * BUCKET: 2, 1_700_000_055: 1}
    assert all(bucket % BUCKET == 0 for bucket in history.traffic.asked)


def test_a_worker_is_as_fast_as_its_answers_show() -> None:
    trace = Trace(np.arange(0.0, 600, 30), np.full(20, 4000.0), np.full(20, 100.0))
    _, policy = watched(trace)
    first, later = policy.seen[0][1].workers[0], policy.seen[5][1].workers[0]
    assert first.tokens_per_s is None
    assert later.tokens_per_s == pytest.approx(50)  # a second to read, a second to write


def test_it_follows_a_rising_load_and_ends_what_is_idle() -> None:
    quiet, busy, late = np.arange(0, 3000, 4.0), np.arange(3000, 7000, 0.25), np.arange(7000, 15_000, 4.0)
    rise = np.concatenate([quiet, busy, late])
    outcome, _ = watched(make_trace(list(rise)))
    assert outcome.sizes[40] == 1
    assert outcome.sizes[60:110].max() >= 5
    assert outcome.sizes[-1] == 1
    assert (outcome.waits <= 5).mean() > 0.8


def test_a_budget_holds() -> None:
    steady = make_trace(list(np.arange(0, 7200, 0.25)))
    free, _ = watched(steady)
    bound, _ = watched(steady, limits=Limits(per_hour=3.0))
    assert free.sizes.max() > 3 == bound.sizes.max()
    day_limit, _ = watched(steady, limits=Limits(per_day=30.0))
    assert day_limit.paid / 3600 <= 30


def test_it_stops_buying_after_purchases_that_came_to_nothing() -> None:
    outcome, policy = watched(
        make_trace(list(np.arange(0, 3000, 0.25))),
        replace(SPEC, max_failures=3, max_step=2),
        boot_failures=0.99,
    )
    assert outcome.failures >= 3
    assert outcome.purchases <= 3 + 2 * SPEC.max_step
    assert len(policy.seen[-1][0].failures) == 3


def test_a_dead_worker_is_shown_as_lost_once_and_replaced() -> None:
    outcome, policy = watched(make_trace(list(np.arange(0, 20_000, 2.0))), start=1, deaths_per_hour=1, seed=3)
    lost = sum(fleet.lost for _, fleet in policy.seen)
    assert lost > 0
    assert outcome.purchases >= lost
    assert np.isfinite(outcome.waits).all()
