"""Makes a fleet be what its operator wants, and says what it is.

The provider's list is the truth. Changes happen under the fleet's lock, waiting for workers does not.
Redis being away is a warning in the result; a list that cannot be read is an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING

from llmhost.errors import LlmhostError, ProviderError, StateError, StoreUnavailable
from llmhost.fleet.budget import Limits
from llmhost.fleet.buyer import Buyer
from llmhost.fleet.clock import Clock
from llmhost.fleet.doubts import doubt_about, find_doubts
from llmhost.fleet.ending import drain, end_one, terminate
from llmhost.fleet.health import Hooks, OnProgress, check_workers, find_spending
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec, Registered, Worker
from llmhost.fleet.pause import NOWHERE, PauseMarks, PauseResult
from llmhost.fleet.plan import Quote, select
from llmhost.fleet.provider import Provider, list_all_workers, list_to_buy, resolve_pending
from llmhost.fleet.provision import Approve, Provisioning, make_healthy_plan
from llmhost.fleet.registry import FleetRecords
from llmhost.fleet.results import DownResult, Failure, FleetStatus, UpResult
from llmhost.ledger.rentals import RentalBook
from llmhost.machine.files import Patience

if TYPE_CHECKING:
    from llmhost.fleet.registry import FleetRegistry

__all__ = ["FleetService"]

#: where Redis could not be told, but this machine keeps it
_UNTOLD = Failure(
    None,
    "Redis could not be told that the fleet is to stay down: an autoscaler on another machine may rent again",
    "run `llmhost down` again when Redis is back; see `llmhost doctor`",
)
#: where another command has the fleet's lock and cannot be kept from going on
_NOT_ALONE = Failure(
    None,
    "another llmhost is changing this fleet and could not be stopped: it may have bought a worker meanwhile",
    "end it, then run `llmhost down` again",
)
#: where Redis was told, and then not there
_UNREAD = Failure(
    None,
    "what other machines have bought could not be read in Redis: there may be more workers",
    "run `llmhost down` again when Redis is back; see `llmhost doctor`",
)
_UNMARKED = Failure(
    None,
    "this machine could not write down that the fleet is to stay down: an autoscaler that uses another Redis "
    "may rent again",
    "make the state folder writable, then run `llmhost down` again; see `llmhost doctor`",
)
_NOT_KEPT = Failure(
    None,
    "that the fleet is to stay down could be written nowhere: an autoscaler may rent again",
    "take `llmhost scale` out of cron, or run `llmhost down` again; see `llmhost doctor`",
)
#: seconds; `down` goes on without the lock then. A command on another machine that died has lost it by then
_LOCK_PATIENCE = 60.0
#: seconds; the least that `down` waits for a lock of this machine: a step of a command that works takes less
_STEP = 3.0
_BY_HAND = "look at the provider's own console; `llmhost down` again ends what is left"


def _unseen(error: LlmhostError) -> Failure:
    return Failure(None, f"not all workers could be looked for: {error.message}", error.hint or _BY_HAND)


def _appeared(result: DownResult) -> Sequence[Failure]:
    """Where all were to go: those that another command made meanwhile."""
    failed = {failure.worker for failure in result.failed}
    return [
        Failure(worker.id, "it was made while the others were destroyed", "run `llmhost down` again")
        for worker in result.remaining
        if worker.id not in failed
    ]


async def approve_all(_quote: Quote) -> None:
    """Approves without asking."""


@dataclass(frozen=True, slots=True)
class FleetService:
    """Plans, makes, ends and inspects one fleet.

    Every method raises ProviderError where the provider's list cannot be read, and StateError where the
    state folder cannot be used. `attempts` is how many rented workers that fail may be replaced during one
    `up`. `drain_for` is how many seconds a worker may take for its last answers before it is destroyed.
    `marks` is where this machine keeps pauses; `shared`: other machines may use the fleet's Redis. The
    command has this `patience` for locks of others.
    """

    provider: Provider
    spec: FleetSpec
    _: KW_ONLY
    hooks: Hooks
    lock: FleetLock
    clock: Clock
    ready_timeout: float
    limits: Limits = field(default_factory=Limits)
    attempts: int = 0
    drain_for: float = 300.0
    registry: FleetRegistry | None = None
    rentals: RentalBook | None = None
    marks: PauseMarks = NOWHERE
    shared: bool = False
    patience: Patience = field(default_factory=Patience)
    on_lock_wait: Callable[[], None] | None = None

    @property
    def rents(self) -> bool:
        """Whether its workers cost real money."""
        return self.provider.rents

    async def plan(self, gpus: int | None = None) -> Quote:
        """What `up` would do now, and what that costs. It changes nothing.

        Raises:
            LimitError, UsageError: as `make_plan`.
            StoreError: there is a budget, and the ledger that it is measured with cannot be read.
        """
        spec, records = self._wanted(gpus), self._records()
        listed = await list_to_buy(self.provider, await records.known())
        plan = await make_healthy_plan(spec, listed, self.hooks, records)
        return await self._buyer(spec, records).quote(plan)

    async def up(
        self,
        gpus: int | None = None,
        *,
        wait: bool = True,
        timeout: float | None = None,
        on_progress: OnProgress = lambda _: None,
        approve: Approve = approve_all,
        now: bool = False,
        began: float | None = None,
    ) -> UpResult:
        """Makes the fleet be `gpus` ready workers; asking again changes nothing.

        `approve` is shown the quote before the first real money is spent, and raises to stop
        everything. Meanwhile the fleet is not locked; after the answer the plan is made again, and nothing is
        bought beyond what was approved. A worker that fails on the way is destroyed. A rented one is replaced
        on another machine, a few times; what failed on this machine mostly fails again. One still on its way
        when `timeout` seconds are over stays. Others than wanted finish their answers first, unless `now`.
        `began` is when it was asked for, Unix seconds: a `down` that came after it goes before it.

        Raises:
            LimitError, UsageError: as `make_plan`.
            LlmhostError: nothing could be created, and there was nothing to keep.
        """
        spec, records = self._wanted(gpus), self._records()
        provisioning = Provisioning(
            self._buyer(spec, records, on_progress),
            self.hooks,
            approve,
            hold=lambda: self.lock.hold(self.on_lock_wait, buys=self.shared and self.rents),
            attempts=self.attempts if self.provider.rents else 0,
            drain_for=0.0 if now else self.drain_for,
            began=began,
        )
        result = await provisioning.run(self.ready_timeout if wait else None, timeout)
        spending = await find_spending(result.workers, self.provider, records, self.clock)
        shown = {worker.id for worker in result.workers}
        for doubt in await self._doubts(records, shown):
            records.warn(doubt)
        return replace(result, spent=spending.by_worker, warnings=records.warnings)

    async def doubts(self) -> Sequence[str]:
        """A warning of each purchase of which it is not known whether it bought a worker."""
        return await self._doubts(self._records())

    async def _doubts(self, records: FleetRecords, shown: Collection[str] = ()) -> Sequence[str]:
        """But for those of workers that are `shown`."""
        return [
            f"{doubt.message}; {doubt.hint}" if doubt.hint else doubt.message
            for doubt in await find_doubts(self.provider, self.clock, records)
            if doubt.worker not in shown
        ]

    async def down(
        self,
        ids: Sequence[str] | None = None,
        *,
        on_progress: OnProgress = lambda _: None,
        now: bool = False,
        everywhere: bool = False,
    ) -> DownResult:
        """Destroys the workers named, or all, and confirms by the provider's list that they are gone.

        They finish their answers first, unless `now`. Where all are meant, the autoscaler is paused from the
        beginning until the next `up`: it would replace them; `everywhere`: that of every rented fleet, as
        far as this machine and this Redis reach. A pause that cannot be written down is a failure of the
        result. A lock that cannot be had and a list that cannot be read do not stand in the way: then what is
        on record is destroyed, and the list is a failure of the result.

        Raises:
            UsageError: a name that no worker of this fleet has; then nothing is destroyed.
        """
        records = self._records()
        if ids is not None:
            await self._let_finish(ids, records, on_progress, now=now)
            async with self._held_if_possible(records) as alone:
                result = await self._end_listed(ids, records, on_progress)
                return replace(result, failed=(*result.failed, *alone))
        everywhere &= self.rents
        pause, ending = await records.pause(everywhere=everywhere), False
        try:
            await self._let_finish(None, records, on_progress, now=now)
            ending = True
            async with self._held_if_possible(records) as alone:
                if pause.id not in await records.pauses():  # an `up` that came after it has lifted it
                    pause = await records.pause(everywhere=everywhere)
                result = await self._end_listed(None, records, on_progress)
        except BaseException as error:
            # Where no end was asked for, the fleet keeps running and needs its autoscaler.
            if not ending or (isinstance(error, LlmhostError) and not records.ended_some):
                with suppress(StateError):
                    await records.undo_pause(pause)
            raise
        return await self._all_down(result, pause, records, alone)

    async def stay_down(self, *, everywhere: bool = False) -> DownResult:
        """For a fleet of which no worker was listed: no autoscaler makes it any until the next `up`. What was
        made meanwhile is ended. `everywhere` and errors are as those of `down`."""
        records = self._records()
        pause = await records.pause(everywhere=everywhere and self.rents)
        async with self._held_if_possible(records) as alone:
            result = await self._end_listed(None, records, lambda _: None)
        return await self._all_down(result, pause, records, alone)

    async def _all_down(
        self, result: DownResult, pause: PauseResult, records: FleetRecords, alone: Sequence[Failure]
    ) -> DownResult:
        """What became of a fleet that is to be gone, with all that may still bill or come back. `alone` says
        that another command may have changed it meanwhile."""
        unended = {failure.worker for failure in result.failed} - {None}
        doubts = await find_doubts(self.provider, self.clock, records)
        failed = (
            *result.failed,
            *_appeared(result),
            *(doubt for doubt in doubts if doubt.worker not in unended),
            *alone,
            *self._may_rent(pause, records),
        )
        return replace(result, paused=pause.scales, failed=failed, warnings=records.warnings)

    def _may_rent(self, pause: PauseResult, records: FleetRecords) -> Sequence[Failure]:
        """What may start workers although the fleet is to stay down, or may have started some."""
        if not self.rents:
            return ()
        if pause.told and self.shared and records.away:
            return (_UNREAD,)
        if not pause.marked:
            if not pause.told:
                return (_NOT_KEPT,)
            return () if self.marks == NOWHERE else (_UNMARKED,)
        return () if pause.told or not self.shared else (_UNTOLD,)

    async def _let_finish(
        self, ids: Sequence[str] | None, records: FleetRecords, on_progress: OnProgress, *, now: bool
    ) -> None:
        if now:
            return
        with suppress(LlmhostError):  # which is reported when they are ended
            targets = select(await self.provider.list(), ids)
            await drain(targets, records, self.clock, self.drain_for, on_progress)

    async def _end_listed(
        self, ids: Sequence[str] | None, records: FleetRecords, on_progress: OnProgress
    ) -> DownResult:
        """Raises an error of ours where nothing was ended. The caller holds the lock where it can be had."""
        known = await records.known()
        try:
            if ids is None:
                await resolve_pending(self.provider, known)
            targets = select(await list_all_workers(self.provider, known), ids)
        except (ProviderError, StateError) as error:
            unseen = await self._end_unseen(ids, known, error, records)
            if unseen.destroyed:
                return unseen
            names = ", ".join(failure.worker for failure in unseen.failed if failure.worker)
            known_here = f"; known here: {names}" if names else ""
            kind = StateError if isinstance(error, StateError) else ProviderError
            raise kind(error.message + known_here, hint=self._or_by_hand(error.hint or _BY_HAND)) from error
        elsewhere = [] if ids is not None else self._bought_elsewhere(targets, known)
        result = await self._end(targets, known, records, on_progress)
        if set(elsewhere) & set(result.destroyed):
            records.warn(
                f"workers of fleet {self.spec.name} were rented from another machine: an autoscaler there is"
                " not told to stay down, unless it uses this Redis; run `llmhost down` there too"
            )
        return result

    def _bought_elsewhere(self, workers: Sequence[Worker], known: Registered) -> Sequence[str]:
        """Those that neither this machine bought nor one that uses this Redis, as far as is known."""
        if not self.rents:
            return ()
        here = known.bought
        with suppress(StateError):
            here |= {*self.provider.on_record()}
        return [worker.id for worker in workers if worker.id not in here]

    async def down_orphans(self, *, on_progress: OnProgress = lambda _: None) -> DownResult:
        """Destroys the workers that the provider lists and the registry does not know, and forgets purchases
        that bought nothing. One of which that is not known is a failure of the result.

        Raises:
            StoreError: the registry cannot be read, so it is not known which workers it lacks.
        """
        records = self._records()
        if self.registry is None:
            raise StoreUnavailable(
                "without Redis it is not known which workers are orphans", hint="see `llmhost doctor`"
            )
        async with self.lock.hold(self.on_lock_wait):
            known = await self.registry.known(self.clock.now())
            await resolve_pending(self.provider, known)
            orphans = [worker for worker in await self.provider.list() if worker.id not in known.ids]
            result = await self._end(orphans, known, records, on_progress)
            intents = await self.provider.intents()
            doubts = {intent.id: doubt_about(intent, self.clock) for intent in intents}
            nothing = tuple(intent for intent, doubt in doubts.items() if doubt is None)
            for intent in nothing:
                await self.provider.forget_intent(intent)
            await records.answered(nothing)
        unclear = (doubt for doubt in doubts.values() if doubt is not None)
        return replace(result, intents=nothing, failed=(*result.failed, *unclear))

    async def status(self) -> FleetStatus:
        """Every worker that exists, asked whether it answers; what Redis knows is brought up to date."""
        records = self._records()
        known = await records.known()
        listed = await list_all_workers(self.provider, known)
        await records.forget_gone(known, listed)
        shown = {worker.id for worker in listed}
        doubts = await find_doubts(self.provider, self.clock, records)
        checked = await check_workers(listed, self.provider, self.hooks, records, self.clock)
        return replace(checked, doubts=tuple(doubt for doubt in doubts if doubt.worker not in shown))

    async def list(self) -> Sequence[Worker]:
        """Every worker that exists, as the provider lists it; no worker is probed and nothing recorded."""
        return await self.provider.list()

    def _wanted(self, gpus: int | None) -> FleetSpec:
        return self.spec if gpus is None else replace(self.spec, gpus=gpus)

    def _buyer(
        self, spec: FleetSpec, records: FleetRecords, on_progress: OnProgress = lambda _: None
    ) -> Buyer:
        return Buyer(
            self.provider, spec, self.limits, self.lock, self.clock, records, on_progress, waits=True
        )

    def _records(self) -> FleetRecords:
        return FleetRecords(self.registry, self.rentals, self.clock, self.spec.ban_for, self.marks)

    @asynccontextmanager
    async def _held_if_possible(self, records: FleetRecords) -> AsyncIterator[Sequence[Failure]]:
        """The lock, for as long as another command may take over its turn; ending must not wait for one that
        hangs. What is failing without it: another command may be buying just then."""
        alone: Sequence[Failure] = ()
        async with AsyncExitStack() as stack:
            try:
                here = max(self.patience.left, _STEP)
                lock = self.lock.hold(self.on_lock_wait, patience=_LOCK_PATIENCE, here=here)
                await stack.enter_async_context(lock)
            except StateError as error:
                self.patience.end()
                records.warn(f"workers are destroyed without the fleet's lock: {error.message}")
                if not await self.lock.fence_off() and self.rents:
                    alone = (_NOT_ALONE,)
            yield alone

    async def _end_unseen(
        self, ids: Sequence[str] | None, known: Registered, error: LlmhostError, records: FleetRecords
    ) -> DownResult:
        """Ends the workers named, or all that are known of, one by one, where the list cannot be read or not
        be believed."""
        destroyed: list[str] = []
        failures = [_unseen(error)]
        async for name in self._known_in_part(ids, known):
            try:
                await end_one(name, known.payers.get(name), self.provider, records)
                destroyed.append(name)
                await records.gone(name)
            except LlmhostError as failure:
                failures.append(Failure(name, failure.message, failure.hint))
        return DownResult(tuple(destroyed), (), self._hinted(failures), records.warnings)

    async def _known_in_part(self, ids: Sequence[str] | None, known: Registered) -> AsyncIterator[str]:
        """Those named; else those on record, and then what the provider shows although it is not the whole
        list: one more reading may take long."""
        names = set(known.ids if ids is None else ids)
        if ids is None:
            with suppress(StateError):
                names |= {*self.provider.on_record()}
        for name in sorted(names):
            yield name
        if ids is None:
            with suppress(LlmhostError):
                shown = (await self.provider.fleets()).get(self.spec.name, ())
                for worker in shown:
                    if worker.id not in names:
                        yield worker.id

    async def _end(
        self,
        targets: Sequence[Worker],
        known: Registered,
        records: FleetRecords,
        on_progress: OnProgress,
    ) -> DownResult:
        """Ends them all; the list, where it can be read, has the last word on what is gone."""
        failures = await terminate(targets, self.provider, records, on_progress)
        try:
            ended = {worker.id for worker in targets}
            others = known.without(ended)
            remaining = tuple(await list_all_workers(self.provider, others))
        except (ProviderError, StateError) as error:
            not_ended = {failure.worker for failure in failures}
            destroyed = tuple(worker.id for worker in targets if worker.id not in not_ended)
            return DownResult(destroyed, (), self._hinted([*failures, _unseen(error)]), records.warnings)
        existing = {worker.id for worker in remaining}
        await records.forget_gone(others, remaining)
        not_destroyed = {failure.worker for failure in failures}
        failures += tuple(
            Failure(worker_id, "its provider still lists it")
            for worker_id in sorted(ended & existing - not_destroyed)
        )
        destroyed = tuple(worker.id for worker in targets if worker.id not in existing | not_destroyed)
        return DownResult(destroyed, remaining, self._hinted(failures), records.warnings)

    def _hinted(self, failures: Iterable[Failure]) -> tuple[Failure, ...]:
        """What may still be paid for is never left without saying how to end it without llmhost."""
        return tuple(replace(failure, hint=self._or_by_hand(failure.hint)) for failure in failures)

    def _or_by_hand(self, hint: str | None) -> str | None:
        console = self.provider.console
        if not console or console in (hint or ""):
            return hint
        return f"{hint}; or end it by hand: {console}" if hint else f"end it by hand: {console}"
