"""Which minutes, hours and days cover a stretch of time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmhost.ledger.buckets import DAY, HOUR, MINUTE, Bucket, buckets_at, covering

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
