"""What Redis is told about workers. Redis being away is a warning, never a reason to stop.

The provider's list is the truth. These records only follow it, so what is missed here is made good
by the next command that sees the list.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from llmhost.errors import StoreError
from llmhost.fleet.models import Rental, Worker
from llmhost.fleet.rentals import RentalBook

if TYPE_CHECKING:
    from llmhost.fleet.registry import FleetRegistry

__all__ = ["FleetRecords"]

_T = TypeVar("_T")


class FleetRecords:
    """Registry and rentals during one command. Either may be None: then it is not kept."""

    def __init__(self, registry: FleetRegistry | None, rentals: RentalBook | None) -> None:
        self._registry = registry
        self._rentals = rentals
        self._away = False
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

    async def opened(self, worker: Worker) -> None:
        """The provider lists this worker, so it is paid for."""
        rentals = self._rentals
        if rentals is not None:
            rental = Rental(worker.id, worker.price_per_hour, worker.started)
            await self._try(lambda: rentals.opened(rental))

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
        if self._away:
            return None
        try:
            return await action()
        except StoreError as error:
            self._away = True
            self.warn(f"the fleet's records in Redis were not brought up to date: {error.message}")
            return None
