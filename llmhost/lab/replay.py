"""A stream of questions, played through caches that start empty: what they serve as they fill, and how much
of it is wrong.

Only the store stands in for Redis. Names of entries, normalisation, the flat index, policies and their
floors are the product's own. Nothing expires.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from llmhost.cache.indexes.flat import Mirror, encode_record
from llmhost.cache.keys import CacheKey, cache_key
from llmhost.cache.models import Candidate
from llmhost.cache.policy import CachePolicy
from llmhost.lab.evaluate import STAND_IN
from llmhost.lab.pairs import About, Asked

__all__ = [
    "Embed",
    "PlayOutcome",
    "PlayedPolicy",
    "Player",
    "PolicyPlayer",
    "Replay",
    "ReplayPoint",
    "Shelf",
    "Vector",
    "replay",
]

Vector = NDArray[np.float32]
Embed = Callable[[str], Vector | None]


@dataclass(frozen=True, slots=True)
class PlayOutcome:
    """Where a question was answered from. `wrong`: with the answer to a question of another class.
    `explored`: an engine was asked although something like it was stored, to learn from its answer.
    """

    source: Literal["exact", "semantic", "engine"]
    wrong: bool = False
    explored: bool = False


class Player(Protocol):
    """A cache that starts empty."""

    def ask(self, key: CacheKey, about: About, embed: Embed) -> PlayOutcome:
        """Answers a question, or has an engine answer it and keeps the answer. Raises ModelError."""
        ...


class Shelf:
    """What is stored. `embed` gives vectors of unit length."""

    def __init__(self) -> None:
        self._about: dict[str, About] = {}
        self._questions: dict[str, str] = {}
        self._index: Mirror | None = None

    def exact(self, key: CacheKey, about: About) -> PlayOutcome | None:
        """The exact hit on the question, where it is stored."""
        stored = self._about.get(key.entry)
        return None if stored is None else PlayOutcome("exact", wrong=stored != about)

    def about(self, candidate: Candidate) -> About:
        return self._about[candidate.entry]

    def keep(self, key: CacheKey, about: About, vector: Vector | None) -> None:
        """Without a vector only the same wording will find it."""
        self._about[key.entry] = about
        if vector is None:
            return
        self._questions[key.entry] = key.question
        if self._index is None:
            self._index = Mirror(len(vector))
        self._index.replay(encode_record(key.entry, vector))

    def nearest(self, vector: Vector, k: int, floor: float) -> list[Candidate]:
        """The k of highest cosine similarity, most similar first, without those below the floor."""
        return [
            Candidate(near.entry, self._questions[near.entry], near.similarity, STAND_IN)
            for near in (() if self._index is None else self._index.search(vector, k))
            if near.similarity >= floor
        ]


@dataclass(frozen=True, slots=True)
class PolicyPlayer:
    """The cache as it serves: exact, then what `policy` makes of the `candidates` most similar questions.

    No judge is asked and no label teaches: where the policy would ask a judge, an engine answers.
    """

    policy: CachePolicy
    candidates: int
    shelf: Shelf = field(default_factory=Shelf, init=False)

    def ask(self, key: CacheKey, about: About, embed: Embed) -> PlayOutcome:
        """See `Player.ask`."""
        exact = self.shelf.exact(key, about)
        if exact is not None:
            return exact
        vector = embed(key.question)
        found = [] if vector is None else self.shelf.nearest(vector, self.candidates, self.policy.floor())
        decision = self.policy.decide(key.question, found)
        if decision.action == "serve" and decision.candidate is not None:
            return PlayOutcome("semantic", wrong=self.shelf.about(decision.candidate) != about)
        self.shelf.keep(key, about, vector)
        return PlayOutcome("engine")


#: points of a curve; more cannot be told apart on a chart
_MOST_POINTS = 100
#: questions between two reports of how far it is
_EVERY = 10


@dataclass(frozen=True, slots=True)
class PlayedPolicy:
    """The result of one policy on the stream. `wrong_hits` were served the answer to a question of another
    class; `wrong_share_of_hits` is None where nothing was served. `explored`: an engine was
    asked although something like it was stored, to learn from its answer.
    """

    questions: int
    exact_hits: int
    semantic_hits: int
    wrong_exact_hits: int
    wrong_semantic_hits: int
    wrong_hits: int
    hit_ratio: float
    wrong_share_of_hits: float | None
    explored: int


@dataclass(frozen=True, slots=True)
class ReplayShare:
    """Where one policy stood at a point of the stream, counted from its beginning."""

    hit_ratio: float
    wrong_hits: int


@dataclass(frozen=True, slots=True)
class ReplayPoint:
    """The course after `questions`."""

    questions: int
    policies: Mapping[str, ReplayShare]


@dataclass(frozen=True, slots=True)
class Replay:
    """Policies by name, and their course; the last point is the end of the stream."""

    policies: Mapping[str, PlayedPolicy]
    points: Sequence[ReplayPoint]


def replay(
    stream: Sequence[Asked],
    embed: Embed,
    players: Mapping[str, Player],
    on_progress: Callable[[float], None] = lambda _: None,
) -> Replay:
    """Plays the stream through every player. Takes as long as embedding each wording once, and what the
    players take. `on_progress` gets the share that has been played, 0..1. Raises ModelError.
    """
    once = cache(embed)
    tallies: dict[str, Counter[PlayOutcome]] = {name: Counter() for name in players}
    every = -(-len(stream) // _MOST_POINTS)
    points = []
    for number, asked in enumerate(stream, 1):
        key = cache_key("", asked.question)
        for name, player in players.items():
            tallies[name][player.ask(key, asked.about, once)] += 1
        if number % every == 0 or number == len(stream):
            points.append(ReplayPoint(number, {name: _share(tally) for name, tally in tallies.items()}))
        if number % _EVERY == 0:
            on_progress(number / len(stream))
    return Replay({name: _played(tally) for name, tally in tallies.items()}, points)


def _share(tally: Counter[PlayOutcome]) -> ReplayShare:
    hits = sum(count for outcome, count in tally.items() if outcome.source != "engine")
    wrong = sum(count for outcome, count in tally.items() if outcome.wrong)
    return ReplayShare(hits / tally.total(), wrong)


def _played(tally: Counter[PlayOutcome]) -> PlayedPolicy:
    right_exact, wrong_exact = (tally[PlayOutcome("exact", wrong)] for wrong in (False, True))
    right_semantic, wrong_semantic = (tally[PlayOutcome("semantic", wrong)] for wrong in (False, True))
    wrong = wrong_exact + wrong_semantic
    hits = right_exact + right_semantic + wrong
    return PlayedPolicy(
        questions=tally.total(),
        exact_hits=right_exact + wrong_exact,
        semantic_hits=right_semantic + wrong_semantic,
        wrong_exact_hits=wrong_exact,
        wrong_semantic_hits=wrong_semantic,
        wrong_hits=wrong,
        hit_ratio=hits / tally.total(),
        wrong_share_of_hits=wrong / hits if hits else None,
        explored=tally[PlayOutcome("engine", explored=True)],
    )
