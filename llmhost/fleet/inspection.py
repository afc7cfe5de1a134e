"""Looking at every worker: does it answer, and what has it cost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from llmhost.errors import LlmhostError, ProviderError, UntrustedWorker
from llmhost.fleet.clock import Clock
from llmhost.fleet.health import Hooks, sentence
from llmhost.fleet.models import Account, Charge, Worker, WorkerState
from llmhost.fleet.provider import Provider
from llmhost.fleet.records import FleetRecords
from llmhost.fleet.results import FleetStatus
from llmhost.fleet.spending import bills_since, tally

__all__ = ["Inspection", "answering"]

_PATIENCE = 5.0  #: seconds for one token, so that a stuck worker does not hang whoever looks


async def answering(workers: Sequence[Worker], hooks: Hooks) -> Sequence[Worker]:
    """The same workers, asked all at once; those that answer are READY."""

    async def ask(worker: Worker) -> Worker:
        if worker.url is None or worker.state is WorkerState.FAILED:
            return worker
        try:
            async with asyncio.timeout(_PATIENCE):
                await hooks.probe(worker)
        except (LlmhostError, TimeoutError):
            return replace(worker, state=WorkerState.STARTING)
        return replace(worker, state=WorkerState.READY)

    return await asyncio.gather(*map(ask, workers))


class Inspection:
    """Inspects for one command. Records follow what is seen; nothing else changes."""

    def __init__(self, provider: Provider, hooks: Hooks, clock: Clock, records: FleetRecords) -> None:
        self._provider = provider
        self._hooks = hooks
        self._clock = clock
        self._records = records

    async def look(self, listed: Sequence[Worker]) -> FleetStatus:
        """All of them at once. What the provider does not tell about money is a warning."""
        looked = await asyncio.gather(*(self._look_at(worker) for worker in listed))
        draining = await self._records.draining()
        workers = tuple(_marked(worker) if worker.id in draining else worker for worker in looked)
        rentals = await self._records.rentals_or_none()
        charges, account = await asyncio.gather(self._charges(), self._account())
        spending = tally(rentals, charges, listed, self._clock.now())
        return FleetStatus(workers, self._records.warnings, spending, account)

    async def _look_at(self, worker: Worker) -> Worker:
        """The worker as it is now. One that is merely slow to answer stays in use: it may be busy."""
        if worker.state is WorkerState.FAILED or worker.url is None:
            await self._records.seen(worker)
            return worker
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._hooks.probe(worker)
            seen = replace(worker, state=WorkerState.READY, detail="")
        except TimeoutError:
            await self._records.opened(worker)
            detail = f"no answer within {_PATIENCE:g} s: busy, or stuck"
            return replace(worker, state=WorkerState.STARTING, detail=detail)
        except UntrustedWorker as error:
            seen = replace(worker, state=WorkerState.FAILED, detail=sentence(error))
        except LlmhostError as error:
            detail = f"does not answer: {sentence(error)}"
            seen = replace(worker, state=WorkerState.STARTING, detail=detail)
        await self._records.seen(seen)
        return seen

    async def _charges(self) -> Sequence[Charge]:
        try:
            return await self._provider.charges(bills_since(self._clock.now()))
        except ProviderError as error:
            self._records.warn(f"what was billed could not be read: {error.message}")
            return ()

    async def _account(self) -> Account | None:
        try:
            return await self._provider.account()
        except ProviderError as error:
            self._records.warn(f"the account's credit could not be read: {error.message}")
            return None


def _marked(worker: Worker) -> Worker:
    detail = "draining: takes no more questions, and goes when its last answer is out"
    return replace(worker, detail=worker.detail or detail)
