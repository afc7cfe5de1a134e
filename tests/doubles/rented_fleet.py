"""A fleet at the double of vast.ai, through the real SDK: what every command of it shares."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from doubles.clock import ManualClock, WrongClock
from doubles.fleet_values import make_spec
from doubles.memory_traffic import MemoryTraffic
from doubles.scaling import make_scale
from doubles.vast.rented import orders
from doubles.vast.server import Drop, VastServer

from llmhost.autoscale.checkup import SilenceLimits
from llmhost.autoscale.models import ScaleSpec
from llmhost.autoscale.state import ScaleStateStore
from llmhost.autoscale.step import Scaler
from llmhost.config.models import RedisConfig
from llmhost.engines.engine import Progress
from llmhost.errors import EngineUnavailable
from llmhost.fleet.budget import Limits
from llmhost.fleet.health import Hooks
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec, Stay, Worker
from llmhost.fleet.pause import PauseMarks
from llmhost.fleet.providers.vast.client import VastAccount
from llmhost.fleet.providers.vast.pacer import Pacer
from llmhost.fleet.providers.vast.provider import VastProvider
from llmhost.fleet.registry import FleetRegistry, Origin
from llmhost.fleet.service import FleetService
from llmhost.ledger.ledger import Ledger
from llmhost.machine.files import Patience
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys
from llmhost.store.lease import Lease

#: seconds of real time; only a call that is never answered waits as long
PATIENCE = 5.0

#: tokens a second of a worker, as the autoscaler takes it to be
SPEED = 100.0

#: seconds; for so long a worker that answered before may keep silent
SILENT = 600.0


@dataclass
class RentedFleet:
    """One account, one fleet, one Redis; `service` is what a new command has, `scaler` what `scale` has.

    `folder` is the state folder of the machine that the command runs on, `client` None stands for a
    configuration without Redis. `clock` is this machine's; vast.ai's is always right. Workers in `wedged` do
    not answer; those `misreported` do, whatever vast.ai says. `traffic` is what is asked of the fleet.
    """

    server: VastServer
    clock: WrongClock
    client: Any
    folder: Path
    settings: Any
    traffic: MemoryTraffic
    fleet: str = field(default_factory=lambda: f"h{uuid.uuid4().hex[:8]}")
    account: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    max_gpus: int = 4
    limits: Limits = field(default_factory=Limits)
    attempts: int = 2
    ready_timeout: float = 900.0
    stay: Stay = field(default_factory=Stay)
    wedged: set[str] = field(default_factory=set)
    misreported: set[str] = field(default_factory=set)
    scale: ScaleSpec = field(
        default_factory=lambda: make_scale(
            tokens_per_s=SPEED, tokens_per_answer=SPEED, boot_seconds=120.0, slots=4, max_late_ratio=1.0
        )
    )

    def elsewhere(self, **changes: Any) -> RentedFleet:
        """The same fleet and account, seen from a machine with a state folder of its own."""
        return replace(self, folder=self.folder.parent / uuid.uuid4().hex, **changes)

    @property
    def ids(self) -> set[str]:
        """What really exists, as workers are called."""
        return {f"vast-{number}" for number in self.server.alive()}

    @property
    def prices(self) -> list[float]:
        """USD an hour of each, the cheapest first."""
        return sorted(self.server.instances[number].price for number in self.server.alive())

    def provider(self, patience: Patience | None = None) -> VastProvider:
        pacer = Pacer(self.folder / "pace.json", self.clock, 1.0, patience)
        account = VastAccount(
            self.server.key, clock=self.clock, pacer=pacer, server_url=self.server.url, timeout=PATIENCE
        )
        return VastProvider(
            account, self.settings, orders(), self.fleet, self.folder / self.fleet, self.clock
        )

    def lock(self) -> FleetLock:
        """Every command of this machine is the same holder, as in llmhost/wiring."""
        if self.client is None:
            return FleetLock(self.folder / "lock")
        lease = Lease(self.client, FleetKeys(self.fleet).scale, holder=str(self.folder))
        return FleetLock(self.folder / "lock", lease)

    def service(self) -> FleetService:
        client, patience = self.client, Patience()
        return FleetService(
            self.provider(patience),
            self._spec(),
            hooks=Hooks(prepare=self._prepare, probe=self._probe),
            lock=self.lock(),
            clock=self.clock,
            ready_timeout=self.ready_timeout,
            limits=self.limits,
            attempts=self.attempts,
            registry=None if client is None else self.registry,
            marks=self.marks,
            rentals=None if client is None else Ledger(client, self.fleet),
            patience=patience,
        )

    @property
    def registry(self) -> FleetRegistry:
        origin = Origin("vast", "vast", rents=True, key=self.server.key.encode())
        return FleetRegistry(self.client, self.fleet, origin, self.marks, self.clock.compare)

    @property
    def marks(self) -> PauseMarks:
        """Where this machine keeps a pause that Redis could not be told."""
        return PauseMarks(self.folder / "fleets" / self.fleet, "vast", lambda: (self.account,))

    @property
    def state(self) -> ScaleStateStore:
        return ScaleStateStore(self.client, self.fleet)

    def scaler(self) -> Scaler:
        ledger = Ledger(self.client, self.fleet)
        return Scaler(
            self.provider(),
            self._spec(),
            replace(self.scale, max_gpus=self.max_gpus),
            hooks=Hooks(prepare=self._prepare, probe=self._probe),
            lock=self.lock(),
            clock=self.clock,
            silence=SilenceLimits(booting=self.ready_timeout, silent=SILENT),
            limits=self.limits,
            traffic=self.traffic,
            store=self.state,
            boots=ledger,
            registry=self.registry,
            rentals=ledger,
        )

    def _spec(self) -> FleetSpec:
        return make_spec(
            name=self.fleet,
            provider="vast",
            max_gpus=self.max_gpus,
            engine="ollama",
            model="tiny",
            stay=self.stay,
        )

    async def _prepare(self, worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        await asyncio.sleep(0)

    async def _probe(self, worker: Worker) -> None:
        await asyncio.sleep(0)
        instance = self.server.instances.get(int(worker.id.removeprefix("vast-")))
        runs = instance is None or instance.running or worker.id in self.misreported
        if worker.id in self.wedged or not runs:
            raise EngineUnavailable("no answer")


@asynccontextmanager
async def rented_fleet(
    folder: Path, socket: Path | None, settings: Any, *, credit: float = 10_000.0, **more: Any
) -> AsyncIterator[RentedFleet]:
    """`socket` is of a Redis; None for none."""
    clock = ManualClock()
    ours = WrongClock(clock)
    client = None if socket is None else connect(RedisConfig(), socket=socket)
    try:
        async with VastServer(clock, credit=credit) as server:
            yield RentedFleet(server, ours, client, folder, settings, MemoryTraffic(ours), **more)
    finally:
        if client is not None:
            await client.aclose()


async def crash(server: VastServer, command: Coroutine[Any, Any, Any], at: int, executed: bool) -> None:
    """The command dies at its n-th call, before the call is executed or after."""
    calls = 0
    others = asyncio.all_tasks()
    task = asyncio.ensure_future(command)

    async def die(endpoint: str, number: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            task.cancel()
            raise Drop

    server.before, server.after = (None, die) if executed else (die, None)
    try:
        with suppress(asyncio.CancelledError):
            await task
    finally:
        server.before = server.after = None
        await _end_with_its_process(asyncio.all_tasks() - others)


async def _end_with_its_process(tasks: set[asyncio.Task[Any]]) -> None:
    """A process that dies leaves no task and no thread behind; those of the server live on."""
    left = [task for task in tasks if "_converse" not in repr(task)]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for thread in threading.enumerate():
        if thread.name == "vast.ai":
            await asyncio.to_thread(thread.join)
