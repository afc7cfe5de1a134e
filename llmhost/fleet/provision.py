"""One `up`: do the plan's steps, wait until the workers answer, replace those that never will."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

from llmhost.errors import LlmhostError
from llmhost.fleet.buying import Buyer, Purchases
from llmhost.fleet.clock import Clock
from llmhost.fleet.ending import Ending
from llmhost.fleet.health import Hooks, OnProgress, wait_ready
from llmhost.fleet.inspection import answering
from llmhost.fleet.models import FleetSpec, Worker, WorkerState
from llmhost.fleet.plan import Plan, make_plan
from llmhost.fleet.provider import Provider
from llmhost.fleet.quote import Quote
from llmhost.fleet.records import FleetRecords
from llmhost.fleet.results import Failure, UpResult
from llmhost.fleet.roll_call import roll_call

__all__ = ["Approve", "Raising", "make_healthy_plan"]

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
        hooks: Hooks,
        clock: Clock,
        approve: Approve,
        hold: Callable[[], AbstractAsyncContextManager[None]],
        attempts: int,
    ) -> None:
        """`hold` takes the fleet's lock; `attempts` is how many workers that fail may be replaced."""
        self._provider = provider
        self._spec = spec
        self._hooks = hooks
        self._clock = clock
        self._approve = approve
        self._buyer = buyer
        self._ending = ending
        self._records = records
        self._hold = hold
        self._attempts = attempts
        self._plan = _NO_CHANGE
        self._buying: list[tuple[float, float]] = []
        self._workers: tuple[Worker, ...] = ()
        self._failed: list[Failure] = []
        self._replaced: list[Failure] = []

    def result(self) -> UpResult:
        return UpResult(
            self._plan, self._workers, tuple(self._failed), self._records.warnings, tuple(self._replaced)
        )

    async def apply(self) -> None:
        """Does the plan's steps. A worker that cannot be destroyed is not replaced: it is still paid for.

        Raises:
            LlmhostError: nothing could be created, and there was nothing to keep.
        """
        async with self._hold():
            known = await self._records.known()
            await self._provider.settle()
            listed = await roll_call(self._provider, known)
            self._plan = plan = await make_healthy_plan(self._spec, listed, self._hooks)
            if plan.create:
                await self._approved(plan)
            await self._ending.forget_gone(known, listed)
            await self._records.revive(plan.keep)
            await self._records.resume()
            await self._remember(plan.destroy)
            undone = await self._ending.end(plan.destroy)
            left = [worker for worker in plan.destroy if worker.id in _named(undone)]
            bought = await self._buy(plan.create - len(undone), [*plan.keep, *left])
        if bought.errors and not (plan.keep or bought.workers):
            raise bought.errors[0]
        self._workers = (*plan.keep, *bought.workers)
        self._failed += [*undone, *map(_of_error, bought.errors)]

    async def leave(self) -> None:
        """Waits for nobody, and ends what was bought once too often."""
        if self._buying and self._provider.rents:
            await self._settle(self._workers)

    async def wait(self, ready_timeout: float, timeout: float | None, on_progress: OnProgress) -> None:
        """Waits for them all, writes down what came of it and ends what failed."""
        outcome = await wait_ready(
            self._workers,
            provider=self._provider,
            hooks=self._hooks,
            clock=self._clock,
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

    async def _approved(self, plan: Plan) -> None:
        """All of it, or none: half a fleet is not what was asked for. Raises LimitError."""
        quote = await self._buyer.quote(plan)
        refusal = quote.refusal()
        if refusal is not None:
            raise refusal
        if not self._provider.rents:
            return
        if quote.purchases:
            self._approve(quote)
        self._buyer.approved(quote)

    async def _buy(self, count: int, present: Sequence[Worker]) -> Purchases:
        begun = float(int(self._clock.now()))  # as labels tell it
        bought = await self._buyer.buy(count, present)
        if count > 0:
            self._buying.append((begun, self._clock.now()))
        return bought

    async def _remember(self, workers: Iterable[Worker]) -> None:
        """A machine that failed this fleet is not rented again."""
        for worker in workers:
            if worker.state is WorkerState.FAILED:
                await self._records.failed_on(worker.machine, worker.detail)

    async def _replace(self, worker: Worker) -> Worker | None:
        """Another worker in the place of one that failed; None where it stays without one.

        The failed one goes first, and only when it is confirmed gone is another one bought. One that is
        gone already was taken down by somebody who wanted no other.
        """
        if not self._provider.rents:
            return None
        await self._remember([worker])
        async with self._hold():
            if worker.id not in {other.id for other in await self._provider.list()}:
                return None
            undone = await self._ending.end([worker])
            self._failed += undone
            if undone:
                return None
            listed = await self._provider.list()
            if not make_plan(self._spec, listed).create or self._attempts <= 0:
                return None
            self._attempts -= 1
            bought = await self._buy_instead(worker, listed)
        self._failed += map(_of_error, bought.errors)
        if not bought.workers:
            return None
        self._replaced.append(Failure(worker.id, worker.detail))
        return bought.workers[0]

    async def _buy_instead(self, worker: Worker, listed: Sequence[Worker]) -> Purchases:
        """One in the place of `worker`, which is gone. Who was asked for nothing so far is asked now."""
        self._buyer.given_back(worker)
        try:
            if not self._buyer.asked:
                await self._approved(Plan(1, tuple(listed), ()))
        except LlmhostError as error:
            return Purchases((), (error,))
        return await self._buy(1, listed)

    async def _settle(self, workers: Sequence[Worker]) -> None:
        """Records what is alive, ends what failed, and what exists beyond the plan: bought, and not known."""
        failed = [worker for worker in workers if worker.state is WorkerState.FAILED]
        alive = [worker for worker in workers if worker.state in {WorkerState.READY, WorkerState.STARTING}]
        for worker in alive:
            await self._records.seen(worker)
        left: list[Worker] = []
        if failed or self._provider.rents:
            async with self._hold():
                listed = await self._provider.list()
                surplus = self._surplus(listed, {worker.id for worker in failed})
                there = {worker.id for worker in listed}
                doomed = [*(worker for worker in failed if worker.id in there), *surplus]
                undone = await self._ending.end(doomed)
            self._failed += undone
            left = [worker for worker in doomed if worker.id in _named(undone)]
            ended = {worker.id for worker in surplus}
            alive = [worker for worker in alive if worker.id not in ended]
        self._workers = (*alive, *left)

    def _surplus(self, listed: Sequence[Worker], failed: Collection[str]) -> Sequence[Worker]:
        """What was bought while we bought and is more than was asked for: by a purchase that bought twice, or
        from another machine. There, the same ones are found, so that as many are left as were asked for.
        """
        if not self._provider.rents:
            return ()
        rest = [worker for worker in listed if worker.id not in failed]
        return [
            worker
            for worker in make_plan(self._spec, rest).destroy
            if any(begun <= worker.started <= ended for begun, ended in self._buying)
        ]


async def make_healthy_plan(spec: FleetSpec, listed: Sequence[Worker], hooks: Hooks) -> Plan:
    """As `make_plan`; where there are too many, those that answer are kept before those that do not."""
    plan = make_plan(spec, listed)
    if any(worker.state is not WorkerState.FAILED for worker in plan.destroy):
        plan = make_plan(spec, await answering(listed, hooks))
    return plan


def _of_error(error: LlmhostError) -> Failure:
    return Failure(None, error.message, error.hint)


def _never_ready(worker: Worker) -> Failure:
    if worker.state is WorkerState.STARTING:
        return Failure(worker.id, worker.detail, "see `llmhost status`; `llmhost up` waits for it again")
    return Failure(worker.id, worker.detail, f"its log: {worker.log}" if worker.log else None)


def _named(failures: Iterable[Failure]) -> set[str | None]:
    return {failure.worker for failure in failures}
