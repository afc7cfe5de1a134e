"""What a fleet has learnt about its own semantic hits: labels, the error that they prove, and the correction
that they make. Pure.

No label, no change. Audits alone move the thresholds: they are a fair sample of what was served. The judge's
and the operator's labels are no fair sample, as they look where something is doubtful or went wrong; they
teach the shift only, and for less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Literal

__all__ = [
    "BANDS",
    "MOST_RAISED",
    "UNCALIBRATED",
    "Calibration",
    "Label",
    "LabelSource",
    "LabelsReport",
    "ServedError",
    "Tally",
    "ThresholdChange",
    "band_of",
    "calibrate",
    "served_error",
    "threshold_change",
]

#: where a label comes from: `audit` compared the engine's own answer with the one served, `judge` was asked
#: in the grey zone, `forget` is the operator's
LabelSource = Literal["audit", "judge", "forget"]

#: probabilities; finer near 1, where hits are served. Below 0.5 there are only labels of the judge
_EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 1.0)
#: the bands of the verifier's probability, named by their ends, with their middles
BANDS: Mapping[str, float] = {f"{low:g}-{high:g}": (low + high) / 2 for low, high in pairwise(_EDGES)}


def band_of(raw: float) -> str:
    """The band of a probability; what is none goes to the nearest, or the lowest."""
    return list(BANDS)[sum(raw >= edge for edge in _EDGES[1:-1])]


@dataclass(frozen=True, slots=True)
class Label:
    """Whether one question's answer was right for another, as was found afterwards.

    `raw` is the verifier's probability, 0..1; `doubts` names the guards that doubted.
    """

    source: LabelSource
    right: bool
    raw: float
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """How many labels said right, and how many wrong."""

    right: int = 0
    wrong: int = 0

    @property
    def samples(self) -> int:
        return self.right + self.wrong

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.right + other.right, self.wrong + other.wrong)


@dataclass(frozen=True, slots=True)
class LabelsReport:
    """All labels of a fleet.

    `bands` counts them by source and by band of the verifier's probability (`BANDS`), `guards` those of
    audits by the guard that doubted, or `none`; where two doubted, under both. `since` counts audits since
    the threshold last moved, which was at `changed`, Unix seconds; None: it never did.
    """

    bands: Mapping[LabelSource, Mapping[str, Tally]] = field(default_factory=dict)
    guards: Mapping[str, Tally] = field(default_factory=dict)
    since: Tally = Tally()
    raised: int = 0
    changed: float | None = None

    def total(self, source: LabelSource) -> Tally:
        return sum(self.bands.get(source, {}).values(), Tally())


# How often semantic hits were wrong.

#: probability that the truth is beyond one end of the interval: 95 % are between both
_TAIL = 0.025
#: halvings; they find the end of an interval to 1e-12
_HALVINGS = 40
#: share of a sum that the rest of its terms may be left out for
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True, slots=True)
class ServedError:
    """The share, 0..1, of semantic hits that were wrong, with its 95 % interval; None without samples."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    samples: int = 0


def served_error(audited: Tally) -> ServedError:
    """The error that the audits prove.

    The interval is the exact one of Clopper and Pearson (Biometrika 26, 1934, p. 404): it holds the truth in
    at least 95 % of cases, however few the samples and however small the share.
    """
    if not audited.samples:
        return ServedError()
    low = _lower(audited.wrong, audited.samples)
    high = 1 - _lower(audited.right, audited.samples)
    return ServedError(audited.wrong / audited.samples, low, high, audited.samples)


def _lower(wrong: int, samples: int) -> float:
    """The share at which `wrong` or more would be seen in 2.5 % of cases."""
    if not wrong:
        return 0.0
    low, high = 0.0, wrong / samples
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _at_least(wrong, samples, middle) >= _TAIL else (middle, high)
    return (low + high) / 2


