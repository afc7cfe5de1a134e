"""What the ledger records: one event for each question, whatever its outcome, and for engines' other work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

__all__ = ["NO_QUESTIONS", "EngineWork", "Outcome", "QuestionEvent", "engine_event"]


class Outcome(StrEnum):
    EXACT = "exact"  # served from the cache: the same question
    SEMANTIC = "semantic"  # served from the cache: another wording
    MISS = "miss"  # the cache was asked and had nothing; an engine answered
    BYPASS = "bypass"  # the cache was not asked (--no-cache, --refresh); an engine answered
    ERROR = "error"  # there was no answer
    LEFT = "left"  # there was none, and none was wanted any more: the user left, or takes cached ones alone
    AUDIT = "audit"  # not a user's question: an engine was asked again what the cache had answered
    JUDGE = "judge"  # not a user's question: an engine was asked whether two questions have the same answer
    CONDENSE = "condense"  # not a user's question: an engine was asked what a follow-up question means
    RENEWAL = "renewal"  # not a user's question: an engine was asked again as the cached answer was stale
    EMBEDDING = "embedding"  # not a question: an engine gave vectors of texts


#: what engines do besides answering users' questions: it costs all the same
NO_QUESTIONS = frozenset({Outcome.AUDIT, Outcome.JUDGE, Outcome.CONDENSE, Outcome.RENEWAL, Outcome.EMBEDDING})


@dataclass(frozen=True, slots=True)
class QuestionEvent:
    """`at` is Unix seconds when the answer was complete, `latency_ms` the time until then, without
    what a process spends once on loading the embedding model; `user_ms` is what the user waited, with that
    and with the start of the command. None where no user waited.

    `cost_usd` is what the engine's time cost, `saved_usd` what a hit's answer had cost to make. Tokens are
    those that an engine worked on: none for a hit. `waited`: the hit's answer was still being made for
    another request, so its latency says nothing about the cache. `shadow` is of a miss the tier, exact or
    semantic, that would have answered if hits were served, and would have saved `shadow_saved_usd`. `kind`
    says of a question whether its answer keeps, empty for engines' other work. `answers` are those that
    engines gave, `served_…_tokens` those of the answer that the user got, from wherever; `steps` says in
    milliseconds what took how long.
    """

    at: float
    outcome: Outcome
    latency_ms: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    engine_seconds: float = 0.0
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    waited: bool = False
    user_ms: float | None = None
    shadow: str | None = None
    shadow_saved_usd: float = 0.0
    kind: str = ""
    tenant: str = ""
    model: str = ""
    answers: Sequence[EngineWork] = ()
    served_prompt_tokens: int = 0
    served_completion_tokens: int = 0
    steps: Mapping[str, float] = field(default_factory=dict)


class EngineWork(Protocol):
    """What the ledger counts of an engine's answer; see `QuestionEvent`. `worker` is empty where it is not
    known."""

    @property
    def worker(self) -> str: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def engine_seconds(self) -> float: ...
    @property
    def cost_usd(self) -> float: ...


def engine_event(
    at: float,
    outcome: Outcome,
    latency_ms: float,
    answers: Sequence[EngineWork],
    *,
    user_ms: float | None = None,
) -> QuestionEvent:
    """The event of work that engines did: of one answer, or of several that one question took."""
    return QuestionEvent(
        at=at,
        outcome=outcome,
        latency_ms=latency_ms,
        user_ms=user_ms,
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
        engine_seconds=sum(answer.engine_seconds for answer in answers),
        cost_usd=sum(answer.cost_usd for answer in answers),
        answers=answers,
    )
