"""What a fleet's labels teach: by how much the verifier is too sure here, and when the bar must move. Pure.

No label, no change. Audits alone move the bar: they are a fair sample of what was served. What the judge and
the operator say is none, as they look where something is doubtful or went wrong; it teaches the shift only,
and for less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import pairwise

from llmhost.cache.calibration import Change, LabelsReport, Source, Tally, Trust
from llmhost.cache.served_error import served_error

__all__ = ["BANDS", "MOST_RAISED", "band_of", "learnt", "moved"]

#: probabilities; finer near 1, where hits are served. Below 0.5 nobody is asked, or only the judge
_EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 1.0)

#: the bands of the verifier's probability, named by their ends, with their middles
BANDS: Mapping[str, float] = {f"{low:g}-{high:g}": (low + high) / 2 for low, high in pairwise(_EDGES)}

#: steps; from 0.90 they lead to 0.998, where next to nothing is served any more
MOST_RAISED = 8

#: log-odds; labels make 0.90 of the verifier count as 0.77 to 0.96, whatever they say
_MOST_SHIFT = 1.0

#: how many labels of an audit one label is worth
_WEIGHTS: Mapping[Source, float] = {"audit": 1.0, "judge": 0.25, "forget": 0.25}

#: what 100 audits at 0.9 know of the shift (Fisher's information, 0.9 x 0.1 each): so much speaks for none
_PRIOR = 9.0

#: halvings; they find the shift to 1e-6
_HALVINGS = 20

#: wrong answers; one alone is an accident, whatever the interval says
_FEWEST_WRONG = 2


#: of a band: the verifier's log-odds, labels that say right, labels in all
_Weighed = tuple[float, float, float]


def band_of(raw: float) -> str:
    """The band of a probability; what is none goes to the nearest, or the lowest."""
    inner = sum(raw >= edge for edge in _EDGES[1:-1])
    return list(BANDS)[inner]


def learnt(report: LabelsReport) -> Trust:
    """What the labels teach: the shift that fits them best, and where the bar stands.

    The shift is that of a logistic regression on the verifier's log-odds with this one parameter, and a
    normal prior around 0. It does not depend on the order of the labels.
    """
    labels = tuple(_weighed(report.bands))
    return Trust(_best_shift(labels) if labels else 0.0, report.raised)


def moved(since: Tally, raised: int, max_error: float) -> Change | None:
    """What the audits since the bar last moved make of it: a step up where they prove that more than
    `max_error`, a share, was wrong; a step down where they prove that it was less; else None.
    """
    error = served_error(since)
    if error.low is None or error.high is None:
        return None
    if error.low > max_error and since.wrong >= _FEWEST_WRONG and raised < MOST_RAISED:
        return Change(raised + 1, f"{_found(since)}: the bar is raised to step {raised + 1}")
    if error.high < max_error and raised > 0:
        return Change(raised - 1, f"{_found(since)}: the bar comes down to step {raised - 1}")
    return None


def _found(audited: Tally) -> str:
    return f"wrong answers in {audited.wrong or 'none'} of {audited.samples} audits"


def _weighed(bands: Mapping[Source, Mapping[str, Tally]]) -> Iterator[_Weighed]:
    for band, middle in BANDS.items():
        found = [(weight, bands.get(source, {}).get(band)) for source, weight in _WEIGHTS.items()]
        tallies = [(weight, tally) for weight, tally in found if tally is not None]
        if tallies:
            right = sum(weight * tally.right for weight, tally in tallies)
            count = sum(weight * tally.samples for weight, tally in tallies)
            yield math.log(middle / (1 - middle)), right, count


@lru_cache(maxsize=8)  # questions come all the time, labels seldom
def _best_shift(labels: tuple[_Weighed, ...]) -> float:
    """Where the slope of the penalised likelihood, which only falls, is 0; at most `_MOST_SHIFT` from 0."""
    low, high = -_MOST_SHIFT, _MOST_SHIFT
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = sum(right - count / (1 + math.exp(-odds - middle)) for odds, right, count in labels)
        low, high = (middle, high) if slope > _PRIOR * middle else (low, middle)
    return (low + high) / 2