def _at_least(wrong: int, samples: int, share: float) -> float:
    """The probability of `wrong` or more in `samples`, for a share of less than `wrong / samples`."""
    ways = math.lgamma(samples + 1) - math.lgamma(wrong + 1) - math.lgamma(samples - wrong + 1)
    term = math.exp(ways + wrong * math.log(share) + (samples - wrong) * math.log1p(-share))
    total, count, odds = term, wrong, share / (1 - share)
    while count < samples and term > total * _NEGLIGIBLE:
        term *= (samples - count) / (count + 1) * odds
        total, count = total + term, count + 1
    return total


# What labels teach: by how much the verifier is too sure here, and when the threshold must move.

#: steps; from 0.90 they lead to 0.998, where next to nothing is served any more
MOST_RAISED = 8
#: log-odds; labels make 0.90 of the verifier count as 0.77 to 0.96, whatever they say
_MOST_SHIFT = 1.0
#: how many labels of an audit one label is worth
_WEIGHTS: Mapping[LabelSource, float] = {"audit": 1.0, "judge": 0.25, "forget": 0.25}

#: weight of a shift of 0: what 100 audits at 0.9 know of the shift (Fisher's information, 0.9 x 0.1 each)
_PRIOR = 9.0
#: halvings; they find the shift to 1e-6
_SHIFT_HALVINGS = 20
#: wrong answers; one alone is an accident, whatever the interval says
_FEWEST_WRONG = 2

#: of a band: the verifier's log-odds, labels that say right, labels in all
_Weighed = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """`shift` is added to the verifier's log-odds: over 0, this fleet's questions are safer than the
    verifier believes. `raised` is by how many steps errors have raised the threshold.
    """

    shift: float = 0.0
    raised: int = 0


#: the verifier as it was shipped
UNCALIBRATED = Calibration()


@dataclass(frozen=True, slots=True)
class ThresholdChange:
    """The threshold is now at step `raised`; `words` tell the operator why."""

    raised: int
    words: str


def calibrate(report: LabelsReport) -> Calibration:
    """What the labels teach: the shift that fits them best, and the step of the threshold.

    The shift is that of a logistic regression on the verifier's log-odds with this one parameter, and a
    normal prior around 0. It does not depend on the order of the labels.
    """
    labels: list[_Weighed] = []
    for band, middle in BANDS.items():
        found = [(weight, report.bands.get(source, {}).get(band)) for source, weight in _WEIGHTS.items()]
        tallies = [(weight, tally) for weight, tally in found if tally is not None]
        if tallies:
            right = sum(weight * tally.right for weight, tally in tallies)
            count = sum(weight * tally.samples for weight, tally in tallies)
            labels.append((math.log(middle / (1 - middle)), right, count))
    return Calibration(_best_shift(tuple(labels)) if labels else 0.0, report.raised)


@lru_cache(maxsize=8)  # questions come all the time, labels seldom
def _best_shift(labels: tuple[_Weighed, ...]) -> float:
    """Where the slope of the penalised likelihood, which only falls, is 0; at most `_MOST_SHIFT` from 0."""
    low, high = -_MOST_SHIFT, _MOST_SHIFT
    for _ in range(_SHIFT_HALVINGS):
        middle = (low + high) / 2
        slope = sum(right - count / (1 + math.exp(-odds - middle)) for odds, right, count in labels)
        low, high = (middle, high) if slope > _PRIOR * middle else (low, middle)
    return (low + high) / 2


def threshold_change(since: Tally, raised: int, max_error: float) -> ThresholdChange | None:
    """What the audits since the last change lead to: a step up where they prove that more than `max_error`, a
    share, was wrong; a step down where they prove that it was less; else None.
    """
    error = served_error(since)
    if error.low is None or error.high is None:
        return None
    found = f"wrong answers in {since.wrong or 'none'} of {since.samples} audits"
    if error.low > max_error and since.wrong >= _FEWEST_WRONG and raised < MOST_RAISED:
        return ThresholdChange(raised + 1, f"{found}: the threshold is raised to step {raised + 1}")
    if error.high < max_error and raised > 0:
        return ThresholdChange(raised - 1, f"{found}: the threshold is lowered to step {raised - 1}")
    return None
