"""Requests in flight, and what they took, counted in Redis for all processes that share a fleet."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from llmhost.engines.counting import Count, TrafficKeys, counting_script
from llmhost.engines.load import LocalLoad, Slot
from llmhost.engines.traffic import Work
from llmhost.errors import StoreError
from llmhost.store.client import translate_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisLoad"]

#: seconds; how long a Redis that failed is left alone, so that not every question waits for it to time out
_PAUSE = 10.0

#: tokens; no model writes that much in one answer: an engine that says so is wrong
_MOST_TOKENS = 10**7


class RedisLoad:
    """Counts in the keys that llmhost.engines.counting names.

    A slot whose holder died counts for `lifetime` seconds: the longest that an answer may take. `places` is
    how many questions a worker works on at once. While Redis is away, the requests of this process alone
    are counted, and nobody is told: spreading the load is a courtesy, and whoever uses the cache says that
    Redis is away.
    """

    def __init__(
        self,
        client: Redis,
        fleet: str,
        lifetime: float,
        *,
        places: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = TrafficKeys(fleet)
        self._lifetime = math.ceil(lifetime)
        self._places = places
        self._acquire, self._release, self._turned_away = (
            counting_script(client, name) for name in ("acquire.lua", "release.lua", "turned_away.lua")
        )
        self._local = LocalLoad()
        self._clock = clock
        self._away_until = -math.inf

    async def acquire(self, workers: Sequence[str], *, again: bool = False) -> Slot | None:
        if self._clock() >= self._away_until:
            try:
                return await self._acquire_shared(workers, again)
            except StoreError:
                self._away_until = self._clock() + _PAUSE
        return await self._local.acquire(workers, again=again)

    async def release(self, slot: Slot, work: Work | None = None) -> None:
        if self._local.holds(slot):
            await self._local.release(slot)
            return
        keys = [self._keys.load(slot.worker), self._keys.traffic, self._keys.speed(slot.worker)]
        await self._if_there(self._release, keys, [slot.request, *self._told(slot, work)])  # else it expires

    async def turned_away(self) -> None:
        await self._if_there(self._turned_away, [self._keys.traffic], [])

    async def _if_there(self, script: Count, keys: Sequence[str], arguments: Sequence[str | float]) -> None:
        if self._clock() >= self._away_until:
            with suppress(StoreError), translate_errors():
                await script(keys, arguments)

    async def _acquire_shared(self, workers: Sequence[str], again: bool) -> Slot | None:
        request = secrets.token_hex(8)
        loads = [self._keys.load(worker) for worker in workers]
        with translate_errors():
            place, load = await self._acquire(
                [self._keys.traffic, self._keys.draining, *loads],
                [request, self._lifetime, int(again), *workers],
            )
        return Slot(workers[int(place) - 1], request, int(load)) if place else None

    def _told(self, slot: Slot, work: Work | None) -> tuple[str | float, ...]:
        """The work as release.lua takes it."""
        if work is None or not _sound(work):
            return "", "", ""
        return work.tokens, work.seconds, slot.load if slot.load <= self._places else ""


def _sound(work: Work) -> bool:
    return 0 <= work.tokens <= _MOST_TOKENS and 0 < work.seconds < math.inf
