"""Recorded questions, and what they ask of the GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmhost.errors import UsageError
from llmhost.lab.simulation.settings import Settings

__all__ = ["LONGEST", "MOST_QUESTIONS", "Trace", "Workload", "day", "make_workload"]

#: a month at 8 questions a second; more would not fit in 2 GB
MOST_QUESTIONS = 20_000_000

#: seconds; a longer trace has a wrong date in it, or is repeated too often to wait for
LONGEST = 400 * 86_400.0

_DAY = 86_400

#: the busiest moment of a day over its quietest
_SWING = 10.0

#: seconds of the day; where ten minutes bring four times as much at once
_SPIKES = (9.5 * 3600, 15.5 * 3600)
_SPIKE_SECONDS, _SPIKE = 600, 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Questions in the order in which they came.

    `times` are float64 seconds from the first question on, `prompt` and `generated` float64 tokens, all of
    one length. `epoch` is the minute in which it begins, Unix seconds; 0 where nobody knows. `span` is how
    long it lasts, the pause after its last question included: then it can be played again.
    """

    times: NDArray[np.float64]
    prompt: NDArray[np.float64]
    generated: NDArray[np.float64]
    epoch: float = 0.0

    def __len__(self) -> int:
        return len(self.times)

    @property
    def span(self) -> float:
        last, count = float(self.times[-1]), len(self.times)
        return max(1.0, last * count / (count - 1) if count > 1 else last)


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """The questions that the cache did not answer, in the order in which they came.

    `times` are float64 seconds from 0, `service` the float64 seconds that each takes on one place, `tokens`
    what is generated for it (float64). `hits` questions beside them were answered by the cache. It lasts
    for `span` seconds from `epoch`, Unix seconds. Each worker has `places`.
    """

    times: NDArray[np.float64]
    service: NDArray[np.float64]
    tokens: NDArray[np.float64]
    places: int
    span: float
    hits: int = 0
    epoch: float = 0.0

    def __len__(self) -> int:
        return len(self.times)

    @property
    def work(self) -> float:
        """Seconds that one worker whose places are always full would take for all of it."""
        return float(self.service.sum()) / self.places

    def work_until(self, end: float) -> float:
        """The same for the questions that come before `end`."""
        return float(self.service[: np.searchsorted(self.times, end)].sum()) / self.places


def make_workload(trace: Trace, settings: Settings, places: int) -> Workload:
    """The trace, faster, repeated and without the cache's hits, on workers of `places` each.

    Raises:
        UsageError: it is too much to simulate, or nothing is left of it.
    """
    if len(trace) * settings.repeat > MOST_QUESTIONS:
        raise UsageError(
            f"{len(trace):,} questions {settings.repeat:,} times are more than {MOST_QUESTIONS:,}",
            hint="repeat the trace less often",
        )
    span = trace.span * settings.repeat / settings.speed
    if span > LONGEST:
        raise UsageError(f"it would last for {span / 86_400:,.0f} days, more than {LONGEST / 86_400:.0f}")
    asked = len(trace) * settings.repeat
    missed = np.flatnonzero(np.random.default_rng(settings.seed).random(asked) >= settings.hit_ratio)
    if not len(missed):
        raise UsageError("the cache answers every question of this trace: there is nothing to simulate")
    turn, question = np.divmod(missed, len(trace))
    tokens = trace.generated[question]
    place_speed = settings.worker_tokens_per_s / places
    service = tokens / place_speed + trace.prompt[question] / settings.prompt_tokens_per_s
    if not service.any():
        raise UsageError("no question of this trace has a token: there is nothing to simulate")
    return Workload(
        times=(trace.times[question] + turn * trace.span) / settings.speed,
        service=service,
        tokens=tokens,
        places=places,
        span=span,
        hits=asked - len(missed),
        epoch=trace.epoch,
    )


def day(trace: Trace) -> Trace:
    """A day from midnight to midnight that asks as the trace does, with its burstiness.

    The trace is played again and again, by a clock that runs ten times as fast at noon as at midnight, on
    average as fast as ours, and four times as fast again in two sudden spikes of ten minutes.
    """
    wall = np.linspace(0, _DAY, _DAY + 1)
    pace = 1 + (_SWING - 1) * (1 - np.cos(2 * np.pi * wall / _DAY)) / 2
    pace = _with_spikes(wall, pace / ((1 + _SWING) / 2), _SPIKES)
    played = np.concatenate([[0.0], np.cumsum((pace[1:] + pace[:-1]) / 2)])
    turns = int(played[-1] // trace.span) + 1
    times = (trace.times + np.arange(turns)[:, None] * trace.span).ravel()
    kept = times < played[-1]
    prompt, generated = np.tile(trace.prompt, turns)[kept], np.tile(trace.generated, turns)[kept]
    return Trace(np.interp(times[kept], played, wall), prompt, generated)


def _with_spikes(
    wall: NDArray[np.float64], pace: NDArray[np.float64], starts: Sequence[float]
) -> NDArray[np.float64]:
    spiked = np.any([(wall >= start) & (wall < start + _SPIKE_SECONDS) for start in starts], axis=0)
    return np.where(spiked, pace * _SPIKE, pace)
