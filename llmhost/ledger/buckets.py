"""Minutes, hours and days of the ledger, and which of them cover a stretch of time. Pure.

Every event is counted in all three, and each is kept for a different time. A stretch is read from as
few of them as cover it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "DAY",
    "HOUR",
    "MINUTE",
    "Bucket",
    "Period",
    "bucket_of",
    "buckets_at",
    "covering",
    "first_bucket",
    "percentile",
    "stretches",
    "stretches_since",
]


@dataclass(frozen=True, slots=True)
class Period:
    """`length` and `kept` in seconds."""

    name: str
    length: int
    kept: int


MINUTE = Period("minute", 60, 2 * 86_400)
HOUR = Period("hour", 3_600, 60 * 86_400)
DAY = Period("day", 86_400, 400 * 86_400)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One period that begins at `start`, Unix seconds, a multiple of its length."""

    period: Period
    start: int

    @property
    def end(self) -> int:
        return self.start + self.period.length


def buckets_at(moment: float) -> Sequence[Bucket]:
    """The minute, the hour and the day that `moment` (Unix seconds) lies in."""
    return [Bucket(period, int(moment // period.length) * period.length) for period in (MINUTE, HOUR, DAY)]


def first_bucket(since: float, now: float) -> Bucket:
    """The finest one that is still kept of those that `since` lies in: what was counted since then is known
    from its start on."""
    finest = next((p for p in (MINUTE, HOUR) if since >= now - p.kept + p.length), DAY)
    return Bucket(finest, int(since // finest.length) * finest.length)


def covering(since: float, now: float) -> Sequence[Bucket]:
    """Buckets that together hold every event from `since` until `now`, none of them twice.

    The first begins where `first_bucket` does.
    """
    first = first_bucket(since, now)
    found = []
    moment = first.start
    while moment <= now:
        bucket = _widest(moment, first.period)
        found.append(bucket)
        moment = bucket.end
    return found


def _widest(moment: int, finest: Period) -> Bucket:
    for period in (DAY, HOUR):
        if period.length >= finest.length and moment % period.length == 0:
            return Bucket(period, moment)
    return Bucket(finest, moment)


def stretches(period: Period, each: int, count: int, now: float) -> Sequence[Sequence[Bucket]]:
    """`count` stretches of time of `each` periods, oldest first; the last holds `now`, and is not over."""
    width = period.length * each
    last = int(now // width) * width
    starts = range(last - (count - 1) * width, last + 1, width)
    return [[Bucket(period, start + number * period.length) for number in range(each)] for start in starts]


#: what a stretch may be, shortest first: periods, and how many of them
_WIDTHS = (
    *((MINUTE, each) for each in (1, 2, 5, 15)),
    *((HOUR, each) for each in (1, 3, 6)),
    *((DAY, each) for each in (1, 7, 30)),
)


def stretches_since(since: float, now: float, most: int) -> Sequence[Sequence[Bucket]]:
    """Stretches of one length that cover the time from `since` until `now`, at most about `most`, oldest
    first. Their length is a usual one, and is still kept."""
    span = now - since
    period, each = next(
        ((p, n) for p, n in _WIDTHS if span <= p.length * n * most and span <= p.kept - p.length), _WIDTHS[-1]
    )
    width = period.length * each
    count = int(now // width) - int(since // width) + 1
    return stretches(period, each, count, now)


# A latency histogram in logarithmic buckets: small in Redis, percentiles within 5 %. Pure.


#: a bucket's upper edge over its lower one; its middle is at most 5 % from any value in it
_RATIO = 1.1

#: ms; everything quicker falls into bucket 0
_SMALLEST = 0.01

#: some 11 days in ms; slower is not told apart
_LAST_BUCKET = 262


def bucket_of(milliseconds: float) -> int:
    """The bucket of a latency."""
    if milliseconds <= _SMALLEST:
        return 0
    return min(_LAST_BUCKET, 1 + math.floor(math.log(milliseconds / _SMALLEST, _RATIO)))


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """The latency in ms that `share` (0..1) of the samples do not exceed; None without samples.

    It is the geometric middle of the bucket in which the nearest-rank percentile lies.
    """
    total = sum(counts.values())
    if total == 0:
        return None
    rank = max(1, math.ceil(share * total))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return _middle(bucket)
    raise AssertionError("the counts do not add up")


def _middle(bucket: int) -> float:
    return _SMALLEST if bucket == 0 else _SMALLEST * float(_RATIO ** (bucket - 0.5))
