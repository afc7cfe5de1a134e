"""Values of the cache."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Answer", "Candidate", "Lookup", "Neighbour"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer as it is stored: who gave it, when (Unix seconds) and what it took."""

    text: str
    model: str
    timestamp: float
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    engine_seconds: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry near a question: cosine similarity in -1..1."""

    entry: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A neighbour whose answer is still there, so that it could be served."""

    entry: str
    question: str
    similarity: float
    answer: Answer


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the cache found; `answer` None is a miss. Times in milliseconds.

    `confidence` is how sure the policy is (1.0 for an exact hit). `near` is the most similar
    candidate's similarity, served or not.
    """

    answer: Answer | None
    source: str
    entry: str
    similarity: float | None = None
    confidence: float | None = None
    question: str | None = None
    near: float | None = None
    reason: str = ""
