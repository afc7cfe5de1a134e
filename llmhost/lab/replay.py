"""A stream of questions, played through caches that start empty: what they serve as they fill, and how
much of it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llmhost.cache.keys import cache_key
from llmhost.lab.players import Embed, Outcome, Player, Vector
from llmhost.lab.stream import Asked

__all__ = ["PlayedPolicy", "Point", "Replay", "Share", "replay"]

#: points of a curve; more cannot be told apart on a chart
_MOST_POINTS = 100

#: questions between two reports of how far it is
_EVERY = 10


@dataclass(frozen=True, slots=True)
class PlayedPolicy:
    """What one policy made of the stream. `wrong_hits` were served the answer to a question of another
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
class Share:
    """Where one policy stood at a point of the stream, counted from its beginning."""

    hit_ratio: float
    wrong_hits: int


@dataclass(frozen=True, slots=True)
class Point:
    """After so many questions."""

    questions: int
    policies: Mapping[str, Share]


@dataclass(frozen=True, slots=True)
class Replay:
    """Policies by name, and how they came there; the last point is the end of the stream."""

    policies: Mapping[str, PlayedPolicy]
    points: Sequence[Point]


def replay(
    stream: Sequence[Asked],
    embed: Embed,
    players: Mapping[str, Player],
    on_progress: Callable[[float], None] = lambda _: None,
) -> Replay:
    """Plays the stream through every player. Takes as long as embedding each wording once, and what the
    players take. `on_progress` is told the share that has been played, 0..1. Raises ModelError.
    """
    once = _Once(embed)
    tallies = {name: _Tally() for name in players}
    every = -(-len(stream) // _MOST_POINTS)
    points = []
    for number, asked in enumerate(stream, 1):
        key = cache_key("", asked.question)
        for name, player in players.items():
            tallies[name].count(player.ask(key, asked.about, once))
        if number % every == 0 or number == len(stream):
            points.append(Point(number, {name: tally.share() for name, tally in tallies.items()}))
        if number % _EVERY == 0:
            on_progress(number / len(stream))
    return Replay({name: tally.played() for name, tally in tallies.items()}, points)


class _Once:
    """Embeds each wording once, whoever asks for it."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self._known: dict[str, Vector | None] = {}

    def __call__(self, question: str) -> Vector | None:
        if question not in self._known:
            self._known[question] = self._embed(question)
        return self._known[question]


class _Tally:
    """Counts what becomes of the questions of one player."""

    def __init__(self) -> None:
        self._questions = 0
        self._hits = {"exact": 0, "semantic": 0}
        self._wrong = {"exact": 0, "semantic": 0}
        self._explored = 0

    def count(self, outcome: Outcome) -> None:
        self._questions += 1
        self._explored += outcome.explored
        if outcome.source != "engine":
            self._hits[outcome.source] += 1
            self._wrong[outcome.source] += outcome.wrong

    def share(self) -> Share:
        return Share(sum(self._hits.values()) / self._questions, sum(self._wrong.values()))

    def played(self) -> PlayedPolicy:
        hits, wrong = sum(self._hits.values()), sum(self._wrong.values())
        return PlayedPolicy(
            questions=self._questions,
            exact_hits=self._hits["exact"],
            semantic_hits=self._hits["semantic"],
            wrong_exact_hits=self._wrong["exact"],
            wrong_semantic_hits=self._wrong["semantic"],
            wrong_hits=wrong,
            hit_ratio=hits / self._questions,
            wrong_share_of_hits=wrong / hits if hits else None,
            explored=self._explored,
        )
