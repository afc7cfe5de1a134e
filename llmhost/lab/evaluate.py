"""How good the cache is, on pairs of questions labelled as asking the same or not, with the code that serves.

The answer to the second question of a pair is all that is stored, and the first one is asked.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from llmhost.cache.calibration import UNCALIBRATED, Calibration, Tally, served_error
from llmhost.cache.contracts import Embedder
from llmhost.cache.keys import normalise
from llmhost.cache.models import Answer, CacheDecision, Candidate, Objection, Verdict
from llmhost.cache.policy import VERIFIER_FLOOR, CachePolicy, Thresholds, threshold_with_doubt
from llmhost.lab.bench import percentile_of
from llmhost.lab.pairs import Pair, sample
from llmhost.trust.judge import JudgeEvaluation, Trial, evaluation_of

__all__ = [
    "MOST_POINTS",
    "STAND_IN",
    "Evaluation",
    "Frontier",
    "FrontierPoint",
    "Interval",
    "PairOutcome",
    "assess",
    "balanced",
    "cosine_frontier",
    "evaluate",
    "frontier",
    "highest_threshold",
    "interval",
    "measured",
]

#: What is stored with a question where the pair brings no answer.
STAND_IN = Answer("", "", 0.0, 0, 0, "stop", 0.0, 0.0)

_EXACT = CacheDecision("serve", None, None, "the same wording")
_UNREAD = CacheDecision("miss", None, None, "the embedding model cannot read all of one of them")


@dataclass(frozen=True, slots=True)
class PairOutcome:
    """The cache's decision on a pair.

    `similarity` is the cosine, -1..1, None where the wordings are the same or one cannot be embedded. `ms` is
    what the asked question took, to embed and to judge; None where the exact tier answered it.
    """

    pair: Pair
    decision: CacheDecision
    similarity: float | None = None
    ms: float | None = None

    @property
    def accepted(self) -> bool:
        """Whether the one would be answered with the answer to the other, without a judge."""
        return self.decision.action == "serve"

    @property
    def exact(self) -> bool:
        """Whether the exact tier answered, without the policy."""
        return self.decision is _EXACT

    @property
    def unread(self) -> bool:
        """Whether one of the two cannot be embedded."""
        return self.decision is _UNREAD

    @property
    def verdict(self) -> Verdict | None:
        """The policy's verdict; None where no candidate was near enough."""
        return self.decision.verdicts[0] if self.decision.verdicts else None


def evaluate(
    pairs: Sequence[Pair],
    embedder: Embedder,
    policy: CachePolicy,
    calibration: Calibration = UNCALIBRATED,
) -> Iterator[PairOutcome]:
    """The outcome of each pair, one after the other. Raises ModelError where a model fails."""
    vectors = _Vectors(embedder, pairs)
    for pair in pairs:
        asked, asked_ms = vectors.take(pair.a)
        stored, _ = vectors.take(pair.b)
        question, known = normalise(pair.a), normalise(pair.b)
        if question == known:
            yield PairOutcome(pair, _EXACT)
        elif asked is None or stored is None:
            yield PairOutcome(pair, _UNREAD, ms=asked_ms)
        else:
            begun = time.perf_counter()
            similarity = float(asked @ stored)
            answer = replace(STAND_IN, text=pair.answer) if pair.answer else STAND_IN
            found = [Candidate("stored", known, similarity, answer)] if similarity >= policy.floor() else []
            decision = policy.decide(question, found, None, calibration)
            yield PairOutcome(pair, decision, similarity, asked_ms + (time.perf_counter() - begun) * 1000)


class _Vectors:
    """Embeds each question once, and keeps the vector as long as a pair is to come that needs it."""

    def __init__(self, embedder: Embedder, pairs: Sequence[Pair]) -> None:
        self._embedder = embedder
        self._wanted = Counter(text for pair in pairs for text in (pair.a, pair.b))
        self._made: dict[str, tuple[NDArray[np.float32] | None, float]] = {}

    def take(self, text: str) -> tuple[NDArray[np.float32] | None, float]:
        """The vector of a question, None where it cannot be read, and how long it took in ms."""
        if text not in self._made:
            begun = time.perf_counter()
            vector = self._embedder.embed(normalise(text))
            self._made[text] = vector, (time.perf_counter() - begun) * 1000
        made = self._made[text]
        self._wanted[text] -= 1
        if not self._wanted[text]:
            del self._made[text]
        return made


# Precision against recall, as the threshold moves.

