"""The workers of a fleet in Redis, so that `ask` finds them without asking their provider.

Keys, which carry no lifetime and so are never evicted:

* ``llmhost:{fleet}:worker:{id}``  hash, one worker
* ``llmhost:{fleet}:workers``      set of the ids, so that nobody has to scan a cache full of keys
* ``llmhost:{fleet}:machines``     hash, machines that failed this fleet, each with the reason
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmhost.autoscale.state import scale_key
from llmhost.engines.counting import TrafficKeys
from llmhost.fleet.models import Worker, WorkerState
from llmhost.store.client import translate_errors
from llmhost.store.values import text

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["FleetRegistry", "Registered"]

_Value = bytes | bytearray | memoryview | str | int | float  # what redis-py takes
_TEXTS = ("provider", "model", "engine", "gpu", "detail", "log")
_OPTIONAL_TEXTS = ("url", "token", "certificate")


@dataclass(frozen=True, slots=True)
class Registered:
    """What Redis knows: the workers, oldest first, and the ids whose record makes no sense."""

    workers: tuple[Worker, ...]
    damaged: tuple[str, ...]

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(worker.id for worker in self.workers) | frozenset(self.damaged)


class FleetRegistry:
    """Reads and writes the records of one fleet. Every method raises StoreError and nothing else.

    `owner` says whose workers these are. Processes of this machine mean nothing to another one that shares
    the Redis, and are not its to declare gone; rented machines are the same for everybody.
    """

    def __init__(self, client: Redis, fleet: str, owner: str) -> None:
        self._client = client
        self._owner = owner
        self._ids = f"llmhost:{fleet}:workers"
        self._machines = f"llmhost:{fleet}:machines"
        self._prefix = f"llmhost:{fleet}:worker:"
        self._scale = scale_key(fleet)
        self._traffic = TrafficKeys(fleet)

    async def workers(self) -> Registered:
        """Every worker of this owner on record. A damaged record is named, never trusted."""
        with translate_errors():
            raw_ids = await self._client.smembers(self._ids)
            ids = sorted(text(raw) for raw in raw_ids)
            pipeline = self._client.pipeline(transaction=False)
            for worker_id in ids:
                pipeline.hgetall(self._prefix + worker_id)
            records = await pipeline.execute() if ids else []
        # One without a record was forgotten by somebody else between the two questions.
        texts = [{text(name): text(value) for name, value in raw.items()} for raw in records]
        decoded = {
            worker_id: _decode(worker_id, record)
            for worker_id, record in zip(ids, texts, strict=True)
            if record and record.get("owner", self._owner) == self._owner
        }
        found = [worker for worker in decoded.values() if worker is not None]
        return Registered(
            workers=tuple(sorted(found, key=lambda worker: (worker.started, worker.id))),
            damaged=tuple(worker_id for worker_id, worker in decoded.items() if worker is None),
        )

    async def save(self, worker: Worker) -> None:
        """Writes the worker's record, in place of an earlier one."""
        key = self._prefix + worker.id
        pipeline = self._client.pipeline(transaction=True)  # of one key, so it works on shards too
        pipeline.delete(key)
        pipeline.hset(key, mapping={**_encode(worker), "owner": self._owner})
        with translate_errors():
            await pipeline.execute()
            await self._client.sadd(self._ids, worker.id)

    async def bad_machines(self) -> frozenset[str]:
        """Machines that a worker of this fleet failed on, whoever rented them."""
        with translate_errors():
            return frozenset(text(name) for name in await self._client.hkeys(self._machines))

    async def mark_bad(self, machine: str, reason: str, at: float) -> None:
        """Remembers a machine and why; `at` is Unix seconds."""
        with translate_errors():
            await self._client.hset(self._machines, machine, json.dumps({"reason": reason, "at": at}))

    async def draining(self) -> frozenset[str]:
        """Workers that are given no more questions, because they are to be ended."""
        with translate_errors():
            return frozenset(text(name) for name in await self._client.smembers(self._traffic.draining))

    async def revive(self, worker_ids: Collection[str]) -> None:
        """They are given questions again. Those that were not draining are fine."""
        if worker_ids:
            with translate_errors():
                await self._client.srem(self._traffic.draining, *worker_ids)

    async def pause(self, at: float) -> bool:
        """The autoscaler rests from now on, Unix seconds: somebody wants the fleet to be gone.

        Whether there is one that has ever made a step.
        """
        with translate_errors():
            await self._client.hset(self._scale, "paused", repr(at))
            return bool(await self._client.hexists(self._scale, "decisions"))

    async def resume(self) -> None:
        """It follows the demand again."""
        with translate_errors():
            await self._client.hdel(self._scale, "paused")

    async def forget(self, worker_id: str) -> None:
        """Removes the worker's record, and what was counted of it. One that is not there is fine."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.srem(self._ids, worker_id)
        for key in (self._prefix + worker_id, self._traffic.load(worker_id), self._traffic.speed(worker_id)):
            pipeline.delete(key)
        pipeline.srem(self._traffic.draining, worker_id)
        with translate_errors():
            await pipeline.execute()


def _encode(worker: Worker) -> dict[_Value, _Value]:
    fields = {name: getattr(worker, name) for name in (*_TEXTS, *_OPTIONAL_TEXTS)}
    return {
        "state": worker.state.value,
        "price_per_hour": repr(worker.price_per_hour),
        "started": repr(worker.started),
        "machine": worker.machine,
        **({} if worker.billing is None else {"billing": repr(worker.billing)}),
        **{name: value for name, value in fields.items() if value is not None},
    }


def _decode(worker_id: str, record: Mapping[str, str]) -> Worker | None:
    try:
        return Worker(
            id=worker_id,
            state=WorkerState(record["state"]),
            price_per_hour=_amount(record["price_per_hour"]),
            started=_amount(record["started"]),
            url=_url(record.get("url")),
            token=record.get("token"),
            certificate=record.get("certificate"),
            machine=record.get("machine", ""),
            billing=_amount(record["billing"]) if "billing" in record else None,
            **{name: record[name] for name in _TEXTS},
        )
    except (KeyError, ValueError):
        return None


def _amount(raw: str) -> float:
    value = float(raw)
    if not math.isfinite(value) or value < 0:
        raise ValueError(raw)
    return value


def _url(raw: str | None) -> str | None:
    if raw is None:
        return None
    parts = urlsplit(raw)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(raw)
    return raw
