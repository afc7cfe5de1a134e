"""A fleet's traffic as all its processes have counted it in Redis, and which workers drain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from llmhost.engines.counting import TrafficKeys, counting_script
from llmhost.engines.traffic import Traffic, WorkerTraffic
from llmhost.errors import StoreRefused
from llmhost.store.client import translate_errors
from llmhost.store.values import amount, text

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisTraffic"]

#: answers by their weight, of which each further one takes 5 %: three in a row, as one alone is chance
_ENOUGH = 2.8

_COUNTS = ("asked", "answered", "tokens")


class RedisTraffic:
    """Reads what `RedisLoad` counts. `places` is how many questions a worker works on at once.

    Every method raises StoreError and nothing else.
    """

    def __init__(self, client: Redis, fleet: str, places: int) -> None:
        self._client = client
        self._keys = TrafficKeys(fleet)
        self._places = places
        self._read = counting_script(client, "traffic.lua")

    async def read(self, workers: Sequence[str]) -> Traffic:
        """All counts, and these workers; a number that is none is refused, never guessed."""
        keys = [name for worker in workers for name in (self._keys.load(worker), self._keys.speed(worker))]
        with translate_errors():
            now, counts, draining, found = await self._read(
                [self._keys.traffic, self._keys.draining, *keys], []
            )
        fields = _fields(self._keys.traffic, counts)
        return Traffic(
            at=float(now),
            since=fields.get("since", float(now)),
            **{what: _by_bucket(self._keys.traffic, fields, what) for what in _COUNTS},
            workers={
                worker: self._worker(worker, in_flight, speed)
                for worker, (in_flight, speed) in zip(workers, found, strict=True)
            },
            draining=frozenset(text(worker) for worker in draining),
        )

    async def in_flight(self, ids: Iterable[str]) -> Mapping[str, int]:
        """How many questions each of them works on, with those that wait for it."""
        names = tuple(ids)
        with translate_errors():
            seconds, microseconds = await self._client.time()
            pipeline = self._client.pipeline(transaction=False)
            for worker in names:
                pipeline.zcount(self._keys.load(worker), f"({seconds + microseconds / 1e6:.6f}", "+inf")
            return dict(zip(names, await pipeline.execute(), strict=True))

    async def drain(self, ids: Iterable[str]) -> None:
        """From now on they are given no more questions. Asking twice is fine."""
        if names := tuple(ids):
            with translate_errors():
                await self._client.sadd(self._keys.draining, *names)

    async def revive(self, ids: Iterable[str]) -> None:
        """They are given questions again. Those that were not draining are fine."""
        if names := tuple(ids):
            with translate_errors():
                await self._client.srem(self._keys.draining, *names)

    def _worker(self, worker: str, in_flight: int, raw: Sequence[bytes | str]) -> WorkerTraffic:
        key = self._keys.speed(worker)
        speed = _fields(key, raw)
        return WorkerTraffic(in_flight, self._tokens_per_s(key, speed), speed.get("at"))

    def _tokens_per_s(self, key: str, speed: Mapping[str, float]) -> float | None:
        """By what it did when it was at its fullest: alone, a question is quicker than among many."""
        for load in range(self._places, 0, -1):
            if speed.get(f"answers:{load}", 0) >= _ENOUGH:
                seconds = speed.get(f"seconds:{load}")
                if not seconds:
                    raise _damaged(key, f"seconds:{load}")
                return self._places * speed.get(f"tokens:{load}", 0) / seconds
        return None


def _fields(key: str, raw: Sequence[bytes | str]) -> dict[str, float]:
    """A hash as a script gives it: names and values in turn."""
    fields = {}
    for name, value in zip(map(text, raw[::2]), raw[1::2], strict=True):
        number = amount(value)
        if number is None:
            raise _damaged(key, name)
        fields[name] = number
    return fields


def _by_bucket(key: str, fields: Mapping[str, float], what: str) -> dict[int, int]:
    counts = {}
    for name, count in fields.items():
        kind, _, bucket = name.partition(":")
        if kind == what:
            if not (bucket.isascii() and bucket.isdecimal()):
                raise _damaged(key, name)
            counts[int(bucket)] = round(count)
    return counts


def _damaged(key: str, field: str) -> StoreRefused:
    return StoreRefused(
        f"{key} in Redis is damaged: its field {field[:50]!r} cannot be",
        hint=f"delete the key {key}: it is counted anew; no other program may write to keys of llmhost",
    )
