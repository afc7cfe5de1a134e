"""Giving workers back, and closing the book on them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from llmhost.errors import (
    ConfigError,
    LlmhostError,
)
from llmhost.fleet.clock import Clock
from llmhost.fleet.health import OnProgress, WorkerProgress
from llmhost.fleet.models import Payer, Worker
from llmhost.fleet.provider import Provider
from llmhost.fleet.registry import FleetRecords
from llmhost.fleet.results import Failure

__all__ = ["drain", "end_one", "terminate"]


async def end_one(worker_id: str, payer: Payer | None, provider: Provider, records: FleetRecords) -> None:
    """As `Provider.destroy`, and notes where the request may have been sent."""
    sent = True
    try:
        await provider.destroy(worker_id, payer)
    except ConfigError:
        sent = False
        raise
    finally:
        records.ended_some |= sent


async def terminate(
    workers: Iterable[Worker],
    provider: Provider,
    records: FleetRecords,
    on_progress: OnProgress = lambda _: None,
) -> tuple[Failure, ...]:
    """Destroys all of them at once; returns those that could not be destroyed. The caller holds the fleet's
    lock."""

    async def destroy(worker: Worker) -> Failure | None:
        await records.opened(worker)
        on_progress(WorkerProgress(worker.id, "ending"))
        try:
            await end_one(worker.id, worker.payer, provider, records)
        except LlmhostError as error:
            on_progress(WorkerProgress(worker.id, "failed", detail="could not be ended"))
            return Failure(worker.id, f"could not be ended: {error.message}", error.hint)
        await records.gone(worker.id)
        on_progress(WorkerProgress(worker.id, "ended"))
        return None

    failures = await asyncio.gather(*map(destroy, workers))
    return tuple(failure for failure in failures if failure is not None)


_DRAIN_POLL = 0.5  #: seconds; most answers take some seconds


async def drain(
    workers: Sequence[Worker], records: FleetRecords, clock: Clock, limit: float, on_progress: OnProgress
) -> None:
    """Returns when none of these workers, which are to be destroyed, works on a question, or after `limit`
    seconds. They get no more questions; where this is cancelled, they do again. No lock is needed."""
    await records.drain(workers)
    deadline = clock.monotonic() + limit
    try:
        while (busy := await records.busy(workers)) and clock.monotonic() < deadline:
            for worker in sorted(busy):
                on_progress(WorkerProgress(worker, "finishing its answers"))
            await clock.sleep(_DRAIN_POLL)
    except BaseException:
        await records.revive(workers)
        raise
