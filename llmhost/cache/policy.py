"""The cache's decision: candidates in, decision out. Pure.

Similarity finds candidates; a policy decides whether one of them may be served. The threshold policy looks at
nothing but the similarity. The verified one lets guards refuse what is evidently another question, asks the
verifier how likely the others mean the same, and serves from a threshold of that confidence on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from llmhost.cache.calibration import UNCALIBRATED, Calibration
from llmhost.cache.guards import answer_objection
from llmhost.cache.models import CacheDecision, Candidate, Judgement, Objection, Verdict
from llmhost.cache.rewording import undone

__all__ = [
    "VERIFIER_FLOOR",
    "CachePolicy",
    "ThresholdPolicy",
    "Thresholds",
    "VerifiedPolicy",
    "judged",
    "shifted",
    "threshold_with_doubt",
]

#: cosine; unrelated questions lie below it, and looking at their answers would cost more than finding them
_FLOOR = 0.4
#: cosine; "What is machine learning?" and "Explain ML in simple terms" have 0.51
_VERIFIED_FLOOR = 0.5
#: candidates; each costs about as much as an embedding, and the right one is nearly always among the first
_MOST_VERIFIED = 3
#: probability; no verifier counts for more, so that labels can always correct it
_HIGHEST = 1 - 1e-6
#: probability; what the verifier itself gives less than this is not served, whatever labels have taught
VERIFIER_FLOOR = 0.7
#: log-odds by which the verifier must be surer where a guard doubts: 0.937 in place of 0.90
_DOUBT = 0.5
#: log-odds of one step by which errors raise the thresholds: from 0.90 to 0.937, 0.961, ...
_STEP = 0.5


class CachePolicy(Protocol):
    """Decides on the candidates for a question. `threshold` is the question's own, None where it has none."""

    @property
    def slow(self) -> bool:
        """Whether that takes so long that the event loop must not wait for it."""
        ...

    def floor(self, threshold: float | None = None) -> float:
        """The cosine similarity below which a candidate is not looked at."""
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
    slow: bool = False

    def floor(self, threshold: float | None = None) -> float:
        return min(_FLOOR, self.default if threshold is None else threshold)

    def decide(
        self,
        question: str,  # noqa: ARG002
        candidates: Sequence[Candidate],
        threshold: float | None = None,
        calibration: Calibration = UNCALIBRATED,  # noqa: ARG002
    ) -> CacheDecision:
        if not candidates:
            return _NO_CANDIDATE
        best = _most_similar_first(candidates)[0]
        threshold = self.default if threshold is None else threshold
        reached = best.similarity >= threshold  # False where either is NaN
        reason = f"similarity {best.similarity:.3f} {'≥' if reached else '<'} {threshold:g}"
        verdict = Verdict(best, reached, reason)
        if reached:
            return CacheDecision("serve", best, None, reason, (verdict,))
        return CacheDecision("miss", None, None, reason, (verdict,))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Confidences, 0..1: a candidate is served from `serve` on, one that a guard doubts from `doubted` on.
    The judge is asked from `judge` on; None: there is none. What the verifier itself gives less than `floor`
    is never served, whatever labels have taught.
    """

    serve: float
    doubted: float
    judge: float | None
    floor: float

    def raised(self, steps: int) -> Thresholds:
        """The thresholds after errors have raised them by `steps`. The judge's does not change."""
        shift = steps * _STEP
        return replace(self, serve=shifted(self.serve, shift), doubted=shifted(self.doubted, shift))

    def with_serve(self, serve: float) -> Thresholds:
        """The thresholds for a question that brings its own; a guard's doubt still asks for more."""
        return replace(self, serve=serve, doubted=max(serve, self.doubted), floor=min(serve, self.floor))


def threshold_with_doubt(serve: float) -> float:
    """The threshold, 0..1, where a guard doubts, if `serve` is the one where none does."""
    return shifted(serve, _DOUBT)


def shifted(probability: float, by: float) -> float:
    """The probability, 0..1, whose log-odds are greater by `by`."""
    if not by or not 0 < probability < 1:
        return probability
    log_odds = math.log(probability / (1 - probability)) + by
    small = math.exp(-abs(log_odds))  # does not overflow
    return (1 if log_odds >= 0 else small) / (1 + small)


