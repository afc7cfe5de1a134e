"""How much is asked of a fleet, from what was counted. Pure.

Demand is questions a second times the tokens of an average answer at that time. Questions are counted
when they are asked, not when they are answered: what a busy fleet delivers says nothing about what is
wanted of it. Answers become longer and shorter within minutes, so their average looks back no further
than it must.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from llmhost.engines.traffic import BUCKET, KEPT, Traffic

__all__ = ["Demand", "measure"]

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
