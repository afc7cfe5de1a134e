"""One `up`: quote, ask the operator, lock, plan again, buy what was approved, wait, replace what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace

from llmhost.errors import LlmhostError
from llmhost.fleet.buyer import Buyer, Purchases, taken_down
from llmhost.fleet.doubts import settle
from llmhost.fleet.ending import drain, terminate
from llmhost.fleet.health import Hooks, answering, wait_ready
from llmhost.fleet.models import FleetSpec, Worker, WorkerState
from llmhost.fleet.plan import ApprovedSpend, Plan, Quote, make_plan
from llmhost.fleet.provider import Provider, list_to_buy, resolve_pending
from llmhost.fleet.registry import FleetRecords
from llmhost.fleet.results import Failure, UpResult

__all__ = ["Approve", "Provisioning", "make_healthy_plan"]


#: Shows the quote and returns where the operator agrees; raises to stop everything.
Approve = Callable[[Quote], Awaitable[None]]

_NO_CHANGE = Plan(0, (), ())


@dataclass(slots=True)
class Provisioning:
    """One `up`: makes the fleet be as the buyer's spec wants it.

    `hold` takes the fleet's lock; `attempts` is how many workers that fail may be replaced. Workers that are
    too many may finish their answers for `drain_for` seconds. `began` is when it was asked for, Unix seconds,
    None for now.
    """

    buyer: Buyer
    hooks: Hooks
    approve: Approve
    hold: Callable[[], AbstractAsyncContextManager[None]]
    attempts: int
    drain_for: float
    began: float | None = None
    _drained: bool = field(default=False, init=False)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)  # one terminal, one question
    _plan: Plan = field(default=_NO_CHANGE, init=False)
    _buying: list[tuple[float, float]] = field(default_factory=list, init=False)
    _workers: tuple[Worker, ...] = field(default=(), init=False)
    #: those that this `up` lifts: it was asked for after them
    _pauses: frozenset[str] = field(default=frozenset(), init=False)
    _failed: list[Failure] = field(default_factory=list, init=False)
    _replaced: list[Failure] = field(default_factory=list, init=False)

    async def run(self, ready_timeout: float | None, timeout: float | None) -> UpResult:
        """`ready_timeout` is seconds without progress until a worker counts as failed, None to wait for no
        worker; `timeout` is seconds in all.

        Raises:
            LimitError: more is to be bought than was approved, or than the budget allows; nothing changed.
            LlmhostError: nothing could be created, and there was nothing to keep.
        """
        began = self.buyer.clock.now() if self.began is None else self.began
        self._pauses = frozenset(await self._records.pauses_before(began))
        await self._apply()
        if ready_timeout is not None:
            await self._wait(ready_timeout, timeout)
        elif self._buying and self._provider.rents:
            failed_already = [worker for worker in self._workers if worker.state is WorkerState.FAILED]
            self._failed += map(_never_ready, failed_already)
            await self._record_and_clean_up(self._workers)
        failed, replaced = tuple(self._failed), tuple(self._replaced)
        return UpResult(self._plan, self._workers, failed, self._records.warnings, replaced)

    @property
    def _provider(self) -> Provider:
        return self.buyer.provider

    @property
    def _records(self) -> FleetRecords:
        return self.buyer.records

    async def _apply(self) -> None:
        """Asks where money is to be spent, and does the plan's steps. A worker that cannot be destroyed is
        not replaced: it is still paid for."""
        unapproved: Quote | None = None
        if self._provider.rents:
            listed = await list_to_buy(self._provider, await self._records.known())
            unapproved = await self.buyer.quote(
                await make_healthy_plan(self.buyer.spec, listed, self.hooks, self._records)
            )
        # The operator may take minutes, so the question is open without the lock. What has happened meanwhile
        # is seen under it; a purchase that was not approved yet is asked about then, without the lock again.
        while True:
            if unapproved is not None and unapproved.purchases:
                await self._ask(unapproved)
            async with self.hold():
                plan, unapproved = await self._apply_or_quote()
            if plan is not None:
                working = [worker for worker in plan.destroy if worker.state is not WorkerState.FAILED]
                await drain(working, self._records, self.buyer.clock, self.drain_for, self.buyer.on_progress)
                self._drained = True
            elif unapproved is None:
                return

    async def _apply_or_quote(self) -> tuple[Plan | None, Quote | None]:
        """Plans again and does the plan. Does nothing and returns a quote where the plan has purchases and
        the operator was never asked, and the plan where workers have to finish their answers first."""
        known = await self._records.known(certain=self.buyer.lock.fence is not None)
        await resolve_pending(self._provider, known)
        listed = await list_to_buy(self._provider, known)
        plan = await make_healthy_plan(self.buyer.spec, listed, self.hooks, self._records)
        quote = await self.buyer.quote(plan)
        approved = self.buyer.approved
        if self._provider.rents and quote.purchases and approved is None:
            return None, quote
        gives_up_working = any(worker.state is not WorkerState.FAILED for worker in plan.destroy)
        if plan.create and (approved is None or gives_up_working):
            # Half a fleet is not what was asked for, and what still works is not destroyed for another one
            # that may not be bought.
            if refusal := quote.refusal():
                raise refusal
            if approved is not None and quote.purchases:
                approved.check(quote.purchases[0].price_per_hour)
        if gives_up_working and not self._drained and await self._records.busy(plan.destroy):
            return plan, None
        self._plan = plan
        await self._records.forget_gone(known, listed)
        await self._records.revive(plan.keep)
        try:
            if await self._records.lift(self._pauses):
                raise taken_down()
            await self._remember(plan.destroy)
            not_destroyed = await self._terminate(plan.destroy)
            failed = _named(not_destroyed)
            present = [*plan.keep, *(worker for worker in plan.destroy if worker.id in failed)]
            bought = await self._buy(plan.create - len(not_destroyed), present, quote)
            if bought.errors and not (plan.keep or bought.workers):
                raise bought.errors[0]
        except BaseException:
            if self._pauses and not plan.keep:  # without a whole fleet, nothing is bought by itself
                await self._records.pause()
            raise
        self._workers = (*plan.keep, *bought.workers)
        self._failed += [*not_destroyed, *map(_of_error, bought.errors)]
        return None, None

    async def _wait(self, ready_timeout: float, timeout: float | None) -> None:
        """Waits for them all, records how each ended and destroys what failed."""
        waited_for = await wait_ready(
            self._workers,
            provider=self._provider,
            hooks=self.hooks,
            clock=self.buyer.clock,
            ready_timeout=ready_timeout,
            timeout=timeout,
            on_progress=self.buyer.on_progress,
            replace_failed=self._replace,
        )
        replaced = _named(self._replaced)
        ended = replaced | _named(self._failed)
        missing = [w for w in waited_for if w.state is not WorkerState.READY and w.id not in ended]
        self._failed += map(_never_ready, missing)
        await self._record_and_clean_up([worker for worker in waited_for if worker.id not in replaced])

    async def _ask(self, quote: Quote) -> None:
        """Raises LimitError where the budget does not allow it, and what `approve` raises."""
        if refusal := quote.refusal():
            raise refusal
        if quote.purchases:
            await self.approve(quote)
        self.buyer.approved = ApprovedSpend(quote.purchases)

    async def _buy(
        self, count: int, present: Sequence[Worker] = (), quoted: Quote | None = None
    ) -> Purchases:
        begun = float(int(self.buyer.clock.now()))  # a provider's label holds the start in whole seconds
        bought = await self.buyer.buy(count, present, quoted)
        if count > 0:
            self._buying.append((begun, self.buyer.clock.now()))
        return bought

    async def _terminate(self, workers: Iterable[Worker]) -> tuple[Failure, ...]:
        return await terminate(workers, self._provider, self._records, self.buyer.on_progress)

    async def _remember(self, workers: Iterable[Worker]) -> None:
        """A machine that failed this fleet is not rented again."""
        for worker in workers:
            if worker.state is WorkerState.FAILED:
                await self._records.failed_on(worker, worker.detail)

    async def _replace(self, worker: Worker) -> Worker | None:
        """Another worker in the place of one that failed; None where it stays without one.

        The failed one goes first, and only when it is confirmed gone is another one bought. One that is
        gone already was taken down by another command, which wanted no replacement.
        """
        if not self._provider.rents:
            return None
        await self._remember([worker])
        async with self.hold():
            if worker.id not in {other.id for other in await self._provider.list()}:
                return None
            not_destroyed = await self._terminate([worker])
            self._failed += not_destroyed
            if not_destroyed:
                return None
            listed = await self._provider.list()
        plan = await make_healthy_plan(self.buyer.spec, listed, self.hooks, self._records)
        if not plan.create or self.attempts <= 0:
            return None
        self.attempts -= 1
        try:
            await self._may_replace(worker, listed)
        except LlmhostError as error:
            self._failed.append(_of_error(error))
            return None
        async with self.hold():
            bought = await self._buy(1)
        self._failed += map(_of_error, bought.errors)
        if not bought.workers:
            return None
        self._replaced.append(Failure(worker.id, worker.detail))
        return bought.workers[0]

    async def _may_replace(self, gone: Worker, listed: Sequence[Worker]) -> None:
        """What `gone` cost may be spent on another one. Where nothing was approved so far, the operator is
        asked, without the lock. Raises as `_ask`, and what reading the offers raises."""
        async with self._asking:
            if self.buyer.approved is not None:
                self.buyer.approved.give_back(gone.price_per_hour)
                return
            await self._ask(await self.buyer.quote(Plan(1, tuple(listed), ())))

    async def _record_and_clean_up(self, workers: Sequence[Worker]) -> None:
        """Records the workers that live, and destroys those that failed and those bought beyond the plan."""
        failed = [worker for worker in workers if worker.state is WorkerState.FAILED]
        alive = [worker for worker in workers if worker.state in {WorkerState.READY, WorkerState.STARTING}]
        for worker in alive:
            await self._records.seen(worker)
        still_paid: list[Worker] = []
        if failed or self._provider.rents:
            async with self.hold():
                listed = await self._provider.list()
                with suppress(LlmhostError):
                    await settle(self._provider, self._records)
                surplus = self._surplus(listed, failed, {worker.id for worker in alive})
                ids = {worker.id for worker in listed}
                to_destroy = [*(worker for worker in failed if worker.id in ids), *surplus]
                not_destroyed = await self._terminate(to_destroy)
            self._failed += not_destroyed
            still_paid = [worker for worker in to_destroy if worker.id in _named(not_destroyed)]
            surplus_ids = {worker.id for worker in surplus}
            alive = [worker for worker in alive if worker.id not in surplus_ids]
        self._workers = (*alive, *still_paid)

    def _surplus(
        self, listed: Sequence[Worker], failed: Sequence[Worker], alive: Collection[str]
    ) -> Sequence[Worker]:
        """Workers beyond the plan that were created during one of our purchases: that purchase bought twice,
        or another machine bought at the same time. Every machine finds the same ones, so that the number of
        workers that was asked for remains. Those `alive` count, whatever their provider says of them.
        """
        if not self._provider.rents:
            return ()
        failed_ids = {worker.id for worker in failed}
        rest = [
            replace(worker, state=WorkerState.STARTING)
            if worker.state is WorkerState.FAILED and worker.id in alive
            else worker
            for worker in listed
            if worker.id not in failed_ids
        ]
        return [
            worker
            for worker in make_plan(self.buyer.spec, rest).destroy
            if any(begun <= worker.started <= ended for begun, ended in self._buying)
        ]


async def make_healthy_plan(
    spec: FleetSpec, listed: Sequence[Worker], hooks: Hooks, records: FleetRecords
) -> Plan:
    """As `make_plan`, but before any worker is destroyed, all are asked: those that answer are kept before
    those that do not, and one that answers has not failed, whatever its provider says. Those that take
    questions and work on some are kept before idle ones."""
    plan = make_plan(spec, listed)
    if not plan.destroy:
        return plan
    busy = await records.busy(listed) - await records.draining()
    return make_plan(spec, await answering(listed, hooks), busy)


def _of_error(error: LlmhostError) -> Failure:
    return Failure(None, error.message, error.hint)


def _never_ready(worker: Worker) -> Failure:
    if worker.state is WorkerState.STARTING:
        return Failure(worker.id, worker.detail, "see `llmhost status`; `llmhost up` waits for it again")
    return Failure(worker.id, worker.detail, f"its log: {worker.log}" if worker.log else None)


def _named(failures: Iterable[Failure]) -> set[str | None]:
    return {failure.worker for failure in failures}
