"""The judgement of the cache: candidates in, decision out. Pure.

Similarity finds candidates; a policy decides whether one of them may be served. The threshold policy looks
at nothing but the similarity. The verified one lets guards refuse what is evidently another question, asks
the verifier how likely the rest mean the same, and serves only over a bar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from llmhost.cache.calibration import UNCALIBRATED, Calibration
from llmhost.cache.models import CacheDecision, Candidate, Judgement, Objection, Verdict

__all__ = [
    "VERIFIER_FLOOR",
    "CachePolicy",
    "ThresholdPolicy",
    "Thresholds",
    "VerifiedPolicy",
    "judged",
    "threshold_with_doubt",
]

#: cosine; unrelated questions lie below it, and looking at their answers would cost more than finding them
_FLOOR = 0.4

#: cosine; "What is machine learning?" and "Explain ML in simple terms" have 0.51
_VERIFIED_FLOOR = 0.5

#: candidates; each costs about as much as an embedding, and the right one is nearly always among the first
_MOST_VERIFIED = 3

#: probability; nothing that is said of two wordings is surer, so that labels can always teach otherwise
_SUREST = 1 - 1e-6

#: probability; what labels have taught never lets the verifier's own word count for more than this allows
VERIFIER_FLOOR = 0.7

#: log-odds by which the verifier must be surer where a guard doubts: 0.937 in place of 0.90
_DOUBT = 0.5

#: log-odds of one step by which the bar is raised: from 0.90 to 0.937, 0.961, ...
_STEP = 0.5


class CachePolicy(Protocol):
    """Judges the candidates for a question. `threshold` is the question's own, None where it brings none."""

    def floor(self, threshold: float | None = None) -> float:
        """The cosine similarity below which nothing is worth a look."""
        ...

    def decide(
        self,
        question: str,
        candidates: Sequence[Candidate],
        threshold: float | None = None,
        calibration: Calibration = UNCALIBRATED,
    ) -> CacheDecision: ...


@dataclass(frozen=True, slots=True)
class ThresholdPolicy:
    """The most similar question is served when its cosine, -1..1, reaches the threshold."""

    default: float

    def floor(self, threshold: float | None = None) -> float:
        return min(_FLOOR, self._threshold(threshold))

    def decide(
        self,
        question: str,  # noqa: ARG002
        candidates: Sequence[Candidate],
        threshold: float | None = None,
        calibration: Calibration = UNCALIBRATED,  # noqa: ARG002
    ) -> CacheDecision:
        if not candidates:
            return _nothing_like_it()
        best = _most_similar_first(candidates)[0]
        bar, compared = self._threshold(threshold), f"similarity {best.similarity:.3f}"
        if not best.similarity >= bar:  # also where either is no number
            reason = f"{compared} is below {bar:g}"
            return CacheDecision("miss", None, None, reason, (Verdict(best, False, reason),))
        reason = f"{compared} reaches {bar:g}"
        return CacheDecision("serve", best, None, reason, (Verdict(best, True, reason),))

    def _threshold(self, threshold: float | None) -> float:
        return self.default if threshold is None else threshold


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Probabilities, 0..1: from `serve` on a candidate is served, from `doubted` on one that a guard doubts.
    From `judge` on the judge is asked; None: there is no judge. What the verifier itself gives less than
    `floor` is never served, whatever labels have taught.
    """

    serve: float
    doubted: float
    judge: float | None
    floor: float

    def raised(self, steps: int) -> Thresholds:
        """The thresholds after errors have raised them by so many steps. The judge's stays."""
        shift = steps * _STEP
        return replace(self, serve=shifted(self.serve, shift), doubted=shifted(self.doubted, shift))


