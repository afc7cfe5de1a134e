"""Percentiles from logarithmic buckets."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.ledger.buckets import bucket_of, percentile

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
