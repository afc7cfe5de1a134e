"""What the cache would do with pairs of questions, by the very code that serves.

Where the answer to the second question of a pair is all that is stored, and the first one is asked.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.cache.calibration import Trust
from llmhost.cache.embedding import Embedder
from llmhost.cache.keys import normalise
from llmhost.cache.models import Answer, Candidate
from llmhost.cache.policy import Decision, Policy, Verdict
from llmhost.lab.pairs import Pair

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["STAND_IN", "Outcome", "evaluate"]

#: What is stored with a question; no policy looks at it.
STAND_IN = Answer("", "", 0.0, 0, 0, "stop", 0.0, 0.0)

_EXACT = Decision("serve", None, None, "the same wording")
_UNREAD = Decision("miss", None, None, "the embedding model cannot read all of one of them")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a pair.

    `similarity` is the cosine, -1..1, None where the wordings are the same or one cannot be embedded. `ms` is
    what the asked question took, to embed and to judge; None where the exact tier answered it.
    """

    pair: Pair
    decision: Decision
    similarity: float | None = None
    ms: float | None = None

    @property
    def accepted(self) -> bool:
        """Whether the one would be answered with the answer to the other, without a judge."""
        return self.decision.action == "serve"

    @property
    def exact(self) -> bool:
        """Whether the exact tier answered, which no policy is asked about."""
        return self.decision is _EXACT

    @property
    def unread(self) -> bool:
        """Whether one of the two cannot be embedded."""
        return self.decision is _UNREAD

    @property
    def verdict(self) -> Verdict | None:
        """What the policy found; None where it was shown nothing."""
        return self.decision.verdicts[0] if self.decision.verdicts else None


def evaluate(
    pairs: Sequence[Pair],
    embedder: Embedder,
    policy: Policy,
    trust: Trust = Trust(),  # noqa: B008  # frozen
) -> Iterator[Outcome]:
    """The outcome of each pair, one after the other. Raises ModelError where a model fails."""
    vectors = _Vectors(embedder, pairs)
    for pair in pairs:
        yield _outcome(pair, vectors, policy, trust)


def _outcome(pair: Pair, vectors: _Vectors, policy: Policy, trust: Trust) -> Outcome:
    asked, asked_ms = vectors.take(pair.a)
    stored, _ = vectors.take(pair.b)
    question, known = normalise(pair.a), normalise(pair.b)
    if question == known:
        return Outcome(pair, _EXACT)
    if asked is None or stored is None:
        return Outcome(pair, _UNREAD, ms=asked_ms)
    begun = time.perf_counter()
    similarity = float(asked @ stored)
    found = [Candidate("stored", known, similarity, STAND_IN)] if similarity >= policy.floor() else []
    decision = policy.decide(question, found, None, trust)
    return Outcome(pair, decision, similarity, asked_ms + (time.perf_counter() - begun) * 1000)


class _Vectors:
    """Embeds each question once, and keeps the vector as long as a pair is to come that needs it."""

    def __init__(self, embedder: Embedder, pairs: Sequence[Pair]) -> None:
        self._embedder = embedder
        self._wanted = Counter(text for pair in pairs for text in (pair.a, pair.b))
        self._made: dict[str, tuple[NDArray[np.float32] | None, float]] = {}

    def take(self, text: str) -> tuple[NDArray[np.float32] | None, float]:
        """The vector of a question, None where it cannot be read, and how long it took in ms."""
        if text not in self._made:
            begun = time.perf_counter()
            vector = self._embedder.embed(normalise(text))
            self._made[text] = vector, (time.perf_counter() - begun) * 1000
        made = self._made[text]
        self._wanted[text] -= 1
        if not self._wanted[text]:
            del self._made[text]
        return made
