"""Requests in flight, counted in Redis for all processes that share a fleet."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from llmhost.engines.load import LocalLoad, Slot
from llmhost.errors import StoreError
from llmhost.redis.connect import load_script, translate_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisLoad"]

#: seconds; how long a Redis that failed is left alone, so that not every question waits for it to time out
_PAUSE = 10.0


class RedisLoad:
    """Keeps one sorted set a worker, ``llmhost:{fleet}:load:{worker}``.

    A slot whose holder died counts for `lifetime` seconds: the longest that an answer may take. While
    Redis is away, the requests of this process alone are counted, and nobody is told: spreading the
    load is a courtesy, and whoever uses the cache says that Redis is away.
    """

    def __init__(
        self, client: Redis, fleet: str, lifetime: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._prefix = f"llmhost:{fleet}:load:"
        self._lifetime = math.ceil(lifetime)
        self._acquire = client.register_script(load_script("llmhost.engines.lua", "acquire.lua"))
        self._local = LocalLoad()
        self._clock = clock
        self._away_until = -math.inf

    async def acquire(self, workers: Sequence[str]) -> Slot:
        if self._clock() >= self._away_until:
            try:
                return await self._acquire_shared(workers)
            except StoreError:
                self._away_until = self._clock() + _PAUSE
        return await self._local.acquire(workers)

    async def release(self, slot: Slot) -> None:
        if self._local.holds(slot):
            await self._local.release(slot)
        elif self._clock() >= self._away_until:  # else it expires
            with suppress(StoreError), translate_errors():
                await self._client.zrem(self._prefix + slot.worker, slot.request)

    async def _acquire_shared(self, workers: Sequence[str]) -> Slot:
        request = secrets.token_hex(8)
        with translate_errors():
            place = await self._acquire(
                keys=[self._prefix + worker for worker in workers], args=[request, self._lifetime]
            )
        return Slot(workers[int(place) - 1], request)