#: points; a chart needs no more
MOST_POINTS = 100


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """What is accepted at a threshold, and above. Shares 0..1, None where there is nothing to divide by.

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
    """From pairs, each as the highest threshold under which it is accepted, and whether it asks the same.

    The threshold is infinite for what is always accepted, None for what never is.
    """

    def __init__(self, pairs: Iterable[tuple[float | None, bool]]) -> None:
        known = list(pairs)
        self.same = sum(same for _, same in known)
        self.different = len(known) - self.same
        reached = sorted((threshold, same) for threshold, same in known if threshold is not None)
        self._thresholds = [threshold for threshold, _ in reached]
        self._same_below = [0, *accumulate(same for _, same in reached)]

    def at(self, threshold: float) -> FrontierPoint:
        """What is accepted at `threshold`."""
        place = bisect_left(self._thresholds, threshold)
        right = self._same_below[-1] - self._same_below[place]
        wrong = len(self._thresholds) - place - right
        return FrontierPoint(
            bar=threshold,
            precision=_share(right, right + wrong),
            recall=_share(right, self.same),
            accepted_same=right,
            accepted_different=wrong,
            false_accept_rate=_share(wrong, self.different),
        )

    def points(self, most: int = MOST_POINTS) -> list[FrontierPoint]:
        """At most `most`, lowest threshold first, with about as many pairs between each two."""
        finite = [threshold for threshold in self._thresholds if math.isfinite(threshold)]
        step = max(1, math.ceil(len(finite) / (most - 1)))
        return [self.at(threshold) for threshold in sorted({*finite[::step], *finite[-1:]})]

    def best_recall(self, precision: float) -> float | None:
        """The highest recall of all thresholds with at least this precision; None where there is none."""
        points = (self.at(threshold) for threshold in sorted(set(self._thresholds)))
        enough = (p.recall for p in points if p.precision is not None and p.precision >= precision)
        return max((recall for recall in enough if recall is not None), default=None)


def frontier(outcomes: Iterable[PairOutcome], calibration: Calibration = UNCALIBRATED) -> Frontier:
    """Over the threshold of the policy that gave these outcomes, which had learnt `calibration`."""
    return Frontier((highest_threshold(outcome, calibration), outcome.pair.same) for outcome in outcomes)


def cosine_frontier(outcomes: Iterable[PairOutcome]) -> Frontier:
    """Over the threshold, were similarity all that counts."""
    return Frontier(
        (math.inf if outcome.exact else outcome.similarity, outcome.pair.same) for outcome in outcomes
    )


def highest_threshold(outcome: PairOutcome, calibration: Calibration = UNCALIBRATED) -> float | None:
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
    threshold = verdict.confidence
    if verdict.objections or calibration.raised:
        # The threshold that becomes this confidence when errors have raised it and a guard doubts. To move a
        # probability down by some log-odds is to move its complement up by as many.
        rest = 1 - verdict.confidence
        moved = Thresholds(rest, threshold_with_doubt(rest), judge=None, floor=0.0).raised(calibration.raised)
        threshold = 1 - (moved.doubted if verdict.objections else moved.serve)
    return threshold if verdict.raw >= VERIFIER_FLOOR else min(threshold, verdict.raw)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


# The figures of an evaluation.

#: probabilities between which pairs are counted together: finer where the thresholds are
_BANDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
#: precisions whose best recall is reported
_PRECISIONS = (0.80, 0.85, 0.90, 0.95)


@dataclass(frozen=True, slots=True)
class Interval:
    """Contains the true share, 0..1, in at least 95 % of cases."""

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
class ReliabilityBand:
    """Pairs whose confidence is between `low` and `high`: its mean, and the share that asks the same."""

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
    """Shares 0..1, None where there is nothing to divide by; see `FrontierPoint` for what they mean.

    `exact` pairs have the same wording and were accepted without the policy, `unread` ones cannot be embedded
    and were not accepted. `left_to_judge` was not accepted either: no judge is asked.
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
    reliability: Sequence[ReliabilityBand]
    frontier: Sequence[FrontierPoint]
    best_recall_at_precision: Mapping[str, float | None]
    disagreements: Sequence[Disagreement]


