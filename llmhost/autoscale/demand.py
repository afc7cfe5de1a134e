"""How much is asked of a fleet, from what was counted. Pure.

Demand is questions a second times the tokens of an average answer. Questions are counted when they are
asked, not when they are answered: what a busy fleet delivers says nothing about what is wanted of it.

Both are the average of up to three hours, and shorter times correct it only as far as they surely
contradict it: an even load is known ever better, and a change is seen within a minute where it is large.
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

#: seconds and answers; fewer make no average of answers
_RECENT, _ENOUGH = 120, 30

#: standard errors; chance alone takes a count further up than that once in 700 times. With 2, an even load
#: moves the fleet several times as often; with more, a rising one is followed later
_SURE = 3.0

#: variance of a sum of answers over that of their number alone: some are long, most are short
_SPREAD = 2.0

#: seconds; clocks of two machines differ by less
_AHEAD = 120


@dataclass(frozen=True, slots=True)
class Demand:
    """Tokens a second: `short` of the last minute, `peak` of the highest minute of the watched stretch.
    `long` is the average of up to three hours, corrected by shorter times; the load is surely no less than
    `sure` and no more than `most`.

    `watched` is for how many seconds counts are known, at most the stretch asked for. `idle` is the seconds
    since the last question; None where none is known.
    """

    short: float
    sure: float
    long: float
    most: float
    peak: float
    tokens_per_answer: float
    watched: float
    idle: float | None


def measure(traffic: Traffic, now: float, watch: float, usual_answer: float) -> Demand:
    """Demand until `now` (Unix seconds); `peak` looks back for `watch` seconds.

    `usual_answer` is the tokens of an answer where none was counted yet. Counts of a time that is still to
    come mean that the clock was put back: then nothing is known of what came before.
    """
    edge = math.floor(now / BUCKET) * BUCKET
    since = now if max(traffic.asked, default=0) > now + _AHEAD else traffic.since
    known = max(0.0, now - since)
    watched = min(known, watch)
    asked = {start: count for start, count in traffic.asked.items() if start <= now}
    answers = _Answers(traffic, usual_answer, edge)
    minutes = range(edge, math.ceil((now - watched) / BUCKET) * BUCKET + _MINUTE - 1, -BUCKET)
    rates = [_asked(asked, end - _MINUTE, end) / _MINUTE * answers.tokens(end) for end in minutes]
    lately = _asked(asked, edge - _MINUTE, edge + 1)
    short = lately / (now - edge + _MINUTE) * answers.tokens(edge + BUCKET)
    peak = max(short, *rates, 0.0)
    tokens = _settled_answer(traffic, edge, usual_answer)
    sure, long, most = _settled_rates(asked, edge, now, known)
    last = max((start for start, count in asked.items() if count), default=None)
    return Demand(
        short=short,
        # What was asked hours ago brings no worker back.
        sure=sure * tokens if peak else 0.0,
        long=long * tokens,
        most=most * tokens,
        peak=peak,
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


def _settled_rates(
    asked: Mapping[int, int], edge: int, now: float, known: float
) -> tuple[float, float, float]:
    """Questions a second: surely as many, about as many, and surely no more."""
    spans = _spans(_MINUTE, min(known, KEPT))
    seconds = [span + now - edge for span in spans]
    counts = _totals(asked, edge, spans)
    least, most = zip(*map(_within_chance, counts), strict=True)
    lows, rates, highs = (
        [count / time for count, time in zip(found, seconds, strict=True)] for found in (least, counts, most)
    )
    return _settle(lows[-1], lows, highs), _settle(rates[-1], lows, highs), _settle(highs[-1], lows, highs)


def _settled_answer(traffic: Traffic, edge: int, usual: float) -> float:
    """Tokens of an average answer; `usual` where none was counted."""
    spans = _spans(_RECENT, KEPT)
    totals = zip(_totals(traffic.answered, edge, spans), _totals(traffic.tokens, edge, spans), strict=True)
    found = [(answers, tokens / answers) for answers, tokens in totals if answers and tokens]
    if not found:
        return usual
    known = [(mean, _SURE / math.sqrt(count)) for count, mean in found if count >= _ENOUGH]
    return _settle(
        found[-1][1],
        [mean * (1 - error) for mean, error in known],
        [mean * (1 + error) for mean, error in known],
    )


def _settle(value: float, lows: Sequence[float], highs: Sequence[float]) -> float:
    """`value`, of a long time, moved as little as shorter times demand; the last one has the last word.
    `lows` and `highs` are between what it surely lies, the shortest time first.
    """
    for low, high in zip(reversed(lows), reversed(highs), strict=True):
        value = max(low, min(high, value))
    return value


def _within_chance(count: int) -> tuple[float, float]:
    """The least and the largest mean with which as many may come by chance: the square root of a count has
    about the same variance whatever its mean (M. S. Bartlett, 1936).
    """
    root, reach = math.sqrt(count), _SURE * math.sqrt(_SPREAD) / 2
    return max(0.0, root - reach) ** 2, (root + reach) ** 2


def _spans(shortest: int, known: float) -> list[int]:
    """Seconds to look back: each twice as many as the one before, and all that are known."""
    spans = [shortest]
    while spans[-1] * 2 <= known:
        spans.append(spans[-1] * 2)
    whole = int(known // BUCKET) * BUCKET
    return [*spans, whole] if whole > spans[-1] else spans


def _totals(counts: Mapping[int, int], edge: int, spans: Sequence[int]) -> list[int]:
    """What was counted in each of `spans`, the shortest first, before the bucket `edge`, and in that one."""
    totals, total, bucket = [], counts.get(edge, 0), edge
    for span in spans:
        while bucket > edge - span:
            bucket -= BUCKET
            total += counts.get(bucket, 0)
        totals.append(total)
    return totals


def _asked(asked: Mapping[int, int], start: int, end: int) -> int:
    """Questions in the buckets that begin from `start` on and before `end`."""
    return sum(asked.get(bucket, 0) for bucket in range(start, end, BUCKET))


# How many workers it takes to deliver a load, and to begin its questions soon enough.


#: workers; more are never needed, however slow the workers
_MOST = 10**6

#: slots; with as many, a fleet within its target utilization begins in time
_MANY = 200

#: of an interval; what is left of it is a millionth
_HALVINGS = 20

#: share of the moments; a queue that is so rare by chance has another reason
_RARE = 1e-4

#: share of its slots; of a fuller fleet, the queue that chance makes has no end
_FULLEST = 0.95

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

    def longest_wait(self, busiest: float, *, wait: float, max_late_ratio: float) -> float:
        """Seconds that a question may have to wait by chance before workers of `speeds` that have as much to
        do as they may: they are `busiest` at most, and `max_late_ratio` waits longer than `wait` seconds.
        """
        slots, supply = len(self.speeds) * self.slots, sum(self.speeds)
        if not supply:
            return wait
        seconds = self.tokens * slots / supply
        least, busy = 0.0, min(busiest, _FULLEST) * slots
        if slots < _MANY and late_share(slots, busy, wait / seconds) > max_late_ratio:
            for _ in range(_HALVINGS):
                middle = (least + busy) / 2
                late = late_share(slots, middle, wait / seconds) > max_late_ratio
                least, busy = (least, middle) if late else (middle, busy)
        queued = late_share(slots, busy, 0.0) if slots < _MANY else 1.0
        if queued <= _RARE:
            return wait
        return max(wait, math.log(queued / _RARE) * seconds / (slots - busy))

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
