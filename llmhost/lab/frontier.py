"""What each bar would cost: precision against recall, as the bar moves. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.cache.calibration import Trust
from llmhost.cache.policy import BARS_FLOOR, Bars, Verdict, doubted_bar

if TYPE_CHECKING:
    from llmhost.lab.evaluate import Outcome

__all__ = ["MOST_POINTS", "Frontier", "Point", "cosine_frontier", "frontier", "highest_bar"]

#: points; a chart needs no more
MOST_POINTS = 100


@dataclass(frozen=True, slots=True)
class Point:
    """What is accepted at a bar, and above. Shares 0..1, None where there is nothing to divide by.

    `precision` is the share of what is accepted that asks the same, `recall` the share of what asks the same
    that is accepted, `false_accept_rate` the share of what does not.
    """

    bar: float
    precision: float | None
    recall: float | None
    accepted_same: int
    accepted_different: int
    false_accept_rate: float | None


class Frontier:
    """From pairs, each as the highest bar under which it is accepted, and whether it asks the same.

    The bar is infinite for what is always accepted, None for what never is.
    """

    def __init__(self, pairs: Iterable[tuple[float | None, bool]]) -> None:
        known = list(pairs)
        self.same = sum(same for _, same in known)
        self.different = len(known) - self.same
        reached = sorted((bar, same) for bar, same in known if bar is not None)
        self._bars = [bar for bar, _ in reached]
        self._same_from = _sums_from([same for _, same in reached])

    def at(self, bar: float) -> Point:
        """What is accepted where the bar is `bar`."""
        place = bisect_left(self._bars, bar)
        right = self._same_from[place]
        wrong = len(self._bars) - place - right
        return Point(
            bar=bar,
            precision=_share(right, right + wrong),
            recall=_share(right, self.same),
            accepted_same=right,
            accepted_different=wrong,
            false_accept_rate=_share(wrong, self.different),
        )

    def points(self, most: int = MOST_POINTS) -> list[Point]:
        """At most so many, lowest bar first: with about as many pairs between each two."""
        bars = [bar for bar in self._bars if math.isfinite(bar)]
        step = max(1, math.ceil(len(bars) / (most - 1)))
        return [self.at(bar) for bar in sorted({*bars[::step], *bars[-1:]})]

    def best_recall(self, precision: float) -> float | None:
        """The highest recall of all bars with at least this precision; None where there is none."""
        points = (self.at(bar) for bar in sorted(set(self._bars)))
        enough = (p.recall for p in points if p.precision is not None and p.precision >= precision)
        return max((recall for recall in enough if recall is not None), default=None)


def frontier(outcomes: Iterable[Outcome], trust: Trust = Trust()) -> Frontier:  # noqa: B008  # frozen
    """Over the bar of the policy that gave these outcomes, which had learnt `trust`."""
    return Frontier((highest_bar(outcome, trust), outcome.pair.same) for outcome in outcomes)


def cosine_frontier(outcomes: Iterable[Outcome]) -> Frontier:
    """Over the threshold, were similarity all that counts."""
    return Frontier(
        (math.inf if outcome.exact else outcome.similarity, outcome.pair.same) for outcome in outcomes
    )


def highest_bar(outcome: Outcome, trust: Trust = Trust()) -> float | None:  # noqa: B008  # frozen
    """The highest `cache.confidence` (or, of a policy that has none, threshold) under which the pair would be
    served; infinite where it always is, None where it never is.
    """
    if outcome.exact:
        return math.inf
    verdict = outcome.verdict
    if verdict is None or any(objection.refuses for objection in verdict.objections):
        return None
    if verdict.raw is None or verdict.confidence is None:
        return outcome.similarity
    if not verdict.raw:
        return None
    bar = _undone(verdict, verdict.confidence, trust)
    return bar if verdict.raw >= BARS_FLOOR else min(bar, verdict.raw)


def _undone(verdict: Verdict, confidence: float, trust: Trust) -> float:
    """The bar that becomes `confidence` when errors have raised it and a guard doubts.

    To move a probability down by some log-odds is to move its complement up by as many.
    """
    if not verdict.objections and not trust.raised:
        return confidence
    rest = 1 - confidence
    moved = Bars(serve=rest, doubted=doubted_bar(rest), judge=None, floor=0.0).raised(trust.raised)
    return 1 - (moved.doubted if verdict.objections else moved.serve)


def _sums_from(flags: Sequence[bool]) -> list[int]:
    """How many are true from each place on; one more than there are flags, the last being 0."""
    sums = [0]
    for flag in reversed(flags):
        sums.append(sums[-1] + flag)
    return sums[::-1]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
