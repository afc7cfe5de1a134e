"""An autoscaler on a cloud in memory and a real Redis. Time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from doubles.clock import ManualClock, WrongClock
from doubles.fleet_values import ORIGIN, make_offer, make_spec
from doubles.memory_provider import MemoryCloud, RentingProvider
from doubles.memory_traffic import MemoryTraffic
from doubles.scaling import make_scale

from llmhost.autoscale.checkup import SilenceLimits
from llmhost.autoscale.models import ScaleSpec, StepResult
from llmhost.autoscale.state import ScaleStateStore
from llmhost.autoscale.step import Scaler
from llmhost.engines.engine import Progress
from llmhost.errors import EngineUnavailable, LlmhostError, UntrustedWorker
from llmhost.fleet.budget import Limits
from llmhost.fleet.health import Hooks
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec, Worker
from llmhost.fleet.registry import FleetRegistry
from llmhost.ledger.ledger import Ledger
from llmhost.store.keys import FleetKeys
from llmhost.store.lease import Lease

#: tokens a second of each worker, unless a test says otherwise
SPEED = 100.0

#: seconds without news
SILENCE = SilenceLimits(booting=1200.0, silent=600.0)


@dataclass
class ScaleBench:
    """`silent` workers do not answer, `strange` ones are not who they were, `hanging` ones keep one waiting.
    `make` gives an autoscaler as a new command would have it; `folder` names the machine it runs on.
    """

    cloud: MemoryCloud
    clock: ManualClock
    folder: Path
    redis: Any
    traffic: MemoryTraffic
    spec: FleetSpec = field(default_factory=lambda: make_spec(max_gpus=20, price_per_hour=0.4))
    scale: ScaleSpec = field(
        default_factory=lambda: make_scale(
            max_gpus=20,
            tokens_per_s=SPEED,
            tokens_per_answer=100.0,
            boot_seconds=120.0,
            slots=4,
            max_late_ratio=1.0,
        )
    )
    limits: Limits = field(default_factory=Limits)
    silent: set[str] = field(default_factory=set)
    strange: set[str] = field(default_factory=set)
    hanging: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def offer(self, count: int, price: float = 0.4) -> None:
        """So many machines are for rent, each on its own computer."""
        begin = len(self.cloud.market) + self.cloud.created
        self.cloud.market += [
            make_offer(f"o-{number}", price_per_hour=price) for number in range(begin, begin + count)
        ]

    def make(self, machine: str = "here", **more: Any) -> Scaler:
        key = FleetKeys(self.spec.name).scale
        ledger = Ledger(self.redis, self.spec.name)
        values = {
            "hooks": self.hooks,
            "lock": FleetLock(self.folder / f"{machine}.lock", Lease(self.redis, key)),
            "clock": self.clock,
            "silence": SILENCE,
            "limits": self.limits,
            "traffic": self.traffic,
            "store": ScaleStateStore(self.redis, self.spec.name),
            "boots": ledger,
            "registry": self.registry,
            "rentals": ledger,
        }
        provider = more.pop("provider", None) or RentingProvider(self.cloud)
        return Scaler(provider, self.spec, self.scale, **{**values, **more})

    @property
    def hooks(self) -> Hooks:
        return Hooks(prepare=self._prepare, probe=self._probe)

    @property
    def registry(self) -> FleetRegistry:
        return FleetRegistry(self.redis, self.spec.name, ORIGIN, compare=WrongClock(self.clock).compare)

    @property
    def workers(self) -> list[str]:
        """What exists, and is paid for."""
        return sorted(self.cloud.machines, key=lambda name: int(name.rpartition("-")[2]))

    async def step(self, **more: Any) -> StepResult:
        return await self.make().step(**more)

    async def run(self, minutes: float, every: float = 60.0) -> list[StepResult]:
        """Steps as cron would start them, beginning now."""
        results = []
        for _ in range(round(minutes * 60 / every)):
            results.append(await self.step())
            await self.clock.sleep(every)
        return results

    async def settled(self, workers: int) -> None:
        """So many workers that have answered, and a load that needs all of them, known for an hour."""
        self.traffic.since = self.clock.now() - 3600
        self.traffic.ask(workers * SPEED * 0.82)
        await self.clock.sleep(600)
        self.scale = replace(self.scale, max_step=20)
        self.offer(workers)
        await self.run(4)
        assert len(self.workers) == workers

    async def _prepare(self, worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        """Whatever boots here is prepared as soon as it has an address."""

    async def _probe(self, worker: Worker) -> None:
        self.asked.append(worker.id)
        if worker.id in self.hanging:
            await asyncio.Event().wait()
        if worker.id in self.strange:
            raise UntrustedWorker("it shows a certificate that is not its own")
        if worker.id in self.silent or not self.cloud.answers(worker.id):
            raise EngineUnavailable("connection refused")


def kinds(result: StepResult) -> list[str]:
    """What was done, in order."""
    return [action.kind for action in result.actions]


def exit_code(result: StepResult) -> int:
    """As the command ends."""
    error: LlmhostError | None = result.error
    return 0 if error is None else error.exit_code
