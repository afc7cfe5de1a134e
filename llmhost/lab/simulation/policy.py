"""llmhost's own autoscaler in a simulated fleet: the function that `llmhost scale` asks, no copy of it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from llmhost.autoscale.models import FleetView, Metrics, ScaledWorker, ScaleSpec
from llmhost.autoscale.policy import decide
from llmhost.engines.traffic import BUCKET, KEPT, Traffic, WorkerTraffic
from llmhost.fleet.budget import Limits, Spent, period_starts
from llmhost.fleet.plan import Funds
from llmhost.lab.simulation.fleet import Resize, SimFleet
from llmhost.lab.simulation.play import Scene

__all__ = ["AutoscalePolicy"]

#: answers after which what a worker delivered before counts half
_HALF_LIFE = 100.0

_HOUR = 3600.0


class AutoscalePolicy:
    """Shows the policy what it would see in Redis, and does what it decides. `price` is USD an hour."""

    def __init__(self, spec: ScaleSpec, interval: float, price: float, limits: Limits | None = None) -> None:
        self.spec, self.interval = spec, interval
        self._price = price
        self._counts = _Counts()
        self._speeds = _Speeds(spec.slots)
        self._purse = _Purse(limits, price) if limits and limits.any else None

    def step(self, scene: Scene) -> Resize:
        history, fleet = self.view(scene)
        decision = decide(self.spec, history, fleet, history.traffic.at)
        numbers = {_name(number): number for number in scene.fleet.machines}
        return Resize(
            decision.buy,
            tuple(numbers[worker] for worker in decision.revive),
            tuple(numbers[worker] for worker in decision.drain),
        )

    def view(self, scene: Scene) -> tuple[Metrics, FleetView]:
        """What the policy is shown. To be asked once a step, as it counts on from one to the next."""
        fleet, epoch = scene.fleet, scene.load.epoch
        self._speeds.learn(scene, self._counts.read(scene))
        workers = tuple(
            ScaledWorker(
                _name(machine.id),
                machine.answers,
                self._price,
                epoch + machine.bought,
                self._speeds.of(machine.id),
                machine.draining,
            )
            for machine in fleet.machines.values()
        )
        failures = tuple(epoch + moment for moment in fleet.failures[-self.spec.max_failures :])
        funds = self._purse.funds(fleet, scene.now, epoch + scene.now) if self._purse else None
        history = Metrics(self._traffic(scene), failures=failures)
        return history, FleetView(workers, fleet.lost, self._price, funds)

    def _traffic(self, scene: Scene) -> Traffic:
        counts, epoch = self._counts, scene.load.epoch
        in_flight = counts.in_flight(scene)
        workers = {
            _name(machine.id): WorkerTraffic(in_flight.get(machine.id, 0), self._speeds.of(machine.id))
            for machine in scene.fleet.machines.values()
            if machine.answers
        }
        draining = frozenset(
            _name(machine.id) for machine in scene.fleet.machines.values() if machine.draining
        )
        at = epoch + scene.now
        return Traffic(at, epoch, counts.asked, counts.answered, counts.tokens, workers, draining)


class _Counts:
    """Questions and answers by bucket, as processes that ask would have counted them until now."""

    def __init__(self) -> None:
        self._read = -math.inf
        self._open = self._asked_until = 0
        self.asked: dict[int, int] = {}
        self.answered: dict[int, int] = {}
        self.tokens: dict[int, int] = {}

    def read(self, scene: Scene) -> NDArray[np.int64]:
        """Counts on until now. Returns which questions were answered since it was last called."""
        epoch = scene.load.epoch
        _add(self.asked, epoch + scene.load.times[self._asked_until : scene.arrived])
        finished = scene.book.finished[self._open : scene.arrived]
        done = self._open + np.flatnonzero((finished > self._read) & (finished <= scene.now))
        moments = epoch + scene.book.finished[done]
        _add(self.answered, moments)
        _add(self.tokens, moments, scene.load.tokens[done])
        unfinished = finished > scene.now
        self._open = self._open + int(unfinished.argmax()) if unfinished.any() else scene.arrived
        self._asked_until, self._read = scene.arrived, scene.now
        oldest = epoch + scene.now - KEPT
        for counts in (self.asked, self.answered, self.tokens):
            for bucket in [bucket for bucket in counts if bucket < oldest]:
                del counts[bucket]
        return done

    def in_flight(self, scene: Scene) -> dict[int, int]:
        """How many each worker has, as of the last `read`."""
        finished = scene.book.finished[self._open : scene.arrived]
        workers = scene.book.worker[self._open : scene.arrived]
        taken = workers[(finished > scene.now) & (workers >= 0)]
        return dict(zip(*(values.tolist() for values in np.unique(taken, return_counts=True)), strict=True))


class _Speeds:
    """What each worker delivers with all its slots in use, as its own answers show it."""

    def __init__(self, slots: int) -> None:
        self._places = slots
        self._seen: dict[int, tuple[float, float]] = {}

    def of(self, worker: int) -> float | None:
        """Tokens a second; None before its first answer."""
        tokens, seconds = self._seen.get(worker, (0.0, 0.0))
        return self._places * tokens / seconds if tokens and seconds else None

    def learn(self, scene: Scene, answers: NDArray[np.int64]) -> None:
        workers, which, count = np.unique(scene.book.worker[answers], return_inverse=True, return_counts=True)
        tokens = np.bincount(which, scene.load.tokens[answers], len(workers))
        seconds = np.bincount(which, scene.load.service[answers], len(workers))
        for worker, *new, answered in zip(
            *(values.tolist() for values in (workers, tokens, seconds, count)), strict=True
        ):
            left = 0.5 ** (answered / _HALF_LIFE)
            old = self._seen.get(worker, (0.0, 0.0))
            self._seen[worker] = (old[0] * left + new[0], old[1] * left + new[1])


class _Purse:
    """What was spent in this hour, day and month. Each begins with the first step in it."""

    def __init__(self, limits: Limits, price: float) -> None:
        self._limits, self._price = limits, price
        self._periods: tuple[float, ...] = (-1.0, -1.0, -1.0)
        self._before = [0.0, 0.0, 0.0]

    def funds(self, fleet: SimFleet, now: float, moment: float) -> Funds:
        """At `now` of the simulation, which is `moment`, Unix seconds."""
        total = fleet.paid_until(now) * self._price / _HOUR
        periods = period_starts(moment)
        for number, (old, new) in enumerate(zip(self._periods, periods, strict=True)):
            if old != new:
                self._before[number] = total
        self._periods = periods
        return Funds(self._limits, Spent(*(max(0.0, total - before) for before in self._before)))


def _add(
    counts: dict[int, int], moments: NDArray[np.float64], amounts: NDArray[np.float64] | None = None
) -> None:
    buckets, which = np.unique(moments // BUCKET, return_inverse=True)
    sums = np.bincount(which, amounts, len(buckets)).tolist()
    for bucket, amount in zip(buckets.tolist(), sums, strict=True):
        start = int(bucket) * BUCKET
        counts[start] = counts.get(start, 0) + round(amount)


def _name(number: int) -> str:
    return f"w{number}"
