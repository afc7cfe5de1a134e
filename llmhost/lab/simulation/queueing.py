"""Questions and places: each goes, when it comes, to the place that is free first. The inner loops.

They run millions of times, so they work on lists and plain numbers: numpy's are slower one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heapreplace

__all__ = ["Place", "all_begin_in_time", "assign", "late"]

#: when it is free, in seconds, and whose it is; a heap of them has the first that is free on top
Place = tuple[float, int]


def assign(
    times: Sequence[float], service: Sequence[float], places: list[Place]
) -> tuple[list[float], list[int]]:
    """When each question begins, and on which worker. `places` is a heap with at least one in it, and is
    changed.
    """
    begun: list[float] = []
    workers: list[int] = []
    for time, needs in zip(times, service, strict=True):
        free, worker = places[0]
        if free < time:
            free = time
        begun.append(free)
        workers.append(worker)
        heapreplace(places, (free + needs, worker))
    return begun, workers


def all_begin_in_time(
    times: Sequence[float], service: Sequence[float], free: list[float], patience: float
) -> bool:
    """Whether each begins within `patience` seconds. `free`, when each place is free, is changed."""
    heapify(free)
    for time, needs in zip(times, service, strict=True):
        begin = free[0]
        if begin < time:
            begin = time
        elif begin - time > patience:
            return False
        heapreplace(free, begin + needs)
    return True


def late(times: Sequence[float], service: Sequence[float], places: int, patience: float, most: int) -> int:
    """How many do not begin within `patience` seconds on so many places that are never ended; it stops
    counting after `most`.
    """
    free = [0.0] * places
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
