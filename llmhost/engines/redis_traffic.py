"""A fleet's traffic as all its processes have counted it in Redis, and which workers drain."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llmhost.engines.load import Full, LocalLoad, Slot, Ticket, new_request
from llmhost.engines.routing import SPREAD
from llmhost.engines.traffic import BUCKET, KEPT, Traffic, Work, WorkerTraffic
from llmhost.errors import StoreError, StoreRefused
from llmhost.store.client import (
    amount,
    is_sharded,
    load_script,
    server_time,
    text,
    translate_errors,
)
from llmhost.store.keys import FleetKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Count", "DrainMarks", "RedisLoad", "RedisTraffic", "counting_script", "measured_speed"]


Count = Callable[[Sequence[str], Sequence[str | int | float]], Awaitable[Any]]


def counting_script(client: Redis, name: str) -> Count:
    """The script of that name: a function of its keys, and of those arguments that are its own."""
    parts = (load_script("llmhost.engines", file) for file in ("counting.lua", name))
    script = client.register_script("\n".join(parts))

    def count(keys: Sequence[str], arguments: Sequence[str | int | float]) -> Awaitable[Any]:
        return script(keys=keys, args=[BUCKET, KEPT, *arguments])

    return count


#: answers by their weight, of which each further one takes 5 %: three in a row, as one alone is chance
_ENOUGH = 2.8

_COUNTS = ("asked", "answered", "tokens")


class DrainMarks:
    """Which workers of a fleet take no more questions. Every method raises StoreError and nothing else."""

    def __init__(self, client: Redis, fleet: str) -> None:
        self._client = client
        self._keys = FleetKeys(fleet, is_sharded(client))

    async def draining(self) -> frozenset[str]:
        """Workers that are given no more questions, because they are to be terminated."""
        with translate_errors():
            return frozenset(text(name) for name in await self._client.smembers(self._keys.draining))

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

    async def in_flight(self, ids: Iterable[str]) -> Mapping[str, int]:
        """How many questions each of them works on, with those that wait for it."""
        names = tuple(ids)
        now = await server_time(self._client)
        with translate_errors():
            pipeline = self._client.pipeline(transaction=False)
            for worker in names:
                pipeline.zcount(self._keys.load(worker), f"({now:.6f}", "+inf")
            return dict(zip(names, await pipeline.execute(), strict=True))

    async def forget(self, worker: str) -> None:
        """Removes all that was counted of a worker that is gone."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.delete(self._keys.load(worker))
        pipeline.delete(self._keys.speed(worker))
        pipeline.srem(self._keys.draining, worker)
        pipeline.hdel(self._keys.traffic, f"turn:{worker}")
        with translate_errors():
            await pipeline.execute()


class RedisTraffic(DrainMarks):
    """Reads what `RedisLoad` counts. `places` is how many questions a worker works on at once.

    Every method raises StoreError and nothing else.
    """

    def __init__(self, client: Redis, fleet: str, places: int) -> None:
        super().__init__(client, fleet)
        self._places = places
        self._read = counting_script(client, "traffic.lua")

    async def read(self, workers: Sequence[str]) -> Traffic:
        """All counts, and these workers; a number that is none is refused, never guessed."""
        keys = [name for worker in workers for name in (self._keys.load(worker), self._keys.speed(worker))]
        with translate_errors():
            now, counts, draining, waiting, found = await self._read(
                [self._keys.traffic, self._keys.draining, self._keys.waiting, *keys], []
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
            waiting=waiting,
        )

    def _worker(self, worker: str, in_flight: int, raw: Sequence[bytes | str]) -> WorkerTraffic:
        key = self._keys.speed(worker)
        speed = _fields(key, raw)
        return WorkerTraffic(in_flight, _tokens_per_s(key, speed, self._places), speed.get("at"))


