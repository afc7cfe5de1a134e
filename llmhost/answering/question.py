"""A question and its answer, as everything above the cache and the engines sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llmhost.cache.policy import Verdict
from llmhost.engines.engine import Message, Sampling

__all__ = ["Latency", "Question", "Reply", "Source", "Text"]

Source = Literal["exact", "semantic", "engine"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `history` holds the earlier turns, oldest first.

    `use_cache` False neither reads nor stores; `refresh` asks an engine and stores anew; `threshold`
    overrides the policy's for this question: a cosine similarity, or a probability with `verified`.
    """

    prompt: str
    model: str
    tenant: str
    system: str | None = None
    history: tuple[Message, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    use_cache: bool = True
    refresh: bool = False
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer, in order; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds; a step that was not taken is 0. `load` is the part of `total` that this process
    spends only once, on loading the embedding model and the verifier.
    """

    total: float
    load: float = 0.0
    embed: float = 0.0
    lookup: float = 0.0
    verify: float = 0.0
    engine: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What there is to say once the answer is complete.

    `entry` names the cached entry that was served, or under which the answer was stored; None where it
    was not stored. `similarity` and `matched_question` belong to a semantic hit; `verdicts` says of every
    candidate of the semantic tier why it was taken or refused, and `reason` sums it up, for people; empty
    where that tier was not asked. `finish_reason` is the engine's own: only "stop" is a complete answer,
    which is cached.
    """

    answer: str
    source: Source
    model: str
    latency: Latency
    finish_reason: str
    similarity: float | None = None
    confidence: float | None = None
    matched_question: str | None = None
    entry: str | None = None
    worker: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    reason: str = ""
    verdicts: tuple[Verdict, ...] = ()
