"""A discrete-event simulation: questions come, are answered by the slot that is free first, and every
so often a rule looks at the fleet and changes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llmhost.lab.simulation.fleet import Resize, SimFleet, assign
from llmhost.lab.simulation.workload import Settings, Workload

__all__ = ["Book", "Played", "Rule", "Scene", "play"]

#: seconds after the trace's end; who still waits for a first worker then gets none
_GIVE_UP = 3600.0
#: worker of a question that none has taken yet
_NONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """For each question when its answer begins and is finished (float64 seconds) and on which worker (int32).

    Beginning and end are infinite where there is no worker yet. A worker that dies leaves its unfinished
    questions to others, so what lies in the future may still change.
    """

    begun: NDArray[np.float64]
    finished: NDArray[np.float64]
    worker: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a rule may look at in a step: the first `arrived` questions of `load`, and the fleet. What the
    book says of times after `now` it must not read.
    """

    now: float
    arrived: int
    load: Workload
    book: Book
    fleet: SimFleet


class Rule(Protocol):
    """Decides how large a fleet is to be. `interval` seconds lie between its steps."""

    @property
    def interval(self) -> float: ...

    def step(self, scene: Scene) -> Resize: ...


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """`waits` (float64 seconds) of all questions, infinite where there was no answer. `paid` are seconds of
    workers. `sizes` (int64) are those paid for after the steps at `steps` (float64 seconds).
    """

    waits: NDArray[np.float64]
    paid: float
    purchases: int
    failures: int
    steps: NDArray[np.float64]
    sizes: NDArray[np.int64]


def play(
    load: Workload,
    settings: Settings,
    rule: Rule,
    start: int,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Played:
    """The whole of `load` by `rule`, from `start` workers that answer already. `on_progress` gets the
    share that is done. The same arguments give the same outcome.
    """
    return _Play(load, settings, rule, start).run(on_progress)


class _Play:
    def __init__(self, load: Workload, settings: Settings, rule: Rule, start: int) -> None:
        self.load, self.rule = load, rule
        self.fleet = SimFleet(settings, load.slots, start)
        count = len(load)
        self.book = Book(
            np.full(count, math.inf), np.full(count, math.inf), np.full(count, _NONE, dtype=np.int32)
        )
        self.arrived = 0
        #: indices of questions that came when no worker was ready
        self.held = np.empty(0, dtype=np.int64)

    def run(self, on_progress: Callable[[float], None]) -> Played:
        """Steps lie at whole multiples of the interval."""
        span, steps, sizes, number = self.load.span, [], [], 0
        while (now := number * self.rule.interval) < span or (len(self.held) and now < span + _GIVE_UP):
            self.fleet.notice(now)
            scene = Scene(now, self.arrived, self.load, self.book, self.fleet)
            self.fleet.apply(self.rule.step(scene), now)
            self._serve_held(now)
            steps.append(now)
            sizes.append(len(self.fleet.machines))
            number += 1
            self._go_on_until(number * self.rule.interval)
            if number % 100 == 0:
                on_progress(min(1.0, now / span))
        return Played(
            waits=self.book.begun - self.load.times,
            paid=self.fleet.close(max(span, steps[-1])),
            purchases=self.fleet.purchases,
            failures=len(self.fleet.failures),
            steps=np.array(steps),
            sizes=np.array(sizes, dtype=np.int64),
        )

    def _go_on_until(self, end: float) -> None:
        """What happens between two steps: questions come and workers die. No worker dies after the trace."""
        while (death := self.fleet.next_death()) < min(end, self.load.span):
            self._arrive(death)
            self._ask_again(self.fleet.kill_next(), death)
        self._arrive(end)

    def _arrive(self, end: float) -> None:
        first, self.arrived = self.arrived, int(np.searchsorted(self.load.times, end))
        if first == self.arrived:
            return
        if not self.fleet.slots:
            self.held = np.concatenate([self.held, np.arange(first, self.arrived)])
            return
        self._serve(slice(first, self.arrived), self.load.times[first : self.arrived])

    def _ask_again(self, dead: int, now: float) -> None:
        """What a dead worker had not finished goes to the others, oldest first."""
        came = slice(0, self.arrived)
        left = np.flatnonzero((self.book.worker[came] == dead) & (self.book.finished[came] > now))
        self.book.begun[left] = self.book.finished[left] = math.inf
        self.book.worker[left] = _NONE
        self.held = np.union1d(self.held, left)
        self._serve_held(now)

    def _serve_held(self, now: float) -> None:
        if len(self.held) and self.fleet.slots:
            held, self.held = self.held, np.empty(0, dtype=np.int64)
            self._serve(held, np.full(len(held), now))

    def _serve(self, which: slice | NDArray[np.int64], asked: NDArray[np.float64]) -> None:
        service = self.load.service[which]
        begun, workers = assign(asked.tolist(), service.tolist(), self.fleet.slots)
        self.book.begun[which] = begun
        self.book.worker[which] = workers
        self.book.finished[which] = self.book.begun[which] + service
