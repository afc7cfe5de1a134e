"""How good a policy is, from what became of pairs. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from llmhost.cache.calibration import Tally, Trust
from llmhost.cache.objection import Objection
from llmhost.cache.served_error import served_error
from llmhost.lab.frontier import Frontier, Point, frontier

if TYPE_CHECKING:
    from llmhost.lab.evaluate import Outcome

__all__ = [
    "Band",
    "Disagreement",
    "Evaluation",
    "GuardCounts",
    "Interval",
    "KindCounts",
    "LatencyPercentiles",
    "SameDifferent",
    "assess",
    "interval",
]

#: probabilities between which pairs are counted together: finer where the bars are
_BANDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)

#: precisions that people ask for
_PRECISIONS = (0.80, 0.85, 0.90, 0.95)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a share, 0..1, lies in truth, in at least 95 % of cases."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SameDifferent:
    same: int
    different: int


@dataclass(frozen=True, slots=True)
class KindCounts:
    """Pairs of one kind; `accepted` is the sum of the two below it."""

    pairs: int
    accepted: int
    same: int
    different: int
    accepted_same: int
    accepted_different: int


@dataclass(frozen=True, slots=True)
class GuardCounts:
    """Pairs to which a guard objected, with others or alone: refused, or left to a surer verifier."""

    refused_same: int
    refused_different: int
    doubted_same: int
    doubted_different: int


@dataclass(frozen=True, slots=True)
class LatencyPercentiles:
    """Milliseconds of one decision: the asked question's embedding, guards and verifier."""

    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Band:
    """Pairs whose confidence lies between `low` and `high`: what was said on average, and what was true."""

    low: float
    high: float
    pairs: int
    mean_confidence: float
    same_share: float


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A pair that was decided otherwise than its label says."""

    a: str
    b: str
    same: bool
    accepted: bool
    kind: str | None
    similarity: float | None
    confidence: float | None
    why: str
    objections: tuple[Objection, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Shares 0..1, None where there is nothing to divide by; see `frontier.Point` for what they mean.

    `exact` pairs have the same wording and were accepted without the policy, `unread` ones cannot be embedded
    and were not accepted. `left_to_judge` was not accepted either: nobody was asked.
    """

    policy: str
    pairs: int
    accepted_same: int
    accepted_different: int
    same: int
    different: int
    precision: float | None
    precision_interval: Interval | None
    recall: float | None
    false_accept_rate: float | None
    by_kind: Mapping[str, KindCounts]
    latency_ms: LatencyPercentiles
    skipped_lines: int
    exact: int
    unread: int
    left_to_judge: SameDifferent
    by_guard: Mapping[str, GuardCounts]
    reliability: Sequence[Band]
    frontier: Sequence[Point]
    best_recall_at_precision: Mapping[str, float | None]
    disagreements: Sequence[Disagreement]


def assess(
    policy: str,
    outcomes: Sequence[Outcome],
    *,
    trust: Trust = Trust(),  # noqa: B008  # frozen
    skipped_lines: int = 0,
    show: int = 0,
) -> Evaluation:
    """All figures; `show` of the disagreements at most, those first of which the policy was surest."""
    curve = frontier(outcomes, trust)
    accepted = _split(outcome for outcome in outcomes if outcome.accepted)
    return Evaluation(
        policy=policy,
        pairs=len(outcomes),
        accepted_same=accepted.same,
        accepted_different=accepted.different,
        same=curve.same,
        different=curve.different,
        precision=_share(accepted.same, accepted.same + accepted.different),
        precision_interval=interval(accepted.same, accepted.same + accepted.different),
        recall=_share(accepted.same, curve.same),
        false_accept_rate=_share(accepted.different, curve.different),
        by_kind=_by_kind(outcomes),
        latency_ms=_latencies(outcomes),
        skipped_lines=skipped_lines,
        exact=sum(outcome.exact for outcome in outcomes),
        unread=sum(outcome.unread for outcome in outcomes),
        left_to_judge=_split(outcome for outcome in outcomes if outcome.decision.action == "judge"),
        by_guard=_by_guard(outcomes),
        reliability=_reliability(outcomes),
        frontier=curve.points(),
        best_recall_at_precision=_best_recalls(curve),
        disagreements=_disagreements(outcomes)[:show],
    )


