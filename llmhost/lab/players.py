"""Caches in memory, for a replay: one that a policy of the product decides for, and what all of them share.

Only the store stands in for Redis. Names of entries, normalisation, policies and their floors are the
product's own. Nothing expires.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from llmhost.cache.keys import CacheKey
from llmhost.cache.models import Candidate
from llmhost.cache.policy import Policy
from llmhost.lab.evaluate import STAND_IN
from llmhost.lab.stream import About

__all__ = ["Embed", "Outcome", "Player", "PolicyPlayer", "Shelf", "Vector"]

Vector = NDArray[np.float32]
Embed = Callable[[str], Vector | None]

#: rows; what a matrix starts with, before it doubles
_FIRST_ROWS = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a question was answered from. `wrong`: with the answer to a question of another class.
    `explored`: an engine was asked although something like it was stored, to learn from its answer.
    """

    source: Literal["exact", "semantic", "engine"]
    wrong: bool = False
    explored: bool = False


class Player(Protocol):
    """A cache that starts empty."""

    def ask(self, key: CacheKey, about: About, embed: Embed) -> Outcome:
        """Answers a question, or has an engine answer it and keeps the answer. Raises ModelError."""
        ...


class Shelf:
    """What is stored. `embed` gives vectors of unit length."""

    def __init__(self) -> None:
        self._about: dict[str, About] = {}
        self._keys: list[CacheKey] = []
        self._matrix: Vector = np.zeros((0, 0), dtype=np.float32)

    def exact(self, key: CacheKey, about: About) -> Outcome | None:
        """The exact hit on the question, where it is stored."""
        stored = self._about.get(key.entry)
        return None if stored is None else Outcome("exact", wrong=stored != about)

    def about(self, candidate: Candidate) -> About:
        return self._about[candidate.entry]

    def keep(self, key: CacheKey, about: About, vector: Vector | None) -> None:
        """Without a vector only the same wording will find it."""
        self._about[key.entry] = about
        if vector is None:
            return
        row = len(self._keys)
        if row == len(self._matrix):
            room = np.zeros((max(row, _FIRST_ROWS), len(vector)), dtype=np.float32)
            self._matrix = np.concatenate([self._matrix.reshape(-1, len(vector)), room])
        self._matrix[row] = vector
        self._keys.append(key)

    def nearest(self, vector: Vector, k: int, floor: float) -> list[Candidate]:
        """The k of highest cosine similarity, most similar first, without those below the floor. Exact."""
        count = len(self._keys)
        if not count:
            return []
        similarities = self._matrix[:count] @ vector
        rows = np.argpartition(-similarities, k)[:k] if k < count else np.arange(count)
        # Of two that are equally similar, the one that was stored first.
        ordered = rows[np.lexsort((rows, -similarities[rows]))]
        found = zip(ordered.tolist(), similarities[ordered].tolist(), strict=True)
        # Rounding can put the cosine of two equal vectors a hair above 1.
        return [self._candidate(row, min(cosine, 1.0)) for row, cosine in found if cosine >= floor]

    def _candidate(self, row: int, similarity: float) -> Candidate:
        key = self._keys[row]
        return Candidate(key.entry, key.question, similarity, STAND_IN)


class PolicyPlayer:
    """The cache as it serves: exact, then what `policy` makes of the `candidates` most similar questions.

    No judge is asked and no label teaches: where the policy would leave the word to a judge, an engine
    answers.
    """

    def __init__(self, policy: Policy, candidates: int) -> None:
        self._policy = policy
        self._candidates = candidates
        self._shelf = Shelf()

    def ask(self, key: CacheKey, about: About, embed: Embed) -> Outcome:
        """See `Player.ask`."""
        exact = self._shelf.exact(key, about)
        if exact is not None:
            return exact
        vector = embed(key.question)
        found = [] if vector is None else self._shelf.nearest(vector, self._candidates, self._policy.floor())
        decision = self._policy.decide(key.question, found)
        if decision.action == "serve" and decision.candidate is not None:
            return Outcome("semantic", wrong=self._shelf.about(decision.candidate) != about)
        self._shelf.keep(key, about, vector)
        return Outcome("engine")
