"""A provider whose machines exist in memory only. It keeps the whole contract and joins its suite.

`MemoryCloud` is what really exists, and outlives the providers that look at it. A test makes its
weather: creates that fail, machines that die, a list that cannot be read.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from llmhost.errors import LlmhostError, OfferGone, ProviderError
from llmhost.fleet.clock import Clock
from llmhost.fleet.models import Account, FleetSpec, Intent, Market, Offer, Payer, Worker, WorkerState
from llmhost.fleet.provider import Confirm, Provider, agree
from llmhost.ledger.rentals import Charge


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
    market: list[Offer] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    credit: float | None = None
    bills: list[Charge] = field(default_factory=list)
    begun: list[Intent] = field(default_factory=list)

    def fail(self, worker_id: str, detail: str, *, stage: str = "", answers: bool = False) -> None:
        """The machine will never be ready; where it `answers`, that is only what its provider says."""
        self.machines[worker_id] = replace(
            self.machines[worker_id],
            state=WorkerState.FAILED,
            url=f"http://{worker_id}.invalid" if answers else None,
            detail=detail,
            stage=stage,
        )

    def answers(self, worker_id: str) -> bool:
        """Whether the machine takes questions; a failed one does where only its provider says so."""
        machine = self.machines.get(worker_id)
        return machine is None or machine.state is not WorkerState.FAILED or machine.url is not None

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

    async def offers(self, spec: FleetSpec) -> Market:
        free = self._cloud.capacity - len(self._cloud.machines)
        return Market(
            tuple(Offer(f"offer-{n}", "none", spec.price_per_hour, 1.0, "memory") for n in range(free))
        )

    async def create(self, spec: FleetSpec, offer: Offer | None = None, confirm: Confirm = agree) -> Worker:
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
            price_per_hour=offer.price_per_hour if offer else spec.price_per_hour,
            started=cloud.clock.now(),
            model=spec.model,
            engine=spec.engine,
            log="memory",
            token="memory-token",
            machine=offer.machine if offer else "",
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

    async def destroy(self, worker_id: str, payer: Payer | None = None) -> None:
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


class RentingProvider(MemoryProvider):
    """As `MemoryProvider`, with a market where machines cost money and others buy too.

    `cloud.market` is what is shown, `cloud.taken` the offers that somebody else took since.
    """

    rents = True

    async def offers(self, spec: FleetSpec) -> Market:
        return Market(tuple(self._cloud.market), {"reliability>0.95": 4})

    async def create(self, spec: FleetSpec, offer: Offer | None = None, confirm: Confirm = agree) -> Worker:
        assert offer is not None, "a rented machine comes from an offer"
        if offer.id in self._cloud.taken:
            raise OfferGone(f"offer {offer.id} is gone")
        worker = await super().create(spec, offer)
        self._cloud.market = [other for other in self._cloud.market if other.id != offer.id]
        return worker

    async def account(self) -> Account | None:
        return None if self._cloud.credit is None else Account(self._cloud.credit)

    async def charges(self, since: float) -> Sequence[Charge]:
        return [bill for bill in self._cloud.bills if bill.until >= since]

    async def intents(self) -> Sequence[Intent]:
        return tuple(self._cloud.begun)

    async def forget_intent(self, intent_id: str) -> None:
        self._cloud.begun = [intent for intent in self._cloud.begun if intent.id != intent_id]
