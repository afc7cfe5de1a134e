"""Which minutes, hours and days cover a stretch of time."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.ledger.buckets import (
    DAY,
    HOUR,
    MINUTE,
    Bucket,
    bucket_of,
    buckets_at,
    covering,
    percentile,
    stretches_since,
)

NOW = st.floats(1_700_000_000, 1_800_000_000)
BACK = st.floats(0, 400 * 86_400)


@given(NOW, BACK)
def test_buckets_cover_the_stretch_without_a_gap_or_an_overlap(now: float, back: float) -> None:
    buckets = covering(now - back, now)
    assert buckets[0].start <= now - back < buckets[0].end
    assert [bucket.start for bucket in buckets[1:]] == [bucket.end for bucket in buckets[:-1]]
    assert buckets[-1].start <= now < buckets[-1].end


@given(NOW, BACK)
def test_no_bucket_is_read_that_has_expired(now: float, back: float) -> None:
    for bucket in covering(now - back, now):
        assert bucket.end > now - bucket.period.kept


@given(NOW)
def test_an_event_is_counted_once_in_each_period(now: float) -> None:
    buckets = buckets_at(now)
    assert [bucket.period for bucket in buckets] == [MINUTE, HOUR, DAY]
    assert all(bucket.start <= now < bucket.end for bucket in buckets)


def test_a_day_is_read_from_few_buckets() -> None:
    now = 1_700_000_000.0
    assert len(covering(now - 86_400, now)) < 150


def test_the_last_five_minutes_are_read_from_minutes() -> None:
    assert covering(1_000_000_030, 1_000_000_100)[0] == Bucket(MINUTE, 999_999_960 + 60)


# Percentiles from logarithmic buckets


LATENCIES = st.lists(st.floats(0.01, 1e8), min_size=1, max_size=60)


@given(LATENCIES, st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_within_five_percent_of_the_true_one(latencies: list[float], share: float) -> None:
    counts = Counter(bucket_of(latency) for latency in latencies)
    exact = sorted(latencies)[max(1, math.ceil(share * len(latencies))) - 1]
    assert percentile(counts, share) == pytest.approx(exact, rel=0.05)


def test_no_samples_have_no_percentile() -> None:
    assert percentile({}, 0.5) is None


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_a_longer_latency_is_never_in_an_earlier_bucket(one: float, other: float) -> None:
    assert bucket_of(min(one, other)) <= bucket_of(max(one, other))


@given(st.floats(60, 400 * 86_400), st.integers(1_600_000_000, 1_900_000_000))
def test_a_period_is_some_stretches_without_a_gap_which_are_all_still_kept(span: float, now: int) -> None:
    parts = stretches_since(now - span, float(now), 48)
    buckets = [bucket for part in parts for bucket in part]
    assert all(one.end == other.start for one, other in pairwise(buckets))
    assert buckets[0].start <= now - span
    assert parts[-1][0].start <= now < parts[-1][-1].end
    assert len(parts) <= 50
    assert span <= buckets[0].period.kept
