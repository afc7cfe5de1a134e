"""One `up`: do the plan's steps, wait until the workers answer, replace those that never will."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

from llmhost.errors import LlmhostError
from llmhost.fleet.buying import Buyer
from llmhost.fleet.clock import Clock
from llmhost.fleet.ending import Ending
from llmhost.fleet.health import Hooks, OnProgress, wait_ready
from llmhost.fleet.models import FleetSpec, Worker, WorkerState
from llmhost.fleet.plan import Plan, make_plan
from llmhost.fleet.provider import Provider
from llmhost.fleet.quote import Quote
from llmhost.fleet.records import FleetRecords
from llmhost.fleet.results import Failure, UpResult
from llmhost.fleet.roll_call import roll_call

__all__ = ["Approve", "Raising"]

Approve = Callable[[Quote], None]

_NO_CHANGE = Plan(0, (), ())


class Raising:
    """Makes the fleet be as `spec` wants it, once."""

    def __init__(
        self,
        provider: Provider,
        spec: FleetSpec,
        *,
        buyer: Buyer,
        ending: Ending,
        records: FleetRecords,
        hold: Callable[[], AbstractAsyncContextManager[None]],
        attempts: int,
    ) -> None:
        """`hold` takes the fleet's lock; `attempts` is how many workers that fail may be replaced."""
        self._provider = provider
        self._spec = spec
        self._buyer = buyer
        self._ending = ending
        self._records = records
        self._hold = hold
        self._attempts = attempts
        self._plan = _NO_CHANGE
        self._workers: tuple[Worker, ...] = ()
        self._failed: list[Failure] = []
        self._replaced: list[Failure] = []

    def result(self) -> UpResult:
        return UpResult(
            self._plan, self._workers, tuple(self._failed), self._records.warnings, tuple(self._replaced)
        )

    async def apply(self, approve: Approve) -> None:
        """Does the plan's steps. A worker that cannot be destroyed is not replaced: it is still paid for.

        Raises:
            LlmhostError: nothing could be created, and there was nothing to keep.
        """
        async with self._hold():
            known = await self._records.known()
            await self._provider.settle()
            listed = await roll_call(self._provider, known)
            self._plan = plan = make_plan(self._spec, listed)
            if plan.create:
                await self._approved(approve)
            await self._ending.forget_gone(known, listed)
            await self._remember(plan.destroy)
            undone = await self._ending.end(plan.destroy)
            left = [worker for worker in plan.destroy if worker.id in _named(undone)]
            bought = await self._buyer.buy(plan.create - len(undone), [*plan.keep, *left])
        if bought.errors and not (plan.keep or bought.workers):
            raise bought.errors[0]
        self._workers = (*plan.keep, *bought.workers)
        self._failed += [*undone, *map(_of_error, bought.errors)]

    async def wait(
        self,
        hooks: Hooks,
        clock: Clock,
        ready_timeout: float,
        timeout: float | None,
        on_progress: OnProgress,
    ) -> None:
        """Waits for them all, writes down what came of it and ends what failed."""
        outcome = await wait_ready(
            self._workers,
            provider=self._provider,
            hooks=hooks,
            clock=clock,
            ready_timeout=ready_timeout,
            timeout=timeout,
            on_progress=on_progress,
            replace_failed=self._replace,
        )
        replaced = {failure.worker for failure in self._replaced}
        ended = replaced | {failure.worker for failure in self._failed}
        missing = [w for w in outcome if w.state is not WorkerState.READY and w.id not in ended]
        self._failed += map(_never_ready, missing)
        await self._settle([worker for worker in outcome if worker.id not in replaced])

    async def _approved(self, approve: Approve) -> None:
        """All of it, or none: half a fleet is not what was asked for. Raises LimitError."""
        quote = await self._buyer.quote(self._plan)
        refusal = quote.refusal()
        if refusal is not None:
            raise refusal
        if quote.purchases and self._provider.rents:
            approve(quote)
            self._buyer.approved(quote)

    async def _remember(self, workers: Iterable[Worker]) -> None:
        """A machine that failed this fleet is not rented again."""
        for worker in workers:
            if worker.state is WorkerState.FAILED:
                await self._records.failed_on(worker.machine, worker.detail)

    async def _replace(self, worker: Worker) -> Worker | None:
        """Another worker in the place of one that failed; None where it stays without one.

        The failed one goes first, and only when it is confirmed gone is another one bought.
        """
        if not self._provider.rents:
            return None
        await self._remember([worker])
        async with self._hold():
            undone = await self._ending.end([worker])
            self._failed += undone
            if undone:
                return None
            listed = await self._provider.list()
            wanted = make_plan(self._spec, listed).create
            if not wanted or self._attempts <= 0:
                return None
            self._attempts -= 1
            bought = await self._buyer.buy(1, listed)
        self._failed += map(_of_error, bought.errors)
        if not bought.workers:
            return None
        self._replaced.append(Failure(worker.id, worker.detail))
        return bought.workers[0]

    async def _settle(self, workers: Sequence[Worker]) -> None:
        """Records what is alive, ends what failed, and what exists beyond the plan: bought, and not known."""
        failed = [worker for worker in workers if worker.state is WorkerState.FAILED]
        alive = [worker for worker in workers if worker.state in {WorkerState.READY, WorkerState.STARTING}]
        for worker in alive:
            await self._records.seen(worker)
        left: list[Worker] = []
        if failed or self._provider.rents:
            async with self._hold():
                listed = {worker.id: worker for worker in await self._provider.list()}
                surplus = self._surplus(listed, {worker.id for worker in alive})
                doomed = [*(worker for worker in failed if worker.id in listed), *surplus]
                undone = await self._ending.end(doomed)
            self._failed += undone
            left = [worker for worker in doomed if worker.id in _named(undone)]
        self._workers = (*alive, *left)

    def _surplus(self, listed: dict[str, Worker], ours: set[str]) -> Sequence[Worker]:
        """What a purchase left behind that came to light only now. What we waited for is kept before it."""
        if not self._provider.rents:
            return ()
        strangers = [worker for worker_id, worker in listed.items() if worker_id not in ours]
        room = max(0, self._spec.gpus - len(ours & listed.keys()))
        return sorted(strangers, key=lambda worker: (worker.started, worker.id))[room:]


def _of_error(error: LlmhostError) -> Failure:
    return Failure(None, error.message, error.hint)


def _never_ready(worker: Worker) -> Failure:
    if worker.state is WorkerState.STARTING:
        return Failure(worker.id, worker.detail, "see `llmhost status`; `llmhost up` waits for it again")
    return Failure(worker.id, worker.detail, f"its log: {worker.log}" if worker.log else None)


def _named(failures: Iterable[Failure]) -> set[str | None]:
    return {failure.worker for failure in failures}
