"""What Redis is told about workers. Redis being away is a warning, never a reason to stop.

The provider's list is the truth. These records only follow it, so what is missed here is made good
by the next command that sees the list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from llmhost.errors import StoreError, StoreUnavailable
from llmhost.fleet.clock import Clock
from llmhost.fleet.models import Rental, Worker
from llmhost.ledger.rentals import RentalBook

if TYPE_CHECKING:
    from llmhost.fleet.registry import FleetRegistry

__all__ = ["FleetRecords"]

_T = TypeVar("_T")


class FleetRecords:
    """Registry and rentals during one command. Either may be None: then it is not kept."""

    def __init__(self, registry: FleetRegistry | None, rentals: RentalBook | None, clock: Clock) -> None:
        self._registry = registry
        self._rentals = rentals
        self._clock = clock
        self._bad: set[str] = set()
        self._away = False
        self._turn = asyncio.Lock()
        self._warnings: list[str] = []

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._warnings)

    def warn(self, sentence: str) -> None:
        self._warnings.append(sentence)

    async def known(self) -> frozenset[str]:
        """Ids on record; empty where Redis is away, so nothing may be concluded from an absence."""
        registry = self._registry
        if registry is None:
            return frozenset()
        registered = await self._try(registry.workers)
        if registered is None:
            return frozenset()
        for worker_id in registered.damaged:
            self.warn(f"the record of worker {worker_id} in Redis was damaged")
        return registered.ids

    async def rentals(self) -> Sequence[Rental]:
        """What every worker has cost, gone ones included. Raises StoreError: a sum must be of all of them."""
        if self._rentals is None:
            raise StoreUnavailable(
                "what was spent is not known without Redis",
                hint="see `llmhost doctor`, or take the budget out",
            )
        return await self._rentals.rentals()

    async def rentals_or_none(self) -> Sequence[Rental]:
        """As `rentals`; empty, with a warning, where Redis is away."""
        rentals = self._rentals
        found = await self._try(rentals.rentals) if rentals is not None else None
        return found or ()

    async def bad_machines(self) -> frozenset[str]:
        """Machines that failed this fleet, as far as is known."""
        registry = self._registry
        known = await self._try(registry.bad_machines) if registry is not None else None
        return (known or frozenset()) | self._bad

    async def failed_on(self, machine: str, reason: str) -> None:
        """Nothing is bought on this machine again."""
        registry = self._registry
        if not machine:
            return
        self._bad.add(machine)
        if registry is not None:
            await self._try(lambda: registry.mark_bad(machine, reason, self._clock.now()))

    async def draining(self) -> frozenset[str]:
        """Workers that are given no more questions, as far as is known."""
        registry = self._registry
        known = await self._try(registry.draining) if registry is not None else None
        return known or frozenset()

    async def pause(self) -> bool:
        """The fleet is to be gone, and is not to come back by itself. Whether an autoscaler was told."""
        registry = self._registry
        if registry is None:
            return False
        return bool(await self._try(lambda: registry.pause(self._clock.now())))

    async def resume(self) -> None:
        """The fleet is wanted: the autoscaler may follow the demand again."""
        registry = self._registry
        if registry is not None:
            await self._try(registry.resume)

    async def revive(self, workers: Sequence[Worker]) -> None:
        """They stay, whatever the autoscaler had in mind with them."""
        registry = self._registry
        if registry is not None:
            await self._try(lambda: registry.revive([worker.id for worker in workers]))

    async def opened(self, worker: Worker) -> None:
        """The provider lists this worker, so it is paid for."""
        rentals = self._rentals
        if rentals is not None:
            now = self._clock.now()
            await self._try(lambda: rentals.observed(worker.id, worker.burn, worker.started, now))

    async def seen(self, worker: Worker) -> None:
        """As `opened`, and others may know the worker as it is here."""
        registry = self._registry
        await self.opened(worker)
        if registry is not None:
            await self._try(lambda: registry.save(worker))

    async def gone(self, worker_id: str, ended: float) -> None:
        """The worker is confirmed gone. Its record goes last: it is what reminds us to close the rental."""
        rentals, registry = self._rentals, self._registry
        if rentals is not None:
            await self._try(lambda: rentals.closed(worker_id, ended))
        if registry is not None:
            await self._try(lambda: registry.forget(worker_id))

    async def _try(self, action: Callable[[], Awaitable[_T]]) -> _T | None:
        """The action's answer, or None. After the first failure nothing is tried: each try may hang."""
        async with self._turn:  # a hundred at once would each open a connection of their own
            if self._away:
                return None
            try:
                return await action()
            except StoreError as error:
                self._away = True
                self.warn(f"the fleet's records in Redis were not brought up to date: {error.message}")
                return None
