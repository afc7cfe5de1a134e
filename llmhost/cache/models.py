"""Values of the cache: what is stored, what is found, and what is decided about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


__all__ = [
    "Answer",
    "Asker",
    "CacheDecision",
    "Candidate",
    "Entry",
    "Hit",
    "Judge",
    "Judgement",
    "Neighbour",
    "Objection",
    "SemanticLookup",
    "Served",
    "ServedHit",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer as it is stored: who gave it, when (Unix seconds) and what it took. `worker` and
    `machine`, its provider's name for the computer, are empty where they are not known. After `fresh_until`,
    Unix seconds, it is stale: served only while another one is asked for. None: it is fresh while it is kept.
    """

    text: str
    model: str
    timestamp: float
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    engine_seconds: float
    cost_usd: float
    worker: str = ""
    machine: str = ""
    fresh_until: float | None = None


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
class Objection:
    """What a guard says against serving one question's answer to another; `words` say why, for people. One
    that only doubts (`refuses` False) leaves the decision to the verifier, which must then be surer than
    usual.
    """

    guard: str
    words: str
    refuses: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found about one candidate; `words` are for people.

    `confidence` is the verifier's probability, 0..1, as this fleet's own labels have corrected it, and `raw`
    without; both None where the verifier was not asked.
    """

    candidate: Candidate
    taken: bool
    words: str
    confidence: float | None = None
    raw: float | None = None
    objections: tuple[Objection, ...] = ()

    @property
    def doubts(self) -> tuple[str, ...]:
        """The guards that objected; of what was served, those that doubted."""
        return tuple(objection.guard for objection in self.objections)


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose question it is; no other may see it. `user` is empty where users are not told apart."""

    fleet: str
    tenant: str
    user: str = ""


@dataclass(frozen=True, slots=True)
class Served:
    """A semantic hit as it is remembered: the question that was asked, whose it was, and the verdict."""

    verdict: Verdict
    question: str
    asker: Asker


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry that was served at `at`, Unix seconds; `served` where it was to another wording."""

    entry: str
    at: float
    served: Served | None = None


@dataclass(frozen=True, slots=True)
class CacheDecision:
    """`candidate` is what to serve, or what the judge is to be asked about; None for a miss. `verdicts` has
    every candidate, most similar first. `reason` is for people.
    """

    action: Literal["serve", "judge", "miss"]
    candidate: Candidate | None
    confidence: float | None
    reason: str
    verdicts: tuple[Verdict, ...] = ()

    @property
    def verdict(self) -> Verdict | None:
        """The one on `candidate`."""
        return next((one for one in self.verdicts if one.candidate is self.candidate), None)


@dataclass(frozen=True, slots=True)
class Judgement:
    """`same` None: no clear answer, or none in time. `remembered`: this pair was judged before."""

    same: bool | None
    remembered: bool = False


class Judge(Protocol):
    """The fleet's own model, asked in the grey zone whether two questions have the same answer."""

    async def judge(self, scope: str, question: str, stored: str) -> Judgement:
        """Bounded in time; no answer where the engine fails. Raises StoreError where Redis is away."""
        ...


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
    """One cached question for people to look at. Times are Unix seconds; `expires_in_s` seconds.

    `embedder` and `dimensions` are of the index that has it.
    """

    entry: str
    question: str
    scope: str
    embedder: str
    dimensions: int
    hit_count: int
    created: float
    last_accessed: float
    expires_in_s: float
    answer: Answer


@dataclass(frozen=True, slots=True)
class ServedHit:
    """The last time that an entry was served to another wording, `asked`, at `at`, Unix seconds.

    `raw` is the verifier's probability, 0..1, before labels corrected it, None where there was none; `doubts`
    names the guards that doubted.
    """

    entry: Entry
    asked: str
    at: float
    raw: float | None
    doubts: tuple[str, ...]
