"""Giving workers back, and closing the book on them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from llmhost.errors import LlmhostError
from llmhost.fleet.clock import Clock
from llmhost.fleet.health import OnProgress, WorkerProgress
from llmhost.fleet.models import Worker
from llmhost.fleet.provider import Provider
from llmhost.fleet.records import FleetRecords
from llmhost.fleet.results import Failure

__all__ = ["Ending"]


class Ending:
    """Ends workers for one command. The caller holds the fleet's lock."""

    def __init__(
        self,
        provider: Provider,
        clock: Clock,
        records: FleetRecords,
        on_progress: OnProgress = lambda _: None,
    ) -> None:
        self._provider = provider
        self._clock = clock
        self._records = records
        self._on_progress = on_progress

    async def end(self, workers: Iterable[Worker]) -> tuple[Failure, ...]:
        """Destroys all of them at once; what could not be done is the answer."""
        failures = await asyncio.gather(*(self._end_one(worker) for worker in workers))
        return tuple(failure for failure in failures if failure is not None)

    async def forget_gone(self, known: frozenset[str], listed: Iterable[Worker]) -> None:
        """`known` was read before `listed`, so what only `known` has is gone, and not newer than the list."""
        for worker_id in sorted(known - {worker.id for worker in listed}):
            await self._records.gone(worker_id, self._clock.now())
            self._records.warn(f"worker {worker_id} is gone: its provider no longer lists it")

    async def _end_one(self, worker: Worker) -> Failure | None:
        await self._records.opened(worker)
        self._on_progress(WorkerProgress(worker.id, "ending"))
        try:
            await self._provider.destroy(worker.id)
        except LlmhostError as error:
            self._on_progress(WorkerProgress(worker.id, "failed", detail="could not be ended"))
            return Failure(worker.id, f"could not be ended: {error.message}", error.hint)
        await self._records.gone(worker.id, self._clock.now())
        self._on_progress(WorkerProgress(worker.id, "ended"))
        return None
