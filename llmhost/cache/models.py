"""Values of the cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llmhost.cache.policy import Verdict

__all__ = ["Answer", "Candidate", "Entry", "Neighbour", "SemanticLookup"]


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
class SemanticLookup:
    """What the semantic tier found.

    `served` None is a miss; `confidence` is how sure the policy is, 0..1, None where it does not say.
    `verdict` is the one on what was served.
    `nearest` is the most similar candidate, served or not; `verdicts` says of every candidate why it was
    taken or refused. `vector` is the question's embedding, to be stored with its answer; None where the
    question cannot be embedded. Times in milliseconds; `load_ms` is spent once in a process, on the models;
    `verify_ms` holds guards, verifier and judge.
    """

    served: Candidate | None = None
    nearest: Candidate | None = None
    confidence: float | None = None
    reason: str = ""
    verdict: Verdict | None = None
    verdicts: tuple[Verdict, ...] = ()
    vector: NDArray[np.float32] | None = field(default=None, repr=False)
    load_ms: float = 0.0
    embed_ms: float = 0.0
    lookup_ms: float = 0.0
    verify_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached question for people to look at. Times are Unix seconds; `expires_in` seconds.

    `answer` is None where it has expired and only the question is still known.
    """

    entry: str
    question: str
    scope: str
    embedder: str
    hit_count: int
    created: float
    last_accessed: float
    expires_in: float | None
    answer: Answer | None
