"""Simple rules for the size of a fleet, as baselines for llmhost's policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from llmhost.lab.simulation.fleet import Resize, SimFleet, late
from llmhost.lab.simulation.play import Scene
from llmhost.lab.simulation.workload import IN_TIME, Workload

__all__ = [
    "BLOCK",
    "Fixed",
    "Planned",
    "RequestRate",
    "clairvoyant_plan",
    "first_need",
    "for_mean",
    "for_peak",
    "resize",
]


def resize(fleet: SimFleet, size: int) -> Resize:
    """To `size` workers. Those that boot go first, the newest of them before the others, then those that
    will have finished first.
    """
    staff = fleet.staff
    left = fleet.work_left()
    ranked = sorted(staff, key=lambda machine: (machine.answers, left.get(machine.id, -machine.booted)))
    surplus = max(0, len(staff) - size)
    return Resize(buy=max(0, size - len(staff)), drain=tuple(machine.id for machine in ranked[:surplus]))


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same number of workers; one that breaks is replaced."""

    size: int
    interval: float

    def step(self, scene: Scene) -> Resize:
        return resize(scene.fleet, self.size)


@dataclass(frozen=True, slots=True)
class Planned:
    """At step n the n-th size of a plan, then the last."""

    sizes: Sequence[int]
    interval: float

    def step(self, scene: Scene) -> Resize:
        number = round(scene.now / self.interval)
        return resize(scene.fleet, self.sizes[min(number, len(self.sizes) - 1)])


class RequestRate:
    """Questions a second over what one worker is meant to get, as SkyServe scales.

    Its delays are those that SkyServe documents as its defaults: a larger number must be wanted for 300 s
    and a smaller one for 1200 s before it counts; questions are counted over 60 s, every 20 s
    (https://docs.skypilot.co/en/stable/serving/autoscaling.html).
    """

    #: seconds; how often it decides, over what it counts, and how long it waits
    interval = 20.0
    window = 60.0
    up_delay, down_delay = 300.0, 1200.0

    def __init__(self, target_qps: float, start: int, least: int, most: int) -> None:
        self._target_qps, self._least, self._most = target_qps, least, most
        self._size = start
        self._above = self._below = 0.0

    def step(self, scene: Scene) -> Resize:
        first = np.searchsorted(scene.load.times, scene.now - self.window)
        rate = (scene.arrived - int(first)) / self.window
        wanted = min(self._most, max(self._least, math.ceil(rate / self._target_qps)))
        # Either clock runs only as long as the same side is wanted.
        self._above = self._above + self.interval if wanted > self._size else 0.0
        self._below = self._below + self.interval if wanted < self._size else 0.0
        if self._above >= self.up_delay or self._below >= self.down_delay:
            self._size = wanted
            self._above = self._below = 0.0
        return resize(scene.fleet, self._size)


# Sizes of fleets that know the trace in advance.

#: seconds; the clairvoyant fleet changes as often
BLOCK = 60.0
#: seconds; what all fleets begin with is enough for so long
_OPENING = 600.0
#: share of answers that the fleet for the peak begins in time
_AT_PEAK = 0.99


def first_need(load: Workload, busy: float) -> int:
    """Workers that are busy for a share `busy` of the first ten minutes."""
    opening = min(_OPENING, load.span)
    return math.ceil(load.work_until(opening) / opening / busy - 1e-9)


def for_mean(load: Workload) -> int:
    """The least workers that could do all the work, if it came evenly."""
    return max(1, math.ceil(load.work / load.span - 1e-9))


def for_peak(load: Workload, most: int) -> int:
    """The least workers, always there, with which 99 % of answers begin in time; at most `most`.

    Found by bisection on the same queue as in the simulation, without its failures.
    """
    times, service = load.times.tolist(), load.service.tolist()
    allowed = int(len(load) * (1 - _AT_PEAK))

    def serves(workers: int) -> bool:
        return late(times, service, [0.0] * workers * load.slots, IN_TIME, allowed) <= allowed

    too_few, enough = 0, min(most, for_mean(load))
    while enough < most and not serves(enough):
        too_few, enough = enough, min(most, math.ceil(enough * 1.5 + 0.5))
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if serves(middle) else (middle, enough)
    return enough


def clairvoyant_plan(load: Workload, boot: float, least: int, most: int) -> list[int]:
    """How many workers there are, those that boot included, in each block of `BLOCK` seconds.

    It is the most that any block needs from now until a boot from now: so each worker is there in time,
    and a pause that is shorter than a boot is bridged, as a new one would cost more.
    """
    needs = np.array(_needs(load, least, most))
    ahead = max(1, math.ceil(boot / BLOCK))  # a worker answers from the next step on, at the earliest
    padded = np.concatenate([needs, np.full(ahead, needs[-1])])
    sizes: list[int] = sliding_window_view(padded, ahead + 1).max(axis=1).tolist()
    return sizes


def _needs(load: Workload, least: int, most: int) -> list[int]:
    """The least workers, block by block, with which every answer begins in time; or `most`."""
    edges = np.searchsorted(load.times, np.arange(math.ceil(load.span / BLOCK) + 1) * BLOCK)
    sizes, free = [least], [0.0]
    for number, (first, end) in enumerate(pairwise(edges)):
        times, service = load.times[first:end].tolist(), load.service[first:end].tolist()
        block = _Block(times, service, free, number * BLOCK, load.slots)
        size, free = block.smallest(sizes[-1], least, most)
        sizes.append(size)
    return sizes[1:]


class _Block:
    """What comes within one block, from `start` on, and when the slots before it will be free."""

    def __init__(
        self, times: Sequence[float], service: Sequence[float], free: Sequence[float], start: float, per: int
    ) -> None:
        self._times, self._service, self._start, self._per = times, service, start, per
        self._busy = sorted(moment for moment in free if moment > start)

    def smallest(self, guess: int, least: int, most: int) -> tuple[int, list[float]]:
        """The size, and when its slots are free then. The size before is the best guess."""
        size, free = guess, self._after(guess)
        while free is None and size < most:
            size += 1
            free = self._after(size)
        if free is None:
            return most, self._after(most, math.inf) or []
        while size > least and (fewer := self._after(size - 1)) is not None:
            size, free = size - 1, fewer
        return size, free

    def _after(self, size: int, patience: float = IN_TIME) -> list[float] | None:
        """When the slots are free after the block; None where someone waits longer than `patience`.

        The worker with the least work is drained first.
        """
        count = size * self._per
        if not count:
            return None if self._times else list(self._busy)
        drained, kept = self._busy[:-count], self._busy[-count:]
        slots = [self._start] * (count - len(kept)) + kept
        return None if late(self._times, self._service, slots, patience, most=0) else slots + drained
