"""Makes a fleet be what its operator wants, and says what it is.

The provider's list is the truth. Changes happen under the fleet's lock, waiting for workers does not.
Redis being away is a warning in the result; a list that cannot be read is an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmhost.errors import LlmhostError, UsageError
from llmhost.fleet.clock import Clock
from llmhost.fleet.health import Hooks, OnProgress, sentence, wait_ready
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec, Worker, WorkerState
from llmhost.fleet.plan import Plan, make_plan
from llmhost.fleet.provider import Provider
from llmhost.fleet.records import FleetRecords
from llmhost.fleet.rentals import RentalBook
from llmhost.fleet.results import DownResult, Failure, FleetStatus, UpResult

if TYPE_CHECKING:
    from llmhost.fleet.registry import FleetRegistry

__all__ = ["FleetService"]

_STATUS_PATIENCE = 5.0  #: seconds for one token, so that a stuck worker does not hang `status`


class FleetService:
    """Plans, makes, ends and inspects one fleet.

    Every method raises ProviderError where the provider's list cannot be read, and StateError where the
    state folder cannot be used.
    """

    def __init__(
        self,
        provider: Provider,
        spec: FleetSpec,
        *,
        hooks: Hooks,
        lock: FleetLock,
        clock: Clock,
        ready_timeout: float,
        registry: FleetRegistry | None = None,
        rentals: RentalBook | None = None,
        on_lock_wait: Callable[[], None] | None = None,
    ) -> None:
        self._provider = provider
        self._spec = spec
        self._hooks = hooks
        self._lock = lock
        self._clock = clock
        self._ready_timeout = ready_timeout
        self._registry = registry
        self._rentals = rentals
        self._on_lock_wait = on_lock_wait

    async def plan(self, gpus: int | None = None) -> Plan:
        """What `up` would do now. Raises LimitError and UsageError as `make_plan` does."""
        return make_plan(self._wanted(gpus), await self._provider.list())

    async def up(
        self,
        gpus: int | None = None,
        *,
        wait: bool = True,
        timeout: float | None = None,
        on_progress: OnProgress = lambda _: None,
    ) -> UpResult:
        """Makes the fleet be `gpus` ready workers; asking again changes nothing.

        A worker that fails on the way is destroyed and reported, not tried again: what failed here once
        mostly fails again. One still on its way when `timeout` seconds are over stays.

        Raises:
            LimitError, UsageError: as `make_plan`.
            LlmhostError: nothing could be created, and there was nothing to keep.
        """
        records = self._records()
        plan, workers, failures = await self._apply(self._wanted(gpus), records)
        if wait:
            workers = await self._wait(workers, timeout, on_progress)
            failures += tuple(map(_never_ready, _not_ready(workers)))
            workers, undone = await self._settle(workers, records)
            failures += undone
        return UpResult(plan, workers, failures, records.warnings)

    async def down(self, ids: Sequence[str] | None = None) -> DownResult:
        """Destroys the workers named, or all, and confirms by the provider's list that they are gone.

        Raises:
            UsageError: a name that no worker of this fleet has; then nothing is destroyed.
        """
        records = self._records()
        async with self._lock.hold(self._on_lock_wait):
            known = await records.known()
            targets = _select(await self._provider.list(), ids)
            failures = await self._end(targets, records)
            remaining = tuple(await self._provider.list())
        ended = {worker.id for worker in targets}
        left = {worker.id for worker in remaining}
        await self._forget_gone(known - ended, remaining, records)
        failures += tuple(
            Failure(id, "its provider still lists it") for id in sorted(ended & left - _named(failures))
        )
        destroyed = tuple(w.id for w in targets if w.id not in left | _named(failures))
        return DownResult(destroyed, remaining, failures, records.warnings)

    async def status(self) -> FleetStatus:
        """Every worker that exists, asked whether it answers; what Redis knows is brought up to date."""
        records = self._records()
        known = await records.known()
        listed = await self._provider.list()
        await self._forget_gone(known, listed, records)
        workers = await asyncio.gather(*(self._look_at(worker, records) for worker in listed))
        return FleetStatus(tuple(workers), records.warnings)

    async def list(self) -> Sequence[Worker]:
        """Every worker that exists, as the provider sees it; nobody is asked and nothing written down."""
        return await self._provider.list()

    async def logs(self, worker_id: str, lines: int = 100) -> str:
        """The last lines that the worker printed; also after its end, where the provider keeps them."""
        return await self._provider.logs(worker_id, lines)

    def _wanted(self, gpus: int | None) -> FleetSpec:
        return self._spec if gpus is None else replace(self._spec, gpus=gpus)

    def _records(self) -> FleetRecords:
        return FleetRecords(self._registry, self._rentals)

    async def _apply(
        self, spec: FleetSpec, records: FleetRecords
    ) -> tuple[Plan, tuple[Worker, ...], tuple[Failure, ...]]:
        """Does the plan's steps. A worker that cannot be destroyed is not replaced: it is still paid for."""
        async with self._lock.hold(self._on_lock_wait):
            known = await records.known()
            listed = await self._provider.list()
            plan = make_plan(spec, listed)
            await self._forget_gone(known, listed, records)
            undone = await self._end(plan.destroy, records)
            created, failures = await self._create(spec, max(0, plan.create - len(undone)), records)
            if failures and not (plan.keep or created):
                raise failures[0]
        failed = tuple(Failure(None, error.message, error.hint) for error in failures)
        return plan, (*plan.keep, *created), (*undone, *failed)

    async def _create(
        self, spec: FleetSpec, count: int, records: FleetRecords
    ) -> tuple[tuple[Worker, ...], tuple[LlmhostError, ...]]:
        """One after the other, and none after the first that failed."""
        created: list[Worker] = []
        for _ in range(count):
            try:
                worker = await self._provider.create(spec)
            except LlmhostError as error:
                return tuple(created), (error,)
            created.append(worker)
            await records.seen(replace(worker, state=WorkerState.STARTING))
        return tuple(created), ()

    async def _wait(
        self, workers: Sequence[Worker], timeout: float | None, on_progress: OnProgress
    ) -> tuple[Worker, ...]:
        return await wait_ready(
            workers,
            provider=self._provider,
            hooks=self._hooks,
            clock=self._clock,
            ready_timeout=self._ready_timeout,
            timeout=timeout,
            on_progress=on_progress,
        )

    async def _settle(
        self, workers: Sequence[Worker], records: FleetRecords
    ) -> tuple[tuple[Worker, ...], tuple[Failure, ...]]:
        """Writes down what came of the wait and ends the failed; what exists then, and what would not end."""
        failed = [worker for worker in workers if worker.state is WorkerState.FAILED]
        alive = [worker for worker in workers if worker.state in {WorkerState.READY, WorkerState.STARTING}]
        for worker in alive:
            await records.seen(worker)
        if not failed:
            return tuple(alive), ()
        async with self._lock.hold(self._on_lock_wait):
            undone = await self._end(failed, records)
        return (*alive, *(worker for worker in failed if worker.id in _named(undone))), undone

    async def _end(self, workers: Sequence[Worker], records: FleetRecords) -> tuple[Failure, ...]:
        """Destroys all of them at once; what could not be done is the answer."""
        failures = await asyncio.gather(*(self._end_one(worker, records) for worker in workers))
        return tuple(failure for failure in failures if failure is not None)

    async def _end_one(self, worker: Worker, records: FleetRecords) -> Failure | None:
        await records.opened(worker)
        try:
            await self._provider.destroy(worker.id)
        except LlmhostError as error:
            return Failure(worker.id, f"could not be ended: {error.message}", error.hint)
        await records.gone(worker.id, self._clock.now())
        return None

    async def _forget_gone(
        self, known: frozenset[str], listed: Iterable[Worker], records: FleetRecords
    ) -> None:
        """`known` was read before `listed`, so what only `known` has is gone, and not newer than the list."""
        for worker_id in sorted(known - {worker.id for worker in listed}):
            await records.gone(worker_id, self._clock.now())
            records.warn(f"worker {worker_id} is gone: its provider no longer lists it")

    async def _look_at(self, worker: Worker, records: FleetRecords) -> Worker:
        """The worker as it is now. One that is merely slow to answer stays in use: it may be busy."""
        if worker.state is WorkerState.FAILED or worker.url is None:
            await records.seen(worker)
            return worker
        try:
            async with asyncio.timeout(_STATUS_PATIENCE):
                await self._hooks.probe(worker)
            seen = replace(worker, state=WorkerState.READY)
        except TimeoutError:
            await records.opened(worker)
            detail = f"no answer within {_STATUS_PATIENCE:g} s: busy, or stuck"
            return replace(worker, state=WorkerState.STARTING, detail=detail)
        except LlmhostError as error:
            detail = f"does not answer: {sentence(error)}"
            seen = replace(worker, state=WorkerState.STARTING, detail=detail)
        await records.seen(seen)
        return seen


def _select(listed: Sequence[Worker], ids: Sequence[str] | None) -> tuple[Worker, ...]:
    if ids is None:
        return tuple(listed)
    known = {worker.id: worker for worker in listed}
    unknown = [worker_id for worker_id in ids if worker_id not in known]
    if unknown:
        names = ", ".join(known) or "none"
        raise UsageError(
            f"no worker is called {', '.join(unknown)}; this fleet has: {names}",
            hint="see `llmhost status`",
        )
    return tuple(known[worker_id] for worker_id in dict.fromkeys(ids))


def _not_ready(workers: Iterable[Worker]) -> list[Worker]:
    return [worker for worker in workers if worker.state is not WorkerState.READY]


def _never_ready(worker: Worker) -> Failure:
    if worker.state is WorkerState.STARTING:
        return Failure(worker.id, worker.detail, "see `llmhost status`; `llmhost up` waits for it again")
    return Failure(worker.id, worker.detail, f"its log: {worker.log}" if worker.log else None)


def _named(failures: Iterable[Failure]) -> set[str | None]:
    return {failure.worker for failure in failures}
