"""One step of the autoscaler: read everything, decide, do it, write down why.

It changes nothing on what it could not read in full: a list that fails is no empty fleet, and a Redis that
is away is no quiet one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import Protocol

from llmhost.autoscale.apply import Drains, ScaleExecutor
from llmhost.autoscale.checkup import Checkup, SilenceLimits, probe_workers
from llmhost.autoscale.models import (
    FleetView,
    Metrics,
    Observed,
    ScaleAction,
    ScaleDecision,
    ScaledWorker,
    ScaleSpec,
    StepResult,
)
from llmhost.autoscale.policy import decide
from llmhost.autoscale.state import History, ScaleState, ScaleStateStore, StepRecord
from llmhost.engines.traffic import Traffic
from llmhost.errors import (
    FleetBusy,
    LimitError,
    LlmhostError,
    PartialError,
    StoreError,
    UnreachableError,
)
from llmhost.fleet.budget import Limits
from llmhost.fleet.clock import Clock
from llmhost.fleet.health import Hooks, OnProgress
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec, Worker, WorkerState
from llmhost.fleet.plan import Funds
from llmhost.fleet.provider import Provider, list_all_workers
from llmhost.fleet.provision import Buyer
from llmhost.fleet.registry import FleetRecords, FleetRegistry
from llmhost.ledger.ledger import learned_boot
from llmhost.ledger.rentals import RentalBook

__all__ = ["Boots", "Reader", "Reading", "Scaler", "TrafficBook"]


# Reading all that one decision of the autoscaler rests on, in full or not at all.


class TrafficBook(Drains, Protocol):
    """What the processes that ask have counted. Every method raises StoreError."""

    async def read(self, workers: Sequence[str]) -> Traffic: ...


class Boots(Protocol):
    """How long workers took to their first answer, seconds. Every method raises StoreError."""

    async def booted(self, worker: str, seconds: float) -> None: ...

    async def boot_times(self) -> Sequence[float]: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """`known` are the ids on record, `listed` what the provider lists."""

    known: frozenset[str]
    listed: Sequence[Worker]
    traffic: Traffic
    checkup: Checkup
    history: Metrics
    view: FleetView

    @property
    def now(self) -> float:
        """When it was read, Unix seconds by the clock of Redis, which all machines share."""
        return self.traffic.at

    @property
    def drained(self) -> frozenset[str]:
        """Healthy workers that take no more questions and have none left."""
        busy = {name for name, worker in self.traffic.workers.items() if worker.in_flight}
        there = {worker.id for worker in self.checkup.healthy}
        return (self.traffic.draining & there) - busy


class Reader:
    """Reads one fleet. It changes nothing."""

    def __init__(
        self,
        provider: Provider,
        spec: FleetSpec,
        *,
        hooks: Hooks,
        patience: SilenceLimits,
        registry: FleetRegistry,
        traffic: TrafficBook,
        boots: Boots,
    ) -> None:
        self._provider = provider
        self._spec = spec
        self._hooks = hooks
        self._patience = patience
        self._registry = registry
        self._traffic = traffic
        self._boots = boots

    async def read(self, memory: ScaleState, funds: Callable[[], Awaitable[Funds]]) -> Reading:
        """Asks provider, Redis and every worker. `funds` tells what may be spent.

        Raises:
            ProviderError, StoreError: not everything could be read, so nothing may be decided.
        """
        known = (await self._registry.workers()).ids
        listed = await list_all_workers(self._provider, known)
        traffic = await self._traffic.read([worker.id for worker in listed])
        checkup = await probe_workers(
            listed, memory.sights, traffic, spec=self._spec, hooks=self._hooks, patience=self._patience
        )
        view = FleetView(
            workers=tuple(_scaled(worker, traffic) for worker in checkup.healthy),
            lost=sum(one.worker.id not in traffic.draining for one in checkup.broken),
            price=self._expected_price(checkup.healthy, memory.price),
            funds=await funds(),
        )
        failed = [traffic.at for one in checkup.broken if one.never_answered]
        history = Metrics(traffic, learned_boot(await self._boots.boot_times()), (*memory.failures, *failed))
        return Reading(known, listed, traffic, checkup, history, view)

    def _expected_price(self, workers: Sequence[Worker], last: float | None) -> float:
        """USD an hour of one more: what the operator says, and on a market as the others, or the last one."""
        if not self._provider.rents:
            return self._spec.price_per_hour
        prices = [worker.price_per_hour for worker in workers]
        return fmean(prices) if prices else last or 0.0


def _scaled(worker: Worker, traffic: Traffic) -> ScaledWorker:
    counted = traffic.workers.get(worker.id)
    return ScaledWorker(
        worker.id,
        ready=worker.state is WorkerState.READY,
        price=worker.price_per_hour,
        started=worker.started,
        tokens_per_s=counted.tokens_per_s if counted else None,
        draining=worker.id in traffic.draining,
    )


#: seconds; a boot that was seen no closer than this is not learned from
_ROUGHEST = 1800.0


class Scaler:
    """Follows the demand with one fleet."""

    def __init__(
        self,
        provider: Provider,
        spec: FleetSpec,
        scale: ScaleSpec,
        *,
        hooks: Hooks,
        lock: FleetLock,
        clock: Clock,
        patience: SilenceLimits,
        limits: Limits,
        traffic: TrafficBook,
        memory: ScaleStateStore,
        boots: Boots,
        registry: FleetRegistry,
        rentals: RentalBook,
    ) -> None:
        self._provider = provider
        self._spec = spec
        self._scale = scale
        self._lock = lock
        self._clock = clock
        self._limits = limits
        self._traffic = traffic
        self._memory = memory
        self._boots = boots
        self._registry = registry
        self._rentals = rentals
        self._reader = Reader(
            provider,
            spec,
            hooks=hooks,
            patience=patience,
            registry=registry,
            traffic=traffic,
            boots=boots,
        )

    async def step(self, *, dry_run: bool = False, on_progress: OnProgress = lambda _: None) -> StepResult:
        """Makes one decision and carries it out; `dry_run` only makes it, and changes nothing.

        Raises nothing of ours: what stands in the way is in the result's `error`. Somebody else who is at it
        is no error.
        """
        try:
            if dry_run:
                return await self._plan()
            async with self._lock.hold(wait=False):
                return await self._act(on_progress)
        except FleetBusy as error:
            return StepResult(ScaleDecision("hold", 0, 0, error.message, Observed()))
        except LlmhostError as error:
            return await self._held(error, self._records())

    async def history(self, count: int) -> History:
        """The newest decisions, newest last. Raises StoreError."""
        return await self._memory.history(count)

    async def _plan(self) -> StepResult:
        records, memory = self._records(), await self._memory.recall()
        if memory.paused is not None:
            return await self._resting(memory.paused, records)
        reading = await self._reader.read(memory, self._buyer(self._spec, records).funds)
        decision = self._decide(reading)
        planned = () if _is_blind(decision) else tuple(_planned(decision, reading))
        return StepResult(decision, planned, records.warnings, _refusal(decision))

    async def _act(self, on_progress: OnProgress) -> StepResult:
        records, memory = self._records(), await self._memory.recall()
        for field in memory.damaged:
            records.warn(f"the autoscaler's memory in Redis was damaged: {field}")
        if memory.paused is not None:
            return await self._remembered(memory, await self._resting(memory.paused, records))
        try:
            await self._provider.resolve_pending()
            reading = await self._reader.read(memory, self._buyer(self._spec, records).funds)
        except LlmhostError as error:
            return await self._remembered(memory, await self._held(error, records))
        decision = self._decide(reading)
        if _is_blind(decision):
            result = StepResult(decision, (), records.warnings, _refusal(decision))
            return await self._remembered(memory, result)
        return await self._carry_out(decision, reading, memory, records, on_progress)

    def _decide(self, reading: Reading) -> ScaleDecision:
        return decide(self._scale, reading.history, reading.view, reading.now)

    async def _carry_out(
        self,
        decision: ScaleDecision,
        reading: Reading,
        memory: ScaleState,
        records: FleetRecords,
        on_progress: OnProgress,
    ) -> StepResult:
        resizing = ScaleExecutor(
            self._provider,
            self._spec,
            buyer=lambda spec: self._buyer(spec, records, on_progress),
            records=records,
            drains=self._traffic,
            clock=self._clock,
            confirm=self._lock.confirm,
            on_progress=on_progress,
        )
        stopped: LlmhostError | None = None
        try:
            await records.forget_gone(reading.known, reading.listed)
            await self._learn(reading, memory, records)
            await resizing.carry_out(decision, reading.checkup, reading.drained)
        except FleetBusy as error:
            stopped = PartialError(error.message, hint=error.hint)
        except LlmhostError as error:
            stopped = error
        why = stopped or _refusal(decision) or resizing.refusal or _unfinished(resizing.actions)
        learned = ScaleState(
            failures=(*memory.failures, *[reading.now] * resizing.failures),
            sights={id_: sight for id_, sight in reading.checkup.sights.items() if id_ not in resizing.gone},
            price=memory.price if resizing.price is None else resizing.price,
        )
        return await self._remembered(
            learned, StepResult(decision, tuple(resizing.actions), records.warnings, why)
        )

    async def _learn(self, reading: Reading, memory: ScaleState, records: FleetRecords) -> None:
        """Brings the records up to date, and how long a boot takes: a step sees it only some time later, so
        it is taken to have ended half-way between this step and the one before.
        """
        for worker in reading.checkup.healthy:
            await records.seen(worker)
        if not reading.checkup.first_answers:
            return
        past = await self._memory.history(1)
        for worker in reading.checkup.first_answers if past else ():
            looked = max(past[-1].at, worker.started)
            followed = worker.id in memory.sights or looked == worker.started
            if followed and 0 <= reading.now - looked <= _ROUGHEST:
                await self._boots.booted(worker.id, (looked + reading.now) / 2 - worker.started)

    async def _held(self, error: LlmhostError, records: FleetRecords) -> StepResult:
        # The records are in Redis: where that is what failed, they would only fail once more, with a warning.
        size = 0 if isinstance(error, StoreError) else len(await records.known())
        reason = f"nothing is changed, because not everything could be read: {error.message}"
        return StepResult(ScaleDecision("hold", size, size, reason, Observed()), (), records.warnings, error)

    async def _resting(self, since: float, records: FleetRecords) -> StepResult:
        size, when = len(await records.known()), datetime.fromtimestamp(min(since, self._clock.now()), UTC)
        reason = f"it rests since {when:%Y-%m-%d %H:%M} UTC: `llmhost down` was said, `llmhost up` wakes it"
        return StepResult(ScaleDecision("hold", size, size, reason, Observed()), (), records.warnings)

    async def _remembered(self, memory: ScaleState, result: StepResult) -> StepResult:
        decision = result.decision
        record = StepRecord(
            at=self._clock.now(),
            decision=decision.action,
            before=decision.before,
            after=decision.after,
            reason=decision.reason,
            observed=asdict(decision.observed),
            actions=tuple(asdict(action) for action in result.actions),
            blocked=decision.blocked.kind if decision.blocked else None,
        )
        if self._lock.fence is not None:
            await self._memory.remember(memory, record, self._lock.fence)
        return result

    def _buyer(
        self, spec: FleetSpec, records: FleetRecords, on_progress: OnProgress = lambda _: None
    ) -> Buyer:
        return Buyer(
            self._provider, spec, self._limits, self._clock, records, on_progress, confirm=self._lock.confirm
        )

    def _records(self) -> FleetRecords:
        return FleetRecords(self._registry, self._rentals, self._clock)


def _is_blind(decision: ScaleDecision) -> bool:
    return decision.blocked is not None and decision.blocked.kind == "metrics"


def _planned(decision: ScaleDecision, reading: Reading) -> Iterator[ScaleAction]:
    for one in reading.checkup.broken:
        yield ScaleAction("repair", one.worker.id, one.reason, done=False)
    for worker in sorted(reading.drained - set(decision.revive)):
        yield ScaleAction("finish", worker, "its last answer is out", done=False)
    for worker in decision.revive:
        yield ScaleAction("revive", worker, "it is wanted again", done=False)
    for _ in range(decision.buy):
        yield ScaleAction("buy", None, "one more worker", done=False)
    for worker in decision.drain:
        yield ScaleAction("drain", worker, "it takes no more questions", done=False)


def _refusal(decision: ScaleDecision) -> LlmhostError | None:
    """What the decision could not do, as an error with its exit code."""
    blocked = decision.blocked
    if blocked is None:
        return None
    kind = UnreachableError if blocked.kind == "metrics" else LimitError
    return kind(blocked.message, hint=blocked.hint)


def _unfinished(actions: Sequence[ScaleAction]) -> LlmhostError | None:
    failed = [action for action in actions if not action.done]
    if not failed:
        return None
    told = dict.fromkeys(f"{action.kind} {action.worker or 'a worker'}: {action.detail}" for action in failed)
    return PartialError("; ".join(told), hint="the next step tries again; `llmhost status` shows the workers")
