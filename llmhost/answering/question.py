"""A question and its answer, as everything above the cache and the engines sees them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

from llmhost.cache.keys import CacheKey, cache_key, scope_id
from llmhost.cache.models import Verdict
from llmhost.engines.engine import Message, Sampling
from llmhost.errors import UsageError

__all__ = ["Latency", "Question", "Reply", "Source", "Text", "admit"]

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


# May this question be asked and cached, and in which scope? Pure.


def admit(question: Question, max_prompt_chars: int) -> CacheKey:
    """The question's place in the cache.

    Raises:
        UsageError: it is empty, or longer than the limit with its system prompt and earlier turns.
    """
    if not question.prompt.strip():
        raise UsageError("the question is empty", hint='ask like this: llmhost ask "What is Redis?"')
    length = len(question.prompt) + len(question.system or "") + sum(len(m.content) for m in question.history)
    if length > max_prompt_chars:
        raise UsageError(
            f"the question has {length:,} characters; the limit is {max_prompt_chars:,}",
            hint="shorten it, or raise `limits.max_prompt_chars`",
        )
    return cache_key(_scope(question), question.prompt)


def _scope(question: Question) -> str:
    return scope_id(
        {
            "tenant": question.tenant,
            "model": question.model,
            "system": question.system,
            "history": [[message.role, message.content] for message in question.history],
            "sampling": asdict(question.sampling),
        }
    )
