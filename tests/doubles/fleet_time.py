"""Redis of a fleet that real processes use: looked into, and made to believe that time has passed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmhost.config.models import RedisConfig
from llmhost.engines.traffic import BUCKET
from llmhost.store.client import connect
from llmhost.store.embedded import socket_path
from llmhost.store.keys import FleetKeys

_COUNTS = ("asked", "answered", "tokens")
_TIMES_OF_A_SIGHT = ("since", "silent_since")


@dataclass(frozen=True, slots=True)
class FleetTime:
    """`client` is connected to the Redis at `socket` as llmhost connects."""

    client: Any
    socket: Path
    fleet: str

    async def pass_time(self, seconds: int) -> None:
        """Whatever the autoscaler measures minutes by lies `seconds` further back than it did.

        Its policy looks at minutes and at half hours, by the clock of Redis, which no test can set: so the
        past is moved instead. Questions in flight stay as they are: real processes wait for them now. Nobody
        may ask or scale meanwhile.
        """
        assert seconds % BUCKET == 0
        await self._move_traffic(seconds)
        await self._move_sights(seconds)
        await self._move(FleetKeys(self.fleet).scale, "lock:until", seconds)
        async for key in self.client.scan_iter(match=FleetKeys(self.fleet).speed("*")):
            await self._move(key, "at", seconds)

    async def draining(self) -> set[str]:
        return {name.decode() for name in await self.client.smembers(FleetKeys(self.fleet).draining)}

    async def locked(self) -> bool:
        """Whether a step is at work, or died at it a short while ago."""
        return bool(await self.client.hexists(FleetKeys(self.fleet).scale, "lock:holder"))

    async def in_flight(self, workers: Iterable[str]) -> list[int]:
        keys = FleetKeys(self.fleet)
        return [await self.client.zcard(keys.load(worker)) for worker in workers]

    async def _move_traffic(self, seconds: int) -> None:
        key = FleetKeys(self.fleet).traffic
        counts = {name.decode(): count for name, count in (await self.client.hgetall(key)).items()}
        moved = {_earlier(name, seconds): count for name, count in counts.items()}
        await self.client.delete(key)
        await self.client.hset(key, mapping=moved)
        await self._move(key, "since", seconds)

    async def _move_sights(self, seconds: int) -> None:
        key = FleetKeys(self.fleet).scale
        sights = json.loads(await self.client.hget(key, "sights") or "{}")
        for sight in sights.values():
            sight.update(
                {name: sight[name] - seconds for name in _TIMES_OF_A_SIGHT if sight[name] is not None}
            )
        await self.client.hset(key, "sights", json.dumps(sights))

    async def _move(self, key: str, field: str, seconds: int) -> None:
        if await self.client.hexists(key, field):
            await self.client.hincrbyfloat(key, field, -seconds)


@asynccontextmanager
async def fleet_time(state_folder: Path, fleet: str) -> AsyncIterator[FleetTime]:
    """Of the Redis that llmhost runs itself in this state folder; it need not run yet."""
    socket = socket_path(state_folder / "redis")
    client = connect(RedisConfig(), socket=socket)
    yield FleetTime(client, socket, fleet)
    await client.aclose()


def _earlier(name: str, seconds: int) -> str:
    what, _, bucket = name.partition(":")
    return f"{what}:{int(bucket) - seconds}" if what in _COUNTS else name
