"""How often semantic hits were wrong, as audits say, and how sure that is. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from llmhost.cache.calibration import Tally

__all__ = ["ServedError", "served_error"]

#: probability that the truth lies beyond one end of the interval: 95 % lie between both
_TAIL = 0.025

#: halvings; they find the end of an interval to 1e-12
_HALVINGS = 40

#: share of a sum that the rest of its terms may be left out for
_NOTHING = 1e-12


@dataclass(frozen=True, slots=True)
class ServedError:
    """The share, 0..1, of semantic hits that were wrong, with its 95 % interval; None without samples."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    samples: int = 0


def served_error(audited: Tally) -> ServedError:
    """What the audits say, as one or many of them as there are.

    The interval is the exact one of Clopper and Pearson (Biometrika 26, 1934, p. 404): it holds the truth in
    at least 95 % of cases, however few the samples and however small the share.
    """
    if not audited.samples:
        return ServedError()
    low = _lower(audited.wrong, audited.samples)
    high = 1 - _lower(audited.right, audited.samples)
    return ServedError(audited.wrong / audited.samples, low, high, audited.samples)


def _lower(wrong: int, samples: int) -> float:
    """The share at which so many wrong ones or more would be seen in 2.5 % of cases."""
    if not wrong:
        return 0.0
    return _crossing(lambda share: _at_least(wrong, samples, share) >= _TAIL, wrong / samples)


def _crossing(reached: Callable[[float], bool], top: float) -> float:
    """Where between 0 and `top` the rising condition begins to hold."""
    low, high = 0.0, top
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return (low + high) / 2


def _at_least(wrong: int, samples: int, share: float) -> float:
    """The probability of `wrong` or more in `samples`, for a share of less than `wrong / samples`."""
    ways = math.lgamma(samples + 1) - math.lgamma(wrong + 1) - math.lgamma(samples - wrong + 1)
    term = math.exp(ways + wrong * math.log(share) + (samples - wrong) * math.log1p(-share))
    total, seen, odds = term, wrong, share / (1 - share)
    while seen < samples and term > total * _NOTHING:
        term *= (samples - seen) / (seen + 1) * odds
        total, seen = total + term, seen + 1
    return total
