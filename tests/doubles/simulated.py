"""Small traces and worlds for the tests of the simulation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from doubles.scaling import make_scale

from llmhost.lab.simulation.workload import Settings, Trace

__all__ = ["SPEC", "make_trace", "poisson_trace", "world"]

#: workers of one place
SPEC = make_scale(max_gpus=50, max_step=50, tokens_per_answer=100)


def make_trace(times: Sequence[float], tokens: float = 100.0) -> Trace:
    """Questions without a prompt, answered with so many tokens."""
    count = len(times)
    return Trace(np.array(times, dtype=np.float64), np.zeros(count), np.full(count, tokens))


def poisson_trace(per_second: float, seconds: float, tokens: float = 100.0, seed: int = 5) -> Trace:
    """Questions that come independently; answers are of exponential length, on average `tokens`."""
    random = np.random.default_rng(seed)
    count = random.poisson(per_second * seconds)
    times = np.sort(random.uniform(0, seconds, count))
    return Trace(times - times[0], np.zeros(count), random.exponential(tokens, count))


def world(**changed: float) -> Settings:
    """100 tokens a second, $1 an hour, 120 s to boot, a step each minute."""
    return Settings(**{"worker_tokens_per_s": 100.0, "price": 1.0, "boot_seconds": 120.0} | changed)  # type: ignore[arg-type]