@dataclass(frozen=True, slots=True)
class VerifiedPolicy:
    """Guards, then the verifier, then the thresholds.

    `guards` says what speaks against a pair of questions; `verify` gives the probability, 0..1, that they ask
    the same, and is called for no more than three candidates.
    """

    guards: Callable[[str, str], tuple[Objection, ...]]
    verify: Callable[[str, str], float]
    thresholds: Thresholds

    def floor(self, threshold: float | None = None) -> float:  # noqa: ARG002
        return _VERIFIED_FLOOR

    def decide(
        self,
        question: str,
        candidates: Sequence[Candidate],
        threshold: float | None = None,
        calibration: Calibration = UNCALIBRATED,
    ) -> CacheDecision:
        """`threshold` takes the place of `thresholds.serve`; a guard that doubts still asks for more."""
        thresholds = (
            self.thresholds if threshold is None else _asked_for(self.thresholds, threshold)
        ).raised(calibration.raised)
        verdicts: list[Verdict] = []
        for candidate in _most_similar_first(candidates):
            verdicts.append(self._verdict(question, candidate, verdicts, thresholds, calibration))
        return _decision(verdicts, thresholds)

    def _verdict(
        self,
        question: str,
        candidate: Candidate,
        before: Sequence[Verdict],
        thresholds: Thresholds,
        calibration: Calibration,
    ) -> Verdict:
        if any(verdict.taken for verdict in before):
            return Verdict(candidate, False, "one before it was taken")
        if not candidate.similarity >= _VERIFIED_FLOOR:  # also where it is no number
            return Verdict(
                candidate, False, f"similarity {candidate.similarity:.3f} is below {_VERIFIED_FLOOR:g}"
            )
        objections = self.guards(question, candidate.question)
        refusal = next((objection for objection in objections if objection.refuses), None)
        if refusal is not None:
            return Verdict(candidate, False, f"{refusal.guard}: {refusal.words}", objections=objections)
        if sum(verdict.raw is not None for verdict in before) >= _MOST_VERIFIED:
            return Verdict(candidate, False, "more similar ones were looked at", objections=objections)
        raw = _probability(self.verify(question, candidate.question))
        confidence = shifted(raw, calibration.shift)
        bar = thresholds.doubted if objections else thresholds.serve
        taken = confidence >= bar and raw >= thresholds.floor and raw > 0
        return Verdict(
            candidate, taken, _compared(confidence, bar, taken, objections), confidence, raw, objections
        )


def judged(decision: CacheDecision, judgement: Judgement) -> CacheDecision:
    """What becomes of a decision that was left to the judge: only a clear yes is served."""
    word = {True: "says that both ask the same", False: "says that they do not", None: "did not say"}
    reason = f"{decision.reason}; the judge {word[judgement.same]}"
    verdicts = tuple(
        replace(one, taken=judgement.same is True, words=reason)
        if one.candidate is decision.candidate
        else one
        for one in decision.verdicts
    )
    if judgement.same is not True:
        return CacheDecision("miss", None, decision.confidence, reason, verdicts)
    return CacheDecision("serve", decision.candidate, decision.confidence, reason, verdicts)


def shifted(probability: float, by: float) -> float:
    """The probability, 0..1, whose log-odds are greater by `by`."""
    if not by or not 0 < probability < 1:
        return probability
    log_odds = math.log(probability / (1 - probability)) + by
    small = math.exp(-abs(log_odds))  # never too large to be a number
    return (1 if log_odds >= 0 else small) / (1 + small)


def threshold_with_doubt(serve: float) -> float:
    """The bar, 0..1, for what a guard doubts, where `serve` is the bar for what none does."""
    return shifted(serve, _DOUBT)


def _asked_for(thresholds: Thresholds, serve: float) -> Thresholds:
    return replace(
        thresholds, serve=serve, doubted=max(serve, thresholds.doubted), floor=min(serve, thresholds.floor)
    )


def _decision(verdicts: Sequence[Verdict], thresholds: Thresholds) -> CacheDecision:
    """Serve what was taken; else let the judge look at the surest one in the grey zone; else a miss."""
    if not verdicts:
        return _nothing_like_it()
    taken = next((verdict for verdict in verdicts if verdict.taken), None)
    if taken is not None:
        return CacheDecision("serve", taken.candidate, taken.confidence, taken.words, tuple(verdicts))
    surest = max(verdicts, key=lambda verdict: -1.0 if verdict.confidence is None else verdict.confidence)
    confidence = surest.confidence
    if thresholds.judge is not None and confidence is not None and confidence >= thresholds.judge:
        return CacheDecision("judge", surest.candidate, confidence, surest.words, tuple(verdicts))
    best = surest if confidence is not None else verdicts[0]
    return CacheDecision("miss", None, confidence, best.words, tuple(verdicts))


def _most_similar_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Of two that are equally similar, the same one comes first each time."""
    return sorted(candidates, key=lambda candidate: (-candidate.similarity, candidate.entry))


def _probability(given: float) -> float:
    """What a verifier gave, if it is a probability; else 0, which is never served."""
    return min(given, _SUREST) if 0 <= given <= 1 else 0.0


def _nothing_like_it() -> CacheDecision:
    return CacheDecision("miss", None, None, "no question like it is stored")


def _compared(confidence: float, bar: float, taken: bool, doubts: Sequence[Objection]) -> str:
    words = f"{confidence:.3f} sure that both ask the same, {bar:.3f} is {'enough' if taken else 'wanted'}"
    return words + "".join(f"; {doubt.guard} doubts: {doubt.words}" for doubt in doubts)
