"""A provider whose machines exist in memory only. It keeps the whole contract and joins its suite.

`MemoryCloud` is what really exists, and outlives the providers that look at it. A test makes its
weather: creates that fail, machines that die, a list that cannot be read.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from llmhost.errors import LlmhostError, ProviderError
from llmhost.fleet.clock import Clock
from llmhost.fleet.models import FleetSpec, Offer, Worker, WorkerState
from llmhost.fleet.provider import Provider


@dataclass
class MemoryCloud:
    """`boot_seconds` is how long a machine takes until it has an address."""

    clock: Clock
    boot_seconds: float = 0.0
    capacity: int = 100
    machines: dict[str, Worker] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    create_errors: list[LlmhostError] = field(default_factory=list)
    list_error: LlmhostError | None = None
    undying: set[str] = field(default_factory=set)
    created: int = 0
    most_at_once: int = 0
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def fail(self, worker_id: str, detail: str) -> None:
        """The machine will never be ready."""
        self.machines[worker_id] = replace(
            self.machines[worker_id], state=WorkerState.FAILED, url=None, detail=detail
        )

    def vanish(self, worker_id: str) -> None:
        """The machine is gone, and nobody was told."""
        del self.machines[worker_id]

    def say(self, worker_id: str, detail: str) -> None:
        """The machine tells what it is doing."""
        self.machines[worker_id] = replace(self.machines[worker_id], detail=detail)


class MemoryProvider(Provider):
    name = "memory"

    def __init__(self, cloud: MemoryCloud) -> None:
        self._cloud = cloud

    async def offers(self, spec: FleetSpec) -> Sequence[Offer]:
        free = self._cloud.capacity - len(self._cloud.machines)
        return [Offer(f"offer-{n}", "none", spec.price_per_hour, 1.0, "memory") for n in range(free)]

    async def create(self, spec: FleetSpec) -> Worker:
        cloud = self._cloud
        if cloud.create_errors:
            raise cloud.create_errors.pop(0)
        if len(cloud.machines) >= cloud.capacity:
            raise ProviderError(f"all {cloud.capacity} machines are taken", hint="ask for fewer")
        worker = Worker(
            id=f"memory-{next(cloud.numbers)}",
            provider=self.name,
            state=WorkerState.STARTING,
            url=None,
            price_per_hour=spec.price_per_hour,
            started=cloud.clock.now(),
            model=spec.model,
            engine=spec.engine,
            log="memory",
            token="memory-token",
        )
        cloud.machines[worker.id] = worker
        cloud.logs[worker.id] = "booting\nlistening\n"
        cloud.created += 1
        cloud.most_at_once = max(cloud.most_at_once, len(cloud.machines))
        return worker

    async def list(self) -> Sequence[Worker]:
        if self._cloud.list_error is not None:
            raise self._cloud.list_error
        return [self._now(worker) for worker in self._cloud.machines.values()]

    async def destroy(self, worker_id: str) -> None:
        if worker_id in self._cloud.undying:
            raise ProviderError(f"the machine of {worker_id} does not stop", hint="stop it by hand")
        self._cloud.machines.pop(worker_id, None)

    async def logs(self, worker_id: str, lines: int = 100) -> str:
        return "\n".join(self._cloud.logs.get(worker_id, "").splitlines()[-lines:])

    def _now(self, worker: Worker) -> Worker:
        booted = self._cloud.clock.now() >= worker.started + self._cloud.boot_seconds
        if worker.state is WorkerState.STARTING and booted:
            return replace(worker, state=WorkerState.READY, url=f"http://{worker.id}.invalid")
        return worker