def assess(
    policy: str,
    outcomes: Sequence[PairOutcome],
    *,
    calibration: Calibration = UNCALIBRATED,
    skipped_lines: int = 0,
    show: int = 0,
) -> Evaluation:
    """All figures; `show` of the disagreements at most, those first of which the policy was surest."""
    curve = frontier(outcomes, calibration)
    accepted = _split(outcome for outcome in outcomes if outcome.accepted)
    taken = [outcome.ms for outcome in outcomes if outcome.ms is not None]
    wrong = (outcome for outcome in outcomes if outcome.accepted != outcome.pair.same)
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
        latency_ms=LatencyPercentiles(percentile_of(taken, 0.50), percentile_of(taken, 0.99)),
        skipped_lines=skipped_lines,
        exact=sum(outcome.exact for outcome in outcomes),
        unread=sum(outcome.unread for outcome in outcomes),
        left_to_judge=_split(outcome for outcome in outcomes if outcome.decision.action == "judge"),
        by_guard=_by_guard(outcomes),
        reliability=_reliability(outcomes),
        frontier=curve.points(),
        best_recall_at_precision={f"{share:.2f}": curve.best_recall(share) for share in _PRECISIONS},
        disagreements=[
            Disagreement(
                a=outcome.pair.a,
                b=outcome.pair.b,
                same=outcome.pair.same,
                accepted=outcome.accepted,
                kind=outcome.pair.kind,
                similarity=outcome.similarity,
                confidence=outcome.verdict.confidence if outcome.verdict else None,
                why=outcome.decision.reason,
                objections=outcome.verdict.objections if outcome.verdict else (),
            )
            for outcome in sorted(wrong, key=_doubtfulness)[:show]
        ],
    )


def interval(part: int, whole: int) -> Interval | None:
    """The 95 % interval of a share; None where there is nothing to divide by."""
    error = served_error(Tally(right=whole - part, wrong=part))
    return None if error.low is None or error.high is None else Interval(error.low, error.high)


def _split(outcomes: Iterable[PairOutcome]) -> SameDifferent:
    flags = [outcome.pair.same for outcome in outcomes]
    return SameDifferent(sum(flags), len(flags) - sum(flags))


def _by_kind(outcomes: Iterable[PairOutcome]) -> dict[str, KindCounts]:
    kinds: defaultdict[str, list[PairOutcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.pair.kind is not None:
            kinds[outcome.pair.kind].append(outcome)
    counts = {}
    for kind, of_kind in sorted(kinds.items()):
        every = _split(of_kind)
        accepted = _split(outcome for outcome in of_kind if outcome.accepted)
        counts[kind] = KindCounts(
            pairs=len(of_kind),
            accepted=accepted.same + accepted.different,
            same=every.same,
            different=every.different,
            accepted_same=accepted.same,
            accepted_different=accepted.different,
        )
    return counts


def _by_guard(outcomes: Iterable[PairOutcome]) -> dict[str, GuardCounts]:
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


def _reliability(outcomes: Iterable[PairOutcome]) -> list[ReliabilityBand]:
    """Of the pairs that the verifier was asked about; bands that hold none are left out."""
    rated = [
        (outcome.verdict.confidence, outcome.pair.same)
        for outcome in outcomes
        if outcome.verdict is not None and outcome.verdict.confidence is not None
    ]
    bands = []
    for low, high in pairwise(_BANDS):
        inside = [(c, same) for c, same in rated if low <= c < high or c == high == 1]
        if inside:
            mean = sum(confidence for confidence, _ in inside) / len(inside)
            bands.append(
                ReliabilityBand(low, high, len(inside), mean, sum(same for _, same in inside) / len(inside))
            )
    return bands


def _doubtfulness(outcome: PairOutcome) -> tuple[bool, float]:
    """Sorts what was wrongly accepted before what was wrongly refused, the surest of each first."""
    confidence = outcome.verdict.confidence if outcome.verdict else None
    sure = outcome.similarity if confidence is None else confidence
    if outcome.accepted:
        return False, -(1.0 if sure is None else sure)
    refused = confidence is None and outcome.verdict is not None and bool(outcome.verdict.objections)
    return True, -1.0 if refused or sure is None else sure


# How well a judge judges.


def balanced(pairs: Sequence[Pair], limit: int) -> Sequence[Pair]:
    """At most `limit` of the pairs, as many that ask the same as that do not; always the same ones."""
    same = [pair for pair in pairs if pair.same]
    different = [pair for pair in pairs if not pair.same]
    each = min(len(same), len(different), limit // 2)
    return [*sample(same, each), *sample(different, each)]


async def measured(
    compare: Callable[[str, str], Awaitable[bool | None]], model: str, pairs: Sequence[Pair], now: float
) -> JudgeEvaluation:
    """Asks the judge about each pair, one after the other; there must be at least one. `now`: Unix seconds.

    Raises what `compare` raises: a judge that cannot be asked has not been measured.
    """
    trials = []
    for pair in pairs:
        begun = time.perf_counter()
        answer = await compare(pair.a, pair.b)
        trials.append(Trial(pair.same, answer, (time.perf_counter() - begun) * 1000))
    return evaluation_of(model, trials, now)