def interval(part: int, whole: int) -> Interval | None:
    """The 95 % interval of a share; None where there is nothing to divide by."""
    error = served_error(Tally(right=whole - part, wrong=part))
    return None if error.low is None or error.high is None else Interval(error.low, error.high)


def _split(outcomes: Iterable[Outcome]) -> SameDifferent:
    flags = [outcome.pair.same for outcome in outcomes]
    return SameDifferent(sum(flags), len(flags) - sum(flags))


def _by_kind(outcomes: Iterable[Outcome]) -> dict[str, KindCounts]:
    kinds: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.pair.kind is not None:
            kinds[outcome.pair.kind].append(outcome)
    return {kind: _kind_counts(of_kind) for kind, of_kind in sorted(kinds.items())}


def _kind_counts(outcomes: Sequence[Outcome]) -> KindCounts:
    every = _split(outcomes)
    accepted = _split(outcome for outcome in outcomes if outcome.accepted)
    return KindCounts(
        pairs=len(outcomes),
        accepted=accepted.same + accepted.different,
        same=every.same,
        different=every.different,
        accepted_same=accepted.same,
        accepted_different=accepted.different,
    )


def _by_guard(outcomes: Iterable[Outcome]) -> dict[str, GuardCounts]:
    """The busiest guard first."""
    counts: defaultdict[str, Counter[tuple[bool, bool]]] = defaultdict(Counter)
    for outcome in outcomes:
        for objection in outcome.verdict.objections if outcome.verdict else ():
            counts[objection.guard][objection.refuses, outcome.pair.same] += 1
    busiest = sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))
    return {
        guard: GuardCounts(seen[True, True], seen[True, False], seen[False, True], seen[False, False])
        for guard, seen in busiest
    }


def _latencies(outcomes: Iterable[Outcome]) -> LatencyPercentiles:
    taken = sorted(outcome.ms for outcome in outcomes if outcome.ms is not None)
    return LatencyPercentiles(_nearest_rank(taken, 0.50), _nearest_rank(taken, 0.99))


def _nearest_rank(ordered: Sequence[float], share: float) -> float | None:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _reliability(outcomes: Iterable[Outcome]) -> list[Band]:
    """Of the pairs that the verifier was asked about; bands that hold none are left out."""
    said = [
        (outcome.verdict.confidence, outcome.pair.same)
        for outcome in outcomes
        if outcome.verdict is not None and outcome.verdict.confidence is not None
    ]
    bands = []
    for low, high in pairwise(_BANDS):
        inside = [(c, same) for c, same in said if low <= c < high or c == high == 1]
        if inside:
            mean = sum(confidence for confidence, _ in inside) / len(inside)
            bands.append(Band(low, high, len(inside), mean, sum(same for _, same in inside) / len(inside)))
    return bands


def _best_recalls(curve: Frontier) -> dict[str, float | None]:
    return {f"{precision:.2f}": curve.best_recall(precision) for precision in _PRECISIONS}


def _disagreements(outcomes: Iterable[Outcome]) -> list[Disagreement]:
    """What was wrongly accepted before what was wrongly refused, the surest of each first."""
    wrong = [outcome for outcome in outcomes if outcome.accepted != outcome.pair.same]
    return [_disagreement(outcome) for outcome in sorted(wrong, key=_doubtfulness)]


def _doubtfulness(outcome: Outcome) -> tuple[bool, float]:
    confidence = outcome.verdict.confidence if outcome.verdict else None
    sure = outcome.similarity if confidence is None else confidence
    if outcome.accepted:
        return False, -(1.0 if sure is None else sure)
    refused = confidence is None and outcome.verdict is not None and bool(outcome.verdict.objections)
    return True, -1.0 if refused or sure is None else sure


def _disagreement(outcome: Outcome) -> Disagreement:
    verdict = outcome.verdict
    return Disagreement(
        a=outcome.pair.a,
        b=outcome.pair.b,
        same=outcome.pair.same,
        accepted=outcome.accepted,
        kind=outcome.pair.kind,
        similarity=outcome.similarity,
        confidence=verdict.confidence if verdict else None,
        why=outcome.decision.reason,
        objections=verdict.objections if verdict else (),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
