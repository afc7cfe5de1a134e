"""The judgement of the cache: candidates in, decision out. Pure.

Similarity finds candidates; a policy decides whether one of them may be served. A stricter policy
joins here as another function of the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llmhost.cache.models import Candidate

__all__ = ["Decision", "Policy", "candidate_floor", "threshold_policy"]

#: cosine; unrelated questions lie below it, and looking at their answers would cost more than finding them
_FLOOR = 0.4


@dataclass(frozen=True, slots=True)
class Decision:
    """`candidate` is what to serve, None for a miss. `confidence` is 0..1, `reason` is for people."""

    candidate: Candidate | None
    confidence: float | None
    reason: str


class Policy(Protocol):
    """Judges the candidates for a question; `threshold` is the question's own, None where it brings none."""

    def __call__(
        self, question: str, candidates: Sequence[Candidate], threshold: float | None
    ) -> Decision: ...


def decide_by_threshold(candidates: Sequence[Candidate], threshold: float) -> Decision:
    """The paper's rule: the most similar question is served when its cosine reaches the threshold."""
    best = max(candidates, key=lambda candidate: candidate.similarity, default=None)
    if best is None:
        return Decision(None, None, "no question like it is stored")
    compared = f"similarity {best.similarity:.3f}"
    if not best.similarity >= threshold:  # also where either is no number
        return Decision(None, None, f"{compared} is below {threshold:g}")
    return Decision(best, None, f"{compared} reaches {threshold:g}")


def threshold_policy(default: float) -> Policy:
    """The paper's policy at a cosine similarity in -1..1."""

    def decide(question: str, candidates: Sequence[Candidate], threshold: float | None) -> Decision:  # noqa: ARG001
        return decide_by_threshold(candidates, default if threshold is None else threshold)

    return decide


def candidate_floor(threshold: float) -> float:
    """The cosine similarity below which nothing is worth a look, where `threshold` is served."""
    return min(_FLOOR, threshold)
