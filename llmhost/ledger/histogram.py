"""A latency histogram in logarithmic buckets: small in Redis, percentiles within 5 %. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["bucket_of", "percentile"]

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
