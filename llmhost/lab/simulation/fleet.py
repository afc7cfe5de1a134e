"""The workers of one simulated fleet: bought, booting, working, drained, broken; and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace

import numpy as np

from llmhost.lab.simulation.workload import Settings

__all__ = ["Machine", "Resize", "SimFleet", "Slot", "assign", "late"]

# Questions and slots: each goes, when it comes, to the slot that is free first. The inner loops.
#
# They run millions of times, so they work on lists and plain numbers: numpy's are slower one by one.

#: when it is free, in seconds, and whose it is; a heap of them has the first that is free on top
Slot = tuple[float, int]


def assign(
    times: Sequence[float], service: Sequence[float], slots: list[Slot]
) -> tuple[list[float], list[int]]:
    """When each question begins, and on which worker. `slots` is a heap with at least one in it, and is
    changed.
    """
    begun: list[float] = []
    workers: list[int] = []
    for time, needs in zip(times, service, strict=True):
        free, worker = slots[0]
        if free < time:
            free = time
        begun.append(free)
        workers.append(worker)
        heapreplace(slots, (free + needs, worker))
    return begun, workers


def late(
    times: Sequence[float], service: Sequence[float], free: list[float], patience: float, most: int
) -> int:
    """How many do not begin within `patience` seconds; it stops counting after `most`. `free`, when each slot
    is free, is changed.
    """
    heapify(free)
    count = 0
    for time, needs in zip(times, service, strict=True):
        begin = free[0]
        if begin < time:
            begin = time
        elif begin - time > patience:
            count += 1
            if count > most:
                break
        heapreplace(free, begin + needs)
    return count


_HOUR = 3600.0


@dataclass(slots=True)
class Machine:
    """One worker. Times in seconds of the simulation. One that is not `sound` never boots, which is seen when
    it should have, at `booted`.

    `free` is when each of its slots will be free, while it drains; otherwise they lie in the fleet's heap.
    """

    id: int
    bought: float
    booted: float
    sound: bool
    answers: bool = False
    draining: bool = False
    free: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Resize:
    """What a rule wants done: `buy` that many, keep the draining `revive`, and drain `drain`."""

    buy: int = 0
    revive: tuple[int, ...] = ()
    drain: tuple[int, ...] = ()


class SimFleet:
    """Only what a step does changes a fleet, besides death: in the product, too, it is a step that notices
    that a worker answers, that one never will, and that one is dead; until then each is paid for.

    `paid` are seconds of those that ended, `failures` when purchases failed, `lost` those that
    died since the last step but one. `slots` is the heap of those that take questions.
    """

    def __init__(self, settings: Settings, slots: int, start: int) -> None:
        self._settings, self._per_worker = settings, slots
        self._chance = np.random.default_rng(settings.seed)
        self._deaths: list[tuple[float, int]] = []
        self._dead: list[Machine] = []
        self.machines: dict[int, Machine] = {}
        self.slots: list[Slot] = []
        self.paid = 0.0
        self.purchases = 0
        self.failures: list[float] = []
        self.lost = 0
        for number in range(start):
            self.machines[number] = machine = Machine(number, 0.0, 0.0, sound=True)
            self._begin(machine, 0.0)
        self._next = start

    @property
    def staff(self) -> list[Machine]:
        """Those that take questions, or will when they have booted."""
        return [machine for machine in self.machines.values() if not machine.draining]

    def paid_until(self, now: float) -> float:
        """Seconds of all workers together."""
        there = (*self.machines.values(), *self._dead)
        return self.paid + sum(max(0.0, now - machine.bought) for machine in there)

    def notice(self, now: float) -> None:
        """What a step sees before it decides."""
        self.lost = sum(not machine.draining for machine in self._dead)
        for machine in self._dead:
            self.paid += now - machine.bought
        self._dead.clear()
        for machine in list(self.machines.values()):
            if machine.draining:
                self._end_if_idle(machine, now)
            elif not machine.answers and machine.booted <= now:
                self._see_boot(machine, now)

    def apply(self, change: Resize, now: float) -> None:
        """Does what a step has decided."""
        for number in change.revive:
            machine = self.machines[number]
            machine.draining = False
            self._put_in(machine.id, [max(now, free) for free in machine.free])
            machine.free = []
        self._drain({number: self.machines[number] for number in change.drain}, now)
        for _ in range(change.buy):
            sound = self._chance.random() >= self._settings.boot_failures
            booted = now + self._settings.boot_seconds
            self.machines[self._next] = Machine(self._next, now, booted, sound)
            self._next += 1
            self.purchases += 1

    def next_death(self) -> float:
        """When; infinite where none will come."""
        while self._deaths and self._deaths[0][1] not in self.machines:
            heappop(self._deaths)
        return self._deaths[0][0] if self._deaths else math.inf

    def kill_next(self) -> int:
        """The next one dies: its slots are gone. Returns whose questions have to be asked again."""
        _, number = heappop(self._deaths)
        self._dead.append(self.machines.pop(number))
        self._take_out({number})
        return number

    def close(self, end: float) -> float:
        """Everything is ended: what was paid for, in seconds, each worker until its last answer."""
        self.notice(end)
        last = dict.fromkeys(self.machines, end)
        draining = [(free, machine.id) for machine in self.machines.values() for free in machine.free]
        for free, number in (*self.slots, *draining):
            last[number] = max(last[number], free)
        return self.paid + sum(last[number] - machine.bought for number, machine in self.machines.items())

    def work_left(self) -> dict[int, float]:
        """When each worker that takes questions will have answered all that it has."""
        left: dict[int, float] = {}
        for free, number in self.slots:
            left[number] = max(left.get(number, 0.0), free)
        return left

    def _see_boot(self, machine: Machine, now: float) -> None:
        if machine.sound:
            self._begin(machine, now)
            return
        del self.machines[machine.id]
        self.paid += now - machine.bought
        self.failures.append(now)

    def _begin(self, machine: Machine, now: float) -> None:
        machine.answers = True
        self._put_in(machine.id, [now] * self._per_worker)
        if self._settings.deaths_per_hour:
            lifetime = self._chance.exponential(_HOUR / self._settings.deaths_per_hour)
            heappush(self._deaths, (now + lifetime, machine.id))

    def _drain(self, leaving: dict[int, Machine], now: float) -> None:
        for free, number in self._take_out(set(leaving)):
            leaving[number].free.append(max(now, free))
        for machine in leaving.values():
            machine.draining = True
            machine.free = machine.free or [now]  # one that boots has nothing to finish
            self._end_if_idle(machine, now)

    def _end_if_idle(self, machine: Machine, now: float) -> None:
        last = max(machine.free)
        if last <= now:
            del self.machines[machine.id]
            self.paid += last - machine.bought

    def _put_in(self, number: int, free: Iterable[float]) -> None:
        for moment in free:
            heappush(self.slots, (moment, number))

    def _take_out(self, leaving: set[int]) -> Sequence[Slot]:
        gone = [place for place in self.slots if place[1] in leaving]
        if gone:
            self.slots = [place for place in self.slots if place[1] not in leaving]
            heapify(self.slots)
        return gone
