"""Sums of what happened over a stretch of time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmhost.ledger.events import NO_QUESTIONS, Outcome

__all__ = ["Totals"]


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a stretch of time. `hit_ms` and `miss_ms` count latencies by histogram bucket, `…_user_ms`
    those that users saw. `shadow` counts what was not served and its comparisons, by their names in Redis:
    `exact`, `semantic`, `exact:right`, … `kinds` counts questions by whether their answers keep. `steps` has
    a histogram for each step of a question, and `by` the sums of each worker, tenant and model, by the kind
    and its name.
    """

    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    engine_seconds: float = 0.0
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    hit_ms: Mapping[int, int] = field(default_factory=dict)
    miss_ms: Mapping[int, int] = field(default_factory=dict)
    hit_user_ms: Mapping[int, int] = field(default_factory=dict)
    miss_user_ms: Mapping[int, int] = field(default_factory=dict)
    shadow: Mapping[str, int] = field(default_factory=dict)
    shadow_saved_usd: float = 0.0
    kinds: Mapping[str, int] = field(default_factory=dict)
    served_prompt_tokens: int = 0
    served_completion_tokens: int = 0
    steps: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    by: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)

    def count(self, *outcomes: Outcome) -> int:
        return sum(self.outcomes.get(outcome, 0) for outcome in outcomes)

    @property
    def requests(self) -> int:
        """Questions; what engines were asked besides is none."""
        return sum(count for outcome, count in self.outcomes.items() if outcome not in NO_QUESTIONS)
