"""A fleet's service on a cloud in memory, with all that it is told to use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.fleet_values import make_spec
from doubles.memory_provider import MemoryCloud, MemoryProvider
from doubles.memory_rentals import MemoryRentals
from doubles.rented_fleet import RentedFleet, rented_fleet
from doubles.vast.instances import Boot

from llmhost.engines.engine import Progress
from llmhost.errors import EngineRefused, EngineUnavailable
from llmhost.fleet.health import Hooks
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec, Worker
from llmhost.fleet.service import FleetService


@dataclass
class Bench:
    """Everything around one fleet. `make` gives a service as a new command would have it."""

    cloud: MemoryCloud
    clock: ManualClock
    folder: Path
    rentals: MemoryRentals = field(default_factory=MemoryRentals)
    registry: Any = None
    silent: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)
    hanging: set[str] = field(default_factory=set)
    prepared: list[str] = field(default_factory=list)
    lock_waits: int = 0

    def make(self, spec: FleetSpec | None = None, **more: Any) -> FleetService:
        values = {
            "provider": MemoryProvider(self.cloud),
            "hooks": Hooks(prepare=self._prepare, probe=self._probe),
            "lock": FleetLock(self.folder / "lock"),
            "clock": self.clock,
            "ready_timeout": 60.0,
            "registry": self.registry,
            "rentals": self.rentals,
            "on_lock_wait": self._count_wait,
        }
        return FleetService(spec=spec or make_spec(), **{**values, **more})

    def _count_wait(self) -> None:
        self.lock_waits += 1

    async def _prepare(self, worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        self.prepared.append(worker.id)

    async def _probe(self, worker: Worker) -> None:
        if worker.id in self.hanging:
            await asyncio.Event().wait()
        if worker.id in self.silent or not self.cloud.answers(worker.id):
            raise EngineUnavailable("connection refused")
        if worker.id in self.refusing:
            raise EngineRefused("no model is called tiny", hint="check engine.model")


@pytest.fixture
async def fleet(memory_folder: Path, redis_server: Any, vast_settings: Any) -> AsyncIterator[RentedFleet]:
    """A fleet at the double of vast.ai, with a Redis and without limits. Its machines boot in seconds."""
    async with rented_fleet(memory_folder / "here", redis_server.socket, vast_settings) as here:
        here.server.world.boot = Boot(created=1, loading=3, running=12)
        yield here


@pytest.fixture
def bench(memory_cloud: MemoryCloud, manual_clock: ManualClock, tmp_path: Path) -> Bench:
    return Bench(memory_cloud, manual_clock, tmp_path)
