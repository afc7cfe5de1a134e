"""Which threshold to set for a wanted error, and what each threshold costs in hits. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llmhost.lab.evaluate import Frontier, FrontierPoint, Interval, interval

__all__ = ["ErrorLimits", "Tuning", "TuningRow", "tune"]

#: `cache.confidence` may be set to these; the last is as sure as a verifier of some MB can be believed
_SETTABLE = [thousandth / 1000 for thousandth in range(500, 1000)]
#: thresholds that are shown
_SHOWN = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995)
#: log of the probability, 2.5 %, with which an exact interval lets the truth lie beyond its upper end
_LOG_TAIL = math.log(0.025)


@dataclass(frozen=True, slots=True)
class ErrorLimits:
    """Shares 0..1 that may not be exceeded; at least one is set.

    `error` is the share of what is served that is wrong, `false_accept` the share of what asks something else
    that is served.
    """

    error: float | None = None
    false_accept: float | None = None


@dataclass(frozen=True, slots=True)
class TuningRow:
    """What a threshold would do: `hits` of the pairs that ask the same, and `wrong` ones besides.

    `error` is the share of both that is wrong, `error_interval` contains the true share in 95 % of cases.
    """

    confidence: float
    hits: int
    wrong: int
    precision: float | None
    recall: float | None
    false_accept_rate: float | None
    error: float | None
    error_interval: Interval | None
    false_accept_interval: Interval | None


@dataclass(frozen=True, slots=True)
class Tuning:
    """`suggested` None: no threshold does what is wanted. `supported`: the pairs are enough to claim that it
    does.

    `enough` is how many pairs must be seen without a mistake before that can be claimed at all.
    """

    suggested: TuningRow | None
    rows: Sequence[TuningRow]
    supported: bool
    enough: int


def tune(frontier: Frontier, wanted: ErrorLimits, present: float | None = None) -> Tuning:
    """The lowest threshold that keeps to the limits gives the most hits; `present` is shown as well."""
    threshold = next((one for one in _SETTABLE if _is_within(frontier.at(one), wanted)), None)
    strictest = min(limit for limit in (wanted.error, wanted.false_accept) if limit is not None)
    suggested = None if threshold is None else _row(frontier, threshold)
    shown = {*_SHOWN, *(one for one in (threshold, present) if one is not None)}
    return Tuning(
        suggested=suggested,
        rows=[_row(frontier, one) for one in sorted(shown)],
        supported=suggested is not None and _is_supported(suggested, wanted),
        # With fewer pairs, even without a mistake, the upper end of the interval is over the limit.
        enough=math.ceil(_LOG_TAIL / math.log1p(-strictest)) if strictest > 0 else 0,
    )


def _is_within(point: FrontierPoint, wanted: ErrorLimits) -> bool:
    error, false_accept = _error(point), point.false_accept_rate or 0.0
    return (
        error is not None
        and (wanted.error is None or error <= wanted.error)
        and (wanted.false_accept is None or false_accept <= wanted.false_accept)
    )


def _row(frontier: Frontier, threshold: float) -> TuningRow:
    point = frontier.at(threshold)
    right, wrong = point.accepted_same, point.accepted_different
    return TuningRow(
        confidence=threshold,
        hits=right,
        wrong=wrong,
        precision=point.precision,
        recall=point.recall,
        false_accept_rate=point.false_accept_rate,
        error=_error(point),
        error_interval=interval(wrong, right + wrong),
        false_accept_interval=interval(wrong, frontier.different),
    )


def _error(point: FrontierPoint) -> float | None:
    """The share of what is served that is wrong; 1 - precision is not always as small as it."""
    served = point.accepted_same + point.accepted_different
    return point.accepted_different / served if served else None


def _is_supported(row: TuningRow, wanted: ErrorLimits) -> bool:
    limits = ((wanted.error, row.error_interval), (wanted.false_accept, row.false_accept_interval))
    return all(limit is None or (known is not None and known.high <= limit) for limit, known in limits)