def measured_speed(raw: Mapping[bytes | str, bytes | str], places: int) -> float | None:
    """Tokens per second by a hash that `RedisLoad` wrote; None where it was not measured, or is damaged."""
    try:
        return _tokens_per_s("", {text(name): amount(value) or 0.0 for name, value in raw.items()}, places)
    except StoreRefused:
        return None


def _tokens_per_s(key: str, speed: Mapping[str, float], places: int) -> float | None:
    """By what it did when it was at its fullest: alone, a question is quicker than among many."""
    for load in range(places, 0, -1):
        if speed.get(f"answers:{load}", 0) >= _ENOUGH:
            seconds = speed.get(f"seconds:{load}")
            if not seconds:
                raise _damaged(key, f"seconds:{load}")
            return places * speed.get(f"tokens:{load}", 0) / seconds
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
        hint=f"delete the key {key}: counting starts again; no other program may write to keys of llmhost",
    )


#: seconds; how long a Redis that failed is left alone, so that not every question waits for it to time out
_PAUSE = 10.0

#: requests that are given back when Redis is there again; any more are left to expire
_MOST_OWED = 1000

#: tokens; no model writes that much in one answer: an engine that says so is wrong
_MOST_TOKENS = 10**7


class RedisLoad:
    """Counts in Redis, for all processes that share a fleet.

    A slot whose holder died counts for `lifetime` seconds: the longest that an answer may take. `places` is
    how many questions a worker works on at once. While Redis is away, the requests of this process alone
    are counted, without a warning: spreading the load is an optimization, and the cache reports the outage.
    What could not be given back meanwhile is given back before the next slot is taken: until it expires, a
    worker would be full that has nothing to do.
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
        self._client = client
        self._keys = FleetKeys(fleet, is_sharded(client))
        self._lifetime = math.ceil(lifetime)
        self._places = places
        self._acquire, self._release, self._record_rejected = (
            counting_script(client, name) for name in ("acquire.lua", "release.lua", "record_rejected.lua")
        )
        self._local = LocalLoad(places)
        self._clock = clock
        self._away_until = -math.inf
        #: requests that Redis may still count although they have no slot and do not wait: on these workers
        self._owed: dict[str, frozenset[str]] = {}
        self._giving_back = asyncio.Lock()
        self._repaying: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def acquire(
        self, workers: Sequence[str], *, again: bool = False, affine: bool = False, tokens: int = 0
    ) -> Slot | None:
        if self._clock() >= self._away_until:
            try:
                slot = await self._acquire_shared(workers, again, affine, new_request(tokens))
            except StoreError:
                self._away_until = self._clock() + _PAUSE
            else:
                return slot if isinstance(slot, Slot) else None
        return await self._local.acquire(workers, again=again, affine=affine, tokens=tokens)

    async def acquire_or_wait(
        self, workers: Sequence[str], ticket: Ticket, *, again: bool = False, affine: bool = False
    ) -> Slot | Full | None:
        if self._clock() >= self._away_until:
            try:
                found = await self._acquire_shared(workers, again, affine, ticket.request, ticket.lifetime)
            except StoreError:
                self._away_until = self._clock() + _PAUSE
            else:
                await self._local.give_up(ticket)  # it may have waited here while Redis was away
                return found
        return await self._local.acquire_or_wait(workers, ticket, again=again, affine=affine)

    async def give_up(self, ticket: Ticket) -> None:
        await self._local.give_up(ticket)
        await self._forget(ticket.request)

    async def _forget(self, request: str) -> None:
        """It waits no more."""
        self._owe(request, ())
        if self._clock() >= self._away_until:
            with suppress(StoreError):
                await self._give_back()

    async def release(self, slot: Slot, work: Work | None = None) -> None:
        if self._local.holds(slot):
            await self._local.release(slot)
            return
        await self._uncut(self._release_shared(slot, work))

    async def _release_shared(self, slot: Slot, work: Work | None) -> None:
        keys = [self._keys.load(slot.worker), self._keys.traffic, self._keys.speed(slot.worker)]
        if work is not None and work.gpu:
            keys.append(self._keys.gpu_speed(work.model, work.gpu))
        if not await self._if_there(self._release, keys, [slot.request, *self._work_fields(slot, work)]):
            self._owe(slot.request, (slot.worker,))

    async def record_rejected(self) -> None:
        await self._if_there(self._record_rejected, [self._keys.traffic], [])

    async def _if_there(self, script: Count, keys: Sequence[str], arguments: Sequence[str | float]) -> bool:
        """Whether it is done."""
        if self._clock() < self._away_until:
            return False
        try:
            with translate_errors():
                await script(keys, arguments)
        except StoreError:
            return False
        return True

    def _owe(self, request: str, workers: Sequence[str]) -> None:
        if request in self._owed or len(self._owed) < _MOST_OWED:
            self._owed[request] = self._owed.get(request, frozenset()) | frozenset(workers)
        if self._repaying is None or self._repaying.done():
            self._repaying = asyncio.create_task(self._repay())

    async def _repay(self) -> None:
        """Gives back what is owed although no other request comes to this process."""
        while self._owed:
            await asyncio.sleep(_PAUSE)
            with suppress(StoreError):
                await self._give_back()

    async def _give_back(self) -> None:
        """Has Redis forget the requests that it should not count any more. Raises StoreError."""
        async with self._giving_back:  # others wait: one that takes a slot again must not lose it here
            owed = dict(self._owed)
            pipeline = self._client.pipeline(transaction=False)
            for request, workers in owed.items():
                pipeline.zrem(self._keys.waiting, request)
                pipeline.hdel(self._keys.fronts, request)
                for worker in workers:
                    pipeline.zrem(self._keys.load(worker), request)
            with translate_errors():
                await pipeline.execute()
            for request, workers in owed.items():
                if self._owed[request] is workers:  # else there is more of it since
                    del self._owed[request]

    async def _acquire_shared(
        self, workers: Sequence[str], again: bool, affine: bool, request: str, wait: float | None = None
    ) -> Slot | Full | None:
        """`wait`: for how many seconds the request may wait for a slot; None where it does not."""
        taking = asyncio.ensure_future(self._take(workers, again, affine, request, wait))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            # The command is carried out all the same, and its slot would be taken for `lifetime`.
            await self._uncut(self._undo(taking, request))
            raise

    async def _undo(self, taking: asyncio.Future[Slot | Full | None], request: str) -> None:
        await asyncio.wait([taking])
        found = None if taking.exception() else taking.result()
        if isinstance(found, Slot):
            await self.release(found)
        elif found is not None:
            await self._forget(request)

    async def _uncut(self, step: Coroutine[Any, Any, None]) -> None:
        """Runs to its end, although the request whose it is may be cut off meanwhile, more than once."""
        task = asyncio.create_task(step)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _take(
        self, workers: Sequence[str], again: bool, affine: bool, request: str, wait: float | None
    ) -> Slot | Full | None:
        names = self._keys
        keys = [names.traffic, names.draining, names.waiting, names.fronts, *map(names.load, workers)]
        options = [self._places, SPREAD if affine else "", "" if wait is None else math.ceil(wait)]
        if self._owed:
            await self._give_back()
        try:
            with translate_errors():
                place, count = await self._acquire(
                    keys, [request, self._lifetime, int(again), *options, *workers]
                )
        except StoreError:
            self._owe(request, workers)  # Redis may have done it all the same
            raise
        if place > 0:
            return Slot(workers[int(place) - 1], request, int(count))
        return Full(int(count)) if place else None

    def _work_fields(self, slot: Slot, work: Work | None) -> tuple[str | float, ...]:
        """The work as release.lua takes it."""
        if work is None or not _sound(work):
            return "", "", ""
        return work.tokens, work.seconds, slot.load if slot.load <= self._places else ""


def _sound(work: Work) -> bool:
    return 0 <= work.tokens <= _MOST_TOKENS and 0 < work.seconds < math.inf
