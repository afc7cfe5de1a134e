"""What judges have said, and how well they judge, in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from llmhost.cache.fitness import Fitness
from llmhost.cache.keys import Keys, pair_id
from llmhost.store.client import translate_errors
from llmhost.store.values import amount, text

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["FitnessBook", "Judgements"]

_WORDS = {"1": True, "0": False}


class Judgements:
    """The words on pairs of questions, for `lifetime` seconds each.

    Both orders of a pair are one pair, and another scope is another pair. Every method raises StoreError
    where Redis is away or will not write.
    """

    def __init__(self, client: Redis, keys: Keys, lifetime: float) -> None:
        self._client = client
        self._keys = keys
        self._lifetime_ms = round(lifetime * 1000)

    async def recall(self, scope: str, question: str, stored: str) -> bool | None:
        """The word on this pair; None where there is none, or none that makes sense."""
        with translate_errors():
            word = await self._client.get(self._key(scope, question, stored))
        return _WORDS.get(text(word or b""))

    async def remember(self, scope: str, question: str, stored: str, same: bool) -> bool:
        """Keeps the word on this pair; says whether there was none that made sense before."""
        with translate_errors():
            key, lifetime = self._key(scope, question, stored), self._lifetime_ms
            before = await self._client.set(key, int(same), px=lifetime, get=True)
        return not isinstance(before, bytes | str) or text(before) not in _WORDS

    def _key(self, scope: str, question: str, stored: str) -> str:
        return self._keys.judged(pair_id(scope, question, stored))


class FitnessBook:
    """The last measurement of a fleet's judge, `llmhost:{fleet}:judge`, without a lifetime.

    Every method raises StoreError where Redis is away or will not write.
    """

    def __init__(self, client: Redis, fleet: str) -> None:
        self._client = client
        self._key = f"llmhost:{fleet}:judge"

    async def write(self, fitness: Fitness) -> None:
        """Takes the place of the one before."""
        fields = asdict(fitness).items()
        with translate_errors():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.delete(self._key)
            pipeline.hset(self._key, mapping={name: "" if value is None else value for name, value in fields})
            await pipeline.execute()

    async def read(self, model: str) -> Fitness | None:
        """The measurement of this model; None where there is none, or none that makes sense."""
        with translate_errors():
            row = await self._client.hgetall(self._key)
        fitness = _fitness({text(name): text(value) for name, value in row.items()})
        return fitness if fitness is not None and fitness.model == model else None


def _fitness(row: Mapping[str, str]) -> Fitness | None:
    try:
        return Fitness(
            model=row["model"],
            pairs=int(row["pairs"]),
            yes=int(row["yes"]),
            precision=_number(row["precision"]) if row["precision"] else None,
            low=_number(row["low"]) if row["low"] else None,
            recall=_number(row["recall"]) if row["recall"] else None,
            silent=_number(row["silent"]),
            p50_ms=_number(row["p50_ms"]),
            p95_ms=_number(row["p95_ms"]),
            at=_number(row["at"]),
        )
    except (KeyError, ValueError):
        return None


def _number(raw: str) -> float:
    value = amount(raw)
    if value is None:
        raise ValueError(f"{raw!r} is no amount")
    return value
