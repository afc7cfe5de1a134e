"""Redis of a fleet that real processes use: looked into, and made to believe that time has passed."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from doubles.waiting import until

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


@dataclass(frozen=True, slots=True)
class ScaledFleet:
    """A fleet, its commands (`house`), and its clock."""

    house: Any
    time: FleetTime

    async def scale(self, *options: str, **environ: str) -> Any:
        return await self.house.ok("scale", *options, **environ)

    async def ready(self, count: int) -> list[str]:
        """Returns the ids of all workers as soon as they are `count`, and answer."""

        async def ids() -> list[str]:
            shown = (await self.house.ok("status"))["workers"]
            return [one["id"] for one in shown] if [one["ready"] for one in shown] == [True] * count else []

        found: list[str] = await until(ids)
        return found

    async def settled(self, count: int) -> list[str]:
        """The ids of `count` workers that a step has seen answering."""
        await self.scale(LLMHOST_SCALE__MIN_GPUS=str(count))
        workers = await self.ready(count)
        await self.scale(LLMHOST_SCALE__MIN_GPUS=str(count))
        return workers

    async def waiting(self, count: int, workers: Sequence[str]) -> None:
        """Returns when `count` questions have been given one of these `workers`."""

        async def given() -> bool:
            return sum(await self.time.in_flight(workers)) == count

        await until(given)


@contextmanager
def frozen(processes: Iterable[psutil.Process]) -> Iterator[None]:
    """Workers that have questions and do not finish them yet: so nothing depends on how fast they are."""
    held = tuple(processes)
    assert held
    for process in held:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in held:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def change(step: Any) -> tuple[str, int, int]:
    """What a step of `llmhost scale` decided: from how many workers to how many."""
    return step["decision"], step["from"], step["to"]


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
