"""The judgement of the cache: candidates in, decision out. Pure.

Similarity finds candidates; a policy decides whether one of them may be served. A stricter policy
joins here as another function of the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from llmhost.cache.models import Candidate

__all__ = ["Decision", "Policy", "candidate_floor", "threshold_policy", "with_threshold"]

#: cosine; unrelated questions lie below it, and looking at their answers would cost more than finding them
_FLOOR = 0.4


@dataclass(frozen=True, slots=True)
class Decision:
    """`candidate` is what to serve, None for a miss. `confidence` is 0..1, `reason` is for people."""

    candidate: Candidate | None
    confidence: float | None
    reason: str


Policy = Callable[[Sequence[Candidate]], Decision]


def decide_by_threshold(candidates: Sequence[Candidate], threshold: float) -> Decision:
    """The paper's rule: the most similar question is served when its cosine reaches the threshold."""
    best = max(candidates, key=lambda candidate: candidate.similarity, default=None)
    if best is None:
        return Decision(None, None, "no question like it is stored")
    compared = f"similarity {best.similarity:.3f}"
    if best.similarity < threshold:
        return Decision(None, None, f"{compared} is below {threshold:g}")
    return Decision(best, None, f"{compared} reaches {threshold:g}")


def threshold_policy(threshold: float) -> Policy:
    """The paper's policy at a cosine similarity in -1..1."""
    return partial(decide_by_threshold, threshold=threshold)


def candidate_floor(threshold: float) -> float:
    """The cosine similarity below which nothing is worth a look, where `threshold` is served."""
    return min(_FLOOR, threshold)


def with_threshold(policy: Policy, threshold: float | None) -> Policy:
    """The policy for one question: its own threshold where it brings one."""
    return policy if threshold is None else threshold_policy(threshold)
