"""How much is asked of a fleet, from what was counted. Pure.

Demand is questions a second times the tokens of an average answer at that time. Questions are counted
when they are asked, not when they are answered: what a busy fleet delivers says nothing about what is
wanted of it. Answers become longer and shorter within minutes, so their average looks back no further
than it must.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from llmhost.engines.traffic import BUCKET, KEPT, Traffic

__all__ = ["Capacity", "Demand", "late_share", "measure", "typical_speed"]

#: seconds; the shortest stretch that is judged: a burst of some seconds is no demand
_MINUTE = 60

#: seconds and answers; fewer make no average, and where there are fewer it is looked back further
_RECENT, _ENOUGH = 120, 30

#: variance of a sum of answers over that of their number alone: some are long, most are short
_SPREAD = 2.0

#: seconds; clocks of two machines differ by less
_AHEAD = 120


@dataclass(frozen=True, slots=True)
class Demand:
    """Tokens a second: `short` of the last minute, `sure` as much of it as is not chance, `long` on average
    over the watched stretch, `peak` of its highest minute.

    `watched` is for how many seconds counts are known, at most the stretch asked for. `idle` is the seconds
    since the last question; None where none is known.
    """

    short: float
    sure: float
    long: float
    peak: float
    tokens_per_answer: float
    watched: float
    idle: float | None


def measure(traffic: Traffic, now: float, watch: float, usual_answer: float) -> Demand:
    """Demand until `now` (Unix seconds), looking back for `watch` seconds.

    `usual_answer` is the tokens of an answer where none was counted yet. Counts of a time that is still to
    come mean that the clock was put back: then nothing is known of what came before.
    """
    edge = math.floor(now / BUCKET) * BUCKET
    since = now if max(traffic.asked, default=0) > now + _AHEAD else traffic.since
    watched = min(max(0.0, now - since), watch)
    minutes = range(edge, math.ceil((now - watched) / BUCKET) * BUCKET + _MINUTE - 1, -BUCKET)
    asked = {start: count for start, count in traffic.asked.items() if start <= now}
    answers = _Answers(traffic, usual_answer, edge)
    rates = [_asked(asked, end - _MINUTE, end) / _MINUTE * answers.tokens(end) for end in minutes]
    lately = _asked(asked, edge - _MINUTE, edge + 1)
    seconds, tokens = now - edge + _MINUTE, answers.tokens(edge + BUCKET)
    short = lately / seconds * tokens
    last = max((start for start, count in asked.items() if count), default=None)
    return Demand(
        short=short,
        sure=max(0.0, lately - math.sqrt(_SPREAD * lately)) / seconds * tokens,
        long=sum(rates) / len(rates) if rates else short,
        peak=max(short, *rates, 0.0),
        tokens_per_answer=tokens,
        watched=watched,
        idle=None if last is None else max(0.0, now - last - BUCKET),
    )


class _Answers:
    """How long answers were, by time."""

    def __init__(self, traffic: Traffic, usual: float, latest: int) -> None:
        self._traffic, self._usual = traffic, usual
        self._latest = latest
        self._earliest = max(min(traffic.answered, default=latest), latest - KEPT)

    def tokens(self, end: int) -> float:
        """Of an average answer before `end`."""
        answers = tokens = 0
        for bucket in self._back_from(end):
            if answers >= _ENOUGH and bucket < end - _RECENT:
                break
            answers += self._traffic.answered.get(bucket, 0)
            tokens += self._traffic.tokens.get(bucket, 0)
        return tokens / answers if answers and tokens else self._usual

    def _back_from(self, end: int) -> Iterator[int]:
        yield from range(min(end - BUCKET, self._latest), self._earliest - 1, -BUCKET)


def _asked(asked: Mapping[int, int], start: int, end: int) -> int:
    """Questions in the buckets that begin from `start` on and before `end`."""
    return sum(asked.get(bucket, 0) for bucket in range(start, end, BUCKET))


# How many workers it takes to deliver a load, and to begin its questions soon enough.


#: workers; more are never needed, however slow the workers
_MOST = 10**6

#: slots; with as many, a fleet within its target utilization begins in time
_MANY = 200

#: of `scale.tokens_per_s`; a worker that was seen at less is broken, and says nothing of the next one
_SLOWEST = 0.1


@dataclass(frozen=True, slots=True)
class Capacity:
    """`speeds` are tokens a second of the workers that exist, best first, each with `slots`; one more has the
    `typical` speed. An answer has `tokens`.
    """

    speeds: Sequence[float]
    typical: float
    slots: int
    tokens: float

    def supply(self, size: int) -> float:
        """Tokens a second of the best `size` workers, of which some may still have to come."""
        return sum(self.speeds[:size]) + max(0, size - len(self.speeds)) * self.typical

    def delivering(self, load: float) -> int:
        """The least number of workers whose slots, all in use, deliver `load` tokens a second."""
        missing = load
        for size, speed in enumerate(self.speeds):
            if missing <= 0:
                return size
            missing -= speed
        more = min(missing / self.typical, _MOST)
        # Sums of fractions are off by a little; that is no reason for one more.
        return len(self.speeds) + max(0, math.ceil(more - 1e-9))

    def in_time(self, load: float, least: int, *, wait: float, max_late_ratio: float) -> int:
        """The least number, from `least` on, at which at most `max_late_ratio` waits longer than `wait` s."""
        size = least
        while load > 0 and size * self.slots < _MANY and self._late(load, size, wait) > max_late_ratio:
            size += 1
        return size

    def _late(self, load: float, size: int, wait: float) -> float:
        slots, supply = size * self.slots, self.supply(size)
        if not supply:
            return 1.0
        seconds = self.tokens * slots / supply
        return late_share(slots, load / supply * slots, wait / seconds)


def late_share(slots: int, busy: float, wait: float) -> float:
    """The share of questions that wait longer than `wait` times an average answer, where `busy` of the
    `slots` are in use on average.

    Erlang's formula for questions that come by chance to one queue before all slots (A. K. Erlang, 1917;
    Gross et al., Fundamentals of Queueing Theory, section 3.3).
    """
    if busy >= slots:
        return 1.0
    blocked = 1.0
    for place in range(1, slots + 1):
        blocked = busy * blocked / (place + busy * blocked)
    queued = blocked / (1 - busy / slots * (1 - blocked))
    return queued * math.exp(-(slots - busy) * wait)


def typical_speed(speeds: Iterable[float | None], usual: float) -> float:
    """Tokens a second of a worker that was not measured yet: as the others, or as the operator thinks."""
    measured = [speed for speed in speeds if speed]
    return max(median(measured), usual * _SLOWEST) if measured else usual
