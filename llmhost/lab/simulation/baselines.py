"""Simple rules for the size of a fleet, to measure llmhost's own against."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from llmhost.lab.simulation.crew import Crew, Orders
from llmhost.lab.simulation.play import Scene

__all__ = ["Fixed", "Planned", "RequestRate", "resize"]


def resize(crew: Crew, size: int) -> Orders:
    """To `size` workers. Those that boot go first, the newest of them before the others, then whoever will
    have finished first.
    """
    staff = crew.staff
    left = crew.work_left()
    ranked = sorted(staff, key=lambda machine: (machine.answers, left.get(machine.id, -machine.booted)))
    surplus = max(0, len(staff) - size)
    return Orders(buy=max(0, size - len(staff)), drain=tuple(machine.id for machine in ranked[:surplus]))


class Fixed:
    """Always so many workers; one that breaks is replaced."""

    def __init__(self, size: int, interval: float) -> None:
        self.size, self.interval = size, interval

    def step(self, scene: Scene) -> Orders:
        return resize(scene.crew, self.size)


class Planned:
    """At step n the n-th size of a plan, then the last."""

    def __init__(self, sizes: Sequence[int], interval: float) -> None:
        self.sizes, self.interval = sizes, interval

    def step(self, scene: Scene) -> Orders:
        number = round(scene.now / self.interval)
        return resize(scene.crew, self.sizes[min(number, len(self.sizes) - 1)])


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

    def step(self, scene: Scene) -> Orders:
        first = np.searchsorted(scene.load.times, scene.now - self.window)
        rate = (scene.arrived - int(first)) / self.window
        self._consider(min(self._most, max(self._least, math.ceil(rate / self._target_qps))))
        return resize(scene.crew, self._size)

    def _consider(self, wanted: int) -> None:
        """Either clock runs only as long as the same side is wanted."""
        self._above = self._above + self.interval if wanted > self._size else 0.0
        self._below = self._below + self.interval if wanted < self._size else 0.0
        if self._above >= self.up_delay or self._below >= self.down_delay:
            self._size = wanted
            self._above = self._below = 0.0
