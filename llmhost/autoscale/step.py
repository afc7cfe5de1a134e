"""One step of the autoscaler: read everything, decide, apply, record why.

It changes nothing where it could not read the fleet in full: a list that fails is not an empty fleet, and a
Redis that is away is not a quiet one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from datetime import UTC, datetime
from statistics import fmean
from typing import Protocol

from llmhost.autoscale.apply import Drains, ScaleExecutor, planned_actions
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
    count,
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
from llmhost.fleet.buyer import Buyer
from llmhost.fleet.clock import Clock
from llmhost.fleet.doubts import settle
from llmhost.fleet.health import Hooks, OnProgress
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec, Registered, Worker, WorkerState
from llmhost.fleet.provider import Provider, list_to_buy, resolve_pending
from llmhost.fleet.registry import FleetRecords, FleetRegistry
from llmhost.ledger.ledger import learned_boot
from llmhost.ledger.rentals import RentalBook

__all__ = ["Boots", "FleetSnapshot", "Scaler", "TrafficBook"]

#: seconds between two looks at a worker; where more passed, when its boot ended is not known well enough
_LONGEST_GAP = 1800.0


class TrafficBook(Drains, Protocol):
    """What the processes that ask have counted. Every method raises StoreError."""

    async def read(self, workers: Sequence[str]) -> Traffic: ...


class Boots(Protocol):
    """How long workers took to their first answer, seconds. Every method raises StoreError."""

    async def booted(self, worker: str, seconds: float) -> None: ...

    async def boot_times(self) -> Sequence[float]: ...


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """All that one decision rests on. `known` is what is on record, `listed` what the provider lists."""

    known: Registered
    listed: Sequence[Worker]
    traffic: Traffic
    checkup: Checkup
    metrics: Metrics
    view: FleetView

    @property
    def now(self) -> float:
        """When it was read, Unix seconds by the clock of Redis, which all machines share."""
        return self.traffic.at

    @property
    def drained(self) -> frozenset[str]:
        """Healthy workers that are draining and have no question left."""
        busy = {name for name, worker in self.traffic.workers.items() if worker.in_flight}
        healthy = {worker.id for worker in self.checkup.healthy}
        return (self.traffic.draining & healthy) - busy


@dataclass(frozen=True, slots=True)
class Scaler:
    """Follows the demand with one fleet."""

    provider: Provider
    spec: FleetSpec
    scale: ScaleSpec
    _: KW_ONLY
    hooks: Hooks
    lock: FleetLock
    clock: Clock
    silence: SilenceLimits
    limits: Limits
    traffic: TrafficBook
    store: ScaleStateStore
    boots: Boots
    registry: FleetRegistry
    rentals: RentalBook

    async def step(self, *, dry_run: bool = False, on_progress: OnProgress = lambda _: None) -> StepResult:
        """Makes one decision and applies it; `dry_run` only decides, and changes nothing.

        Raises nothing of ours: what failed is in the result's `error`. Another command that changes this
        fleet meanwhile is no error.
        """
        records = FleetRecords(self.registry, self.rentals, self.clock, self.spec.ban_for)
        buyer = Buyer(self.provider, self.spec, self.limits, self.lock, self.clock, records, on_progress)
        try:
            if dry_run:
                result, _ = await self._run(await self.store.load(), buyer, dry_run=True)
                return result
            async with self.lock.hold(wait=False):
                state = await self.store.load()
                for field in state.damaged:
                    records.warn(f"the autoscaler's state in Redis was damaged: {field}")
                result, state = await self._run(state, buyer, dry_run=False)
                return await self._saved(state, result)
        except FleetBusy as error:
            return StepResult(ScaleDecision("hold", 0, 0, error.message, Observed()))
        except LlmhostError as error:
            return await self._unreadable(error, records)

    async def history(self, count: int) -> History:
        """The newest steps, newest last. Raises StoreError."""
        return await self.store.history(count)

    async def paused(self) -> str | None:
        """Since when it only keeps to the budget, and why; None where it is not paused. Raises StoreError."""
        pauses = await self.registry.pauses.read()
        return self._pause(min(pauses.values())) if pauses else None

    async def _run(self, state: ScaleState, buyer: Buyer, *, dry_run: bool) -> tuple[StepResult, ScaleState]:
        """The result, and the state after it."""
        records = buyer.records
        try:
            pause = await self.paused()
            if not dry_run:
                await resolve_pending(self.provider, await self._known())
            snapshot = await self.take_snapshot(state, buyer)
        except LlmhostError as error:
            return await self._unreadable(error, records), state
        decision = decide(self.scale, snapshot.metrics, snapshot.view, snapshot.now, pause)
        still_paid = _still_paid(pause, snapshot) if pause else None
        invalid = decision.blocked is not None and decision.blocked.kind == "metrics"
        if dry_run or invalid:
            planned = () if invalid else planned_actions(decision, snapshot.checkup, snapshot.drained)
            missing = _refusal(decision) or still_paid
            return StepResult(decision, tuple(planned), records.warnings, missing, pause), state
        result, state = await self._apply(decision, snapshot, state, buyer)
        return replace(result, error=result.error or still_paid, pause=pause), state

    async def take_snapshot(self, state: ScaleState, buyer: Buyer) -> FleetSnapshot:
        """Asks provider, Redis and every worker, and changes nothing.

        Raises:
            ProviderError, StoreError: not everything could be read, so nothing may be decided.
        """
        known = await self._known()
        listed = await list_to_buy(self.provider, known)
        traffic = await self.traffic.read([worker.id for worker in listed])
        checkup = await probe_workers(
            listed,
            state.observations,
            traffic,
            spec=self.spec,
            hooks=self.hooks,
            silence=self.silence,
            agreed={worker.id: worker.price_per_hour for worker in known.workers if self.provider.rents},
        )
        view = FleetView(
            workers=tuple(_scaled(worker, traffic) for worker in checkup.healthy),
            lost=sum(one.worker.id not in traffic.draining for one in (*checkup.broken, *checkup.spared)),
            price=self._expected_price(checkup.healthy, state.price),
            funds=await buyer.funds(),
            traffic=await self._expected_traffic(buyer.records),
        )
        failed = [traffic.at for one in checkup.broken if one.failed_purchase]
        boot = learned_boot(await self.boots.boot_times())
        metrics = Metrics(traffic, boot, (*state.failures, *failed))
        return FleetSnapshot(known, listed, traffic, checkup, metrics, view)

    async def _known(self) -> Registered:
        return await self.registry.known(self.clock.now())

    def _expected_price(self, workers: Sequence[Worker], last: float | None) -> float:
        """USD an hour of one more: as configured, and on a market that of the others, or the last one's."""
        if not self.provider.rents:
            return self.spec.price_per_hour
        prices = [worker.price_per_hour for worker in workers]
        return fmean(prices) if prices else last or 0.0

    async def _expected_traffic(self, records: FleetRecords) -> float:
        """USD of what one more downloads: as much as for the last one that was bought."""
        if not (self.provider.rents and self.limits.any):
            return 0.0
        paid = [rental for rental in await records.rentals() if rental.once]
        return max(paid, key=lambda rental: rental.started).once if paid else 0.0

    async def _apply(
        self, decision: ScaleDecision, snapshot: FleetSnapshot, state: ScaleState, buyer: Buyer
    ) -> tuple[StepResult, ScaleState]:
        executor, records = ScaleExecutor(buyer, self.traffic), buyer.records
        stopped: LlmhostError | None = None
        try:
            await records.forget_gone(snapshot.known, snapshot.listed)
            await settle(self.provider, records)
            await self._learn(snapshot, state, records)
            await executor.apply(decision, snapshot.checkup, snapshot.drained)
        except FleetBusy as error:
            stopped = PartialError(error.message, hint=error.hint)
        except LlmhostError as error:
            stopped = error
        failure = stopped or _refusal(decision) or executor.refusal or _unfinished(executor.actions)
        observations = snapshot.checkup.observations.items()
        learned = ScaleState(
            failures=(*state.failures, *[snapshot.now] * executor.failures),
            observations={worker: seen for worker, seen in observations if worker not in executor.gone},
            price=state.price if executor.price is None else executor.price,
        )
        return StepResult(decision, tuple(executor.actions), records.warnings, failure), learned

    async def _learn(self, snapshot: FleetSnapshot, state: ScaleState, records: FleetRecords) -> None:
        """Updates the records, and how long a boot takes: a step sees its end only some time later, so it is
        taken to have ended half-way between this step and the one before.
        """
        for worker in snapshot.checkup.healthy:
            await records.seen(worker)
        if not snapshot.checkup.first_answers:
            return
        past = await self.store.history(1)
        for worker in snapshot.checkup.first_answers if past else ():
            looked = max(past[-1].at, worker.started)
            followed = worker.id in state.observations or looked == worker.started
            if followed and 0 <= snapshot.now - looked <= _LONGEST_GAP:
                await self.boots.booted(worker.id, (looked + snapshot.now) / 2 - worker.started)

    async def _unreadable(self, error: LlmhostError, records: FleetRecords) -> StepResult:
        # The records are in Redis: where that is what failed, they would only fail once more, with a warning.
        size = 0 if isinstance(error, StoreError) else len((await records.known()).ids)
        reason = f"no change, because the fleet could not be read in full: {error.message}"
        return StepResult(ScaleDecision("hold", size, size, reason, Observed()), (), records.warnings, error)

    def _pause(self, since: float) -> str:
        """The reason of a step that only keeps to the budget. A pause in the future began by a clock that has
        gone back since."""
        when = datetime.fromtimestamp(min(since, self.clock.now()), UTC)
        return f"paused since {when:%Y-%m-%d %H:%M} UTC by `llmhost down`; `llmhost up` resumes"

    async def _saved(self, state: ScaleState, result: StepResult) -> StepResult:
        """The result, which says so where it could not be saved: what was done was done all the same."""
        decision = result.decision
        record = StepRecord(
            at=self.clock.now(),
            decision=decision.action,
            before=decision.before,
            after=decision.after,
            reason=decision.reason,
            observed=asdict(decision.observed),
            actions=tuple(asdict(action) for action in result.actions),
            blocked=decision.blocked.kind if decision.blocked else None,
        )
        try:
            if self.lock.fence is not None:
                await self.store.save(state, record, self.lock.fence)
        except StoreError as error:
            return replace(result, error=result.error or error)
        return result


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


def _refusal(decision: ScaleDecision) -> LlmhostError | None:
    """Why the decision is not all that was wanted, as an error with its exit code."""
    blocked = decision.blocked
    if blocked is None:
        return None
    kind = UnreachableError if blocked.kind == "metrics" else LimitError
    return kind(blocked.message, hint=blocked.hint)


def _still_paid(pause: str, snapshot: FleetSnapshot) -> LlmhostError | None:
    """An error where workers of a paused fleet exist: its `llmhost down` did not end all of them."""
    if not snapshot.listed:
        return None
    cost = sum(worker.rate for worker in snapshot.listed)
    message = f"{count(len(snapshot.listed))} still listed, ${cost:.2f}/h, and autoscaling is {pause}"
    return PartialError(message, hint="`llmhost down` destroys them, `llmhost up` resumes autoscaling")


def _unfinished(actions: Sequence[ScaleAction]) -> LlmhostError | None:
    failed = [action for action in actions if not action.done]
    if not failed:
        return None
    why = dict.fromkeys(f"{action.kind} {action.worker or 'a worker'}: {action.detail}" for action in failed)
    return PartialError("; ".join(why), hint="the next step tries again; `llmhost status` shows the workers")
