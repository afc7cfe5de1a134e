"""The day that the bench builds from a trace."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from doubles.simulated import make_trace, poisson_trace

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from scaling import day


def test_a_day_swings_ten_to_one_and_spikes_four_times() -> None:
    trace = poisson_trace(4, 3600)
    made = day(trace)
    rate = np.histogram(made.times, 24 * 12, (0, 86_400))[0] / 300
    noon, night = rate[138:150].mean(), rate[[0, 1, 2, -3, -2, -1]].mean()
    assert noon / night == pytest.approx(10, rel=0.15)
    for hour in (9.5, 15.5):
        spike = round(hour * 12)
        assert rate[spike : spike + 2].mean() / rate[spike - 2 : spike].mean() == pytest.approx(4, rel=0.15)
    spikes = 2 * 600 * 3 * rate[114 - 2 : 114].mean()
    assert len(made) == pytest.approx(len(trace) * 86_400 / trace.span + spikes, rel=0.02)


def test_a_day_keeps_the_burstiness_of_its_trace() -> None:
    bursts = make_trace([60 * minute + second for minute in range(60) for second in range(5)])
    times = day(bursts).times
    in_bursts = np.diff(times[(times > 40_000) & (times < 44_000)])
    assert np.quantile(in_bursts, 0.75) < 1
    assert in_bursts.max() > 20