@dataclass(frozen=True, slots=True)
class VerifiedPolicy:
    """The wording step, guards, then the verifier, then the thresholds.

    `wording` gives both texts without what is certainly no difference: guards and verifier see these.
    `guards` says what speaks against a pair of questions; `verify` gives the probability, 0..1, that they ask
    the same, and is called for no more than three candidates; `slow` says that it is no small model.
    """

    guards: Callable[[str, str], tuple[Objection, ...]]
    verify: Callable[[str, str], float]
    thresholds: Thresholds
    wording: Callable[[str, str], tuple[str, str]] = undone
    answers: Callable[[str, str, str], Objection | None] = answer_objection
    slow: bool = False

    def floor(self, threshold: float | None = None) -> float:  # noqa: ARG002
        return _VERIFIED_FLOOR

    def decide(
        self,
        question: str,
        candidates: Sequence[Candidate],
        threshold: float | None = None,
        calibration: Calibration = UNCALIBRATED,
    ) -> CacheDecision:
        """Serves the first candidate that reaches its threshold; else leaves the surest in the grey zone to
        the judge; else a miss. `threshold` takes the place of `thresholds.serve`.
        """
        thresholds = self.thresholds if threshold is None else self.thresholds.with_serve(threshold)
        thresholds = thresholds.raised(calibration.raised)
        verdicts: list[Verdict] = []
        for candidate in _most_similar_first(candidates):
            verdicts.append(self._verdict(question, candidate, verdicts, thresholds, calibration))
        if not verdicts:
            return _NO_CANDIDATE
        for verdict in verdicts:
            if verdict.taken:
                found, confidence = verdict.candidate, verdict.confidence
                return CacheDecision("serve", found, confidence, verdict.words, tuple(verdicts))
        surest = max(verdicts, key=lambda verdict: -1.0 if verdict.confidence is None else verdict.confidence)
        if surest.confidence is None:
            return CacheDecision("miss", None, None, verdicts[0].words, tuple(verdicts))
        if thresholds.judge is not None and surest.confidence >= thresholds.judge:
            return CacheDecision("judge", surest.candidate, surest.confidence, surest.words, tuple(verdicts))
        return CacheDecision("miss", None, surest.confidence, surest.words, tuple(verdicts))

    def _verdict(
        self,
        question: str,
        candidate: Candidate,
        before: Sequence[Verdict],
        thresholds: Thresholds,
        calibration: Calibration,
    ) -> Verdict:
        if any(verdict.taken for verdict in before):
            return Verdict(candidate, False, "a more similar one was taken")
        if not candidate.similarity >= _VERIFIED_FLOOR:  # also where it is NaN
            return Verdict(candidate, False, f"similarity {candidate.similarity:.3f} < {_VERIFIED_FLOOR:g}")
        question, stored = self.wording(question, candidate.question)
        objections = self.guards(question, stored)
        if not any(objection.refuses for objection in objections):
            about = self.answers(question, stored, candidate.answer.text)
            objections += () if about is None else (about,)
        refusal = next((objection for objection in objections if objection.refuses), None)
        if refusal is not None:
            return Verdict(candidate, False, f"{refusal.guard}: {refusal.words}", objections=objections)
        if sum(verdict.raw is not None for verdict in before) >= _MOST_VERIFIED:
            words = f"the verifier read {_MOST_VERIFIED} more similar ones"
            return Verdict(candidate, False, words, objections=objections)
        probability = self.verify(question, stored)
        # The operator's own verifier may be broken.
        raw = min(probability, _HIGHEST) if 0 <= probability <= 1 else 0.0
        confidence = shifted(raw, calibration.shift)
        threshold = thresholds.doubted if objections else thresholds.serve
        taken = confidence >= threshold and raw >= thresholds.floor and raw > 0
        words = f"confidence {confidence:.3f} {'≥' if confidence >= threshold else '<'} {threshold:.3f}"
        if confidence >= threshold and not taken:
            words += f", but the verifier itself gave {raw:.3f} < {thresholds.floor:.3f}"
        words += "".join(f"; {doubt.guard} doubts: {doubt.words}" for doubt in objections)
        return Verdict(candidate, taken, words, confidence, raw, objections)


def judged(decision: CacheDecision, judgement: Judgement) -> CacheDecision:
    """The decision after the judge: only a clear yes is served."""
    answered = {True: "the judge says yes", False: "the judge says no", None: "the judge did not answer"}
    reason = f"{decision.reason}; {answered[judgement.same]}"
    verdicts = tuple(
        replace(one, taken=judgement.same is True, words=reason)
        if one.candidate is decision.candidate
        else one
        for one in decision.verdicts
    )
    if judgement.same is not True:
        return CacheDecision("miss", None, decision.confidence, reason, verdicts)
    return CacheDecision("serve", decision.candidate, decision.confidence, reason, verdicts)


_NO_CANDIDATE = CacheDecision("miss", None, None, "no similar question is stored")


def _most_similar_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Of two that are equally similar, the same one comes first each time."""
    return sorted(candidates, key=lambda candidate: (-candidate.similarity, candidate.entry))
