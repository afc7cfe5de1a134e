"""How many workers it takes to deliver so many tokens a second, and to begin soon enough. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Staff", "late_share", "typical_speed"]

#: workers; more are never wanted, whatever is asked of workers however slow
_MOST = 10**6

#: places; so many share their luck, and who keeps within the band begins in time
_MANY = 200

#: of `scale.tokens_per_s`; a worker that was seen at less is ill, and says nothing of the next one
_SLOWEST = 0.1


@dataclass(frozen=True, slots=True)
class Staff:
    """`speeds` are tokens a second of the workers that are there, best first, each with `places`; one more
    has the `typical` speed. An answer has `tokens`.
    """

    speeds: Sequence[float]
    typical: float
    places: int
    tokens: float

    def supply(self, size: int) -> float:
        """Tokens a second of the best `size` workers, of which some may still have to come."""
        return sum(self.speeds[:size]) + max(0, size - len(self.speeds)) * self.typical

    def delivering(self, load: float) -> int:
        """The least number of workers whose places, all in use, deliver `load` tokens a second."""
        missing = load
        for size, speed in enumerate(self.speeds):
            if missing <= 0:
                return size
            missing -= speed
        more = min(missing / self.typical, _MOST)
        # Sums of fractions are off by a little; that is no reason for one more.
        return len(self.speeds) + max(0, math.ceil(more - 1e-9))

    def in_time(self, load: float, least: int, *, wait: float, late: float) -> int:
        """The least number, from `least` on, at which no more than the share `late` waits longer than `wait`
        seconds.
        """
        size = least
        while load > 0 and size * self.places < _MANY and self._late(load, size, wait) > late:
            size += 1
        return size

    def _late(self, load: float, size: int, wait: float) -> float:
        places, supply = size * self.places, self.supply(size)
        if not supply:
            return 1.0
        seconds = self.tokens * places / supply
        return late_share(places, load / supply * places, wait / seconds)


def late_share(places: int, busy: float, wait: float) -> float:
    """The share of questions that wait longer than `wait` times an average answer, where `busy` of the
    `places` are in use on average.

    Erlang's formula for questions that come by chance to one queue before all places (A. K. Erlang, 1917;
    Gross et al., Fundamentals of Queueing Theory, section 3.3).
    """
    if busy >= places:
        return 1.0
    blocked = 1.0
    for place in range(1, places + 1):
        blocked = busy * blocked / (place + busy * blocked)
    queued = blocked / (1 - busy / places * (1 - blocked))
    return queued * math.exp(-(places - busy) * wait)


def typical_speed(speeds: Iterable[float | None], usual: float) -> float:
    """Tokens a second of a worker that was not measured yet: as the others, or as the operator thinks."""
    measured = [speed for speed in speeds if speed]
    return max(median(measured), usual * _SLOWEST) if measured else usual
