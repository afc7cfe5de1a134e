"""Is a model good enough to judge? From pairs whose answer is known. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmhost.cache.calibration import Tally
from llmhost.cache.served_error import served_error

__all__ = ["ENOUGH_PRECISION", "MEASURED_PAIRS", "Fitness", "Trial", "fitness_of"]

#: share; a judge that is to widen what the cache serves must be at least as sure as the cache's own bar
ENOUGH_PRECISION = 0.9

#: pairs, half of them the same: where at most two of its words of yes are wrong, that can be shown
MEASURED_PAIRS = 160


@dataclass(frozen=True, slots=True)
class Trial:
    """One pair: `same` is what is true, `said` what the judge said, None where it said nothing."""

    same: bool
    said: bool | None
    ms: float


@dataclass(frozen=True, slots=True)
class Fitness:
    """How well a model judges.

    `yes` counts its words of yes; `precision` is the share of them that was right, `low` the lower end of its
    95 % interval, None where it never said yes. `recall` is the share of the same pairs that it said yes to,
    `silent` the share of all without a word. Latencies in milliseconds, `at` in Unix seconds.
    """

    model: str
    pairs: int
    yes: int
    precision: float | None
    low: float | None
    recall: float | None
    silent: float
    p50_ms: float
    p95_ms: float
    at: float

    def fault(self, timeout: float) -> str | None:
        """Why it should not judge, for people; None where it may. `timeout` in seconds."""
        if self.low is None or not self.yes:
            return f"it never said yes in {self.pairs} pairs"
        if self.low < ENOUGH_PRECISION:
            few = "too few to say: " if _low(self.yes, self.yes) < ENOUGH_PRECISION else ""
            found = f"{few}of its {self.yes} words of yes {_percent(self.precision or 0.0)} were right"
            return f"{found}, at least {_percent(self.low)} with 95 % certainty; 90 % is wanted"
        if not self.p95_ms < timeout * 1000:
            return f"1 of 20 words takes longer than {timeout:g} s, or does not come"
        return None


def fitness_of(model: str, trials: Sequence[Trial], now: float) -> Fitness:
    """What the trials show; there must be at least one."""
    yes = [trial for trial in trials if trial.said]
    same = sum(trial.same for trial in trials)
    right = sum(trial.same for trial in yes)
    slowest = sorted(trial.ms for trial in trials)
    return Fitness(
        model=model,
        pairs=len(trials),
        yes=len(yes),
        precision=right / len(yes) if yes else None,
        low=_low(right, len(yes)) if yes else None,
        recall=right / same if same else None,
        silent=sum(trial.said is None for trial in trials) / len(trials),
        p50_ms=_nearest_rank(slowest, 0.50),
        p95_ms=_nearest_rank(slowest, 0.95),
        at=now,
    )


def _low(right: int, of: int) -> float:
    """The lower end of the 95 % interval of a share."""
    high = served_error(Tally(right, of - right)).high
    return 0.0 if high is None else 1 - high


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _nearest_rank(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
