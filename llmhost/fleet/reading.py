"""Reading all that one decision of the autoscaler rests on, in full or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from llmhost.autoscale.apply import Drains
from llmhost.autoscale.checkup import Checkup, Patience, examine
from llmhost.autoscale.models import FleetView, History, ScaledWorker
from llmhost.autoscale.state import Memory
from llmhost.engines.traffic import Traffic
from llmhost.fleet.health import Hooks
from llmhost.fleet.models import FleetSpec, Worker, WorkerState
from llmhost.fleet.provider import Provider
from llmhost.fleet.quote import Funds
from llmhost.fleet.registry import FleetRegistry
from llmhost.fleet.roll_call import roll_call
from llmhost.ledger.boots import learned_boot

__all__ = ["Boots", "Reader", "Reading", "TrafficBook"]


class TrafficBook(Drains, Protocol):
    """What the processes that ask have counted. Every method raises StoreError."""

    async def read(self, workers: Sequence[str]) -> Traffic: ...


class Boots(Protocol):
    """How long workers took to their first answer, seconds. Every method raises StoreError."""

    async def booted(self, worker: str, seconds: float) -> None: ...

    async def boot_times(self) -> Sequence[float]: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """`known` are the ids on record, `listed` what the provider lists."""

    known: frozenset[str]
    listed: Sequence[Worker]
    traffic: Traffic
    checkup: Checkup
    history: History
    view: FleetView

    @property
    def now(self) -> float:
        """When it was read, Unix seconds by the clock of Redis, which all machines share."""
        return self.traffic.at

    @property
    def drained(self) -> frozenset[str]:
        """Healthy workers that take no more questions and have none left."""
        busy = {name for name, worker in self.traffic.workers.items() if worker.in_flight}
        there = {worker.id for worker in self.checkup.healthy}
        return (self.traffic.draining & there) - busy


class Reader:
    """Reads one fleet. It changes nothing."""

    def __init__(
        self,
        provider: Provider,
        spec: FleetSpec,
        *,
        hooks: Hooks,
        patience: Patience,
        registry: FleetRegistry,
        traffic: TrafficBook,
        boots: Boots,
    ) -> None:
        self._provider = provider
        self._spec = spec
        self._hooks = hooks
        self._patience = patience
        self._registry = registry
        self._traffic = traffic
        self._boots = boots

    async def read(self, memory: Memory, funds: Callable[[], Awaitable[Funds]]) -> Reading:
        """Asks provider, Redis and every worker. `funds` tells what may be spent.

        Raises:
            ProviderError, StoreError: not everything could be read, so nothing may be decided.
        """
        known = (await self._registry.workers()).ids
        listed = await roll_call(self._provider, known)
        traffic = await self._traffic.read([worker.id for worker in listed])
        checkup = await examine(
            listed, memory.sights, traffic, spec=self._spec, hooks=self._hooks, patience=self._patience
        )
        view = FleetView(
            workers=tuple(_scaled(worker, traffic) for worker in checkup.healthy),
            lost=sum(one.worker.id not in traffic.draining for one in checkup.broken),
            price=self._expected_price(checkup.healthy, memory.price),
            funds=await funds(),
        )
        failed = [traffic.at for one in checkup.broken if one.never_answered]
        history = History(traffic, learned_boot(await self._boots.boot_times()), (*memory.failures, *failed))
        return Reading(known, listed, traffic, checkup, history, view)

    def _expected_price(self, workers: Sequence[Worker], last: float | None) -> float:
        """USD an hour of one more: what the operator says, and on a market as the others, or the last one."""
        if not self._provider.rents:
            return self._spec.price_per_hour
        prices = [worker.price_per_hour for worker in workers]
        return fmean(prices) if prices else last or 0.0


def _scaled(worker: Worker, traffic: Traffic) -> ScaledWorker:
    counted = traffic.workers.get(worker.id)
    return ScaledWorker(
        worker.id,
        ready=worker.state is WorkerState.READY,
        price=worker.price_per_hour,
        started=worker.started,
        tokens_per_s=counted.tokens_per_s if counted else None,
        draining=worker.id in traffic.draining,
    )
