"""Applying what the autoscaler decided, in the safe order: broken workers go before others come.

Each change is confirmed to be still ours to make: a command that lost the fleet's lock changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from llmhost.autoscale.checkup import DEARER, BrokenWorker, Checkup
from llmhost.autoscale.models import ActionKind, ScaleAction, ScaleDecision
from llmhost.errors import LimitError, NoOffer
from llmhost.fleet.buyer import Buyer
from llmhost.fleet.ending import terminate
from llmhost.fleet.models import Worker
from llmhost.fleet.plan import exceeds_drift

__all__ = ["Drains", "ScaleExecutor", "planned_actions"]

#: seconds; what has not drained until then is left to the next step, so that this one ends
_LINGER = 60.0
_POLL = 0.5  #: seconds; most answers take some seconds

_EMPTY, _NEEDED, _NO_MORE = "last answer finished", "needed again", "gets no more questions"


class Drains(Protocol):
    """Which workers get no more questions. Every method raises StoreError."""

    async def drain(self, ids: Iterable[str]) -> None: ...

    async def revive(self, ids: Iterable[str]) -> None: ...

    async def in_flight(self, ids: Sequence[str]) -> Mapping[str, int]: ...


def planned_actions(
    decision: ScaleDecision, checkup: Checkup, drained: Collection[str]
) -> Iterator[ScaleAction]:
    """What `ScaleExecutor.apply` would do, for a dry run."""
    for one in checkup.broken:
        yield ScaleAction("repair", one.worker.id, one.reason, done=False)
    for worker in sorted(set(drained) - set(decision.revive)):
        yield ScaleAction("finish", worker, _EMPTY, done=False)
    for worker in decision.revive:
        yield ScaleAction("revive", worker, _NEEDED, done=False)
    for _ in range(decision.buy):
        yield ScaleAction("buy", None, "one more worker", done=False)
    for worker in decision.drain:
        yield ScaleAction("drain", worker, _NO_MORE, done=False)


@dataclass(slots=True)
class ScaleExecutor:
    """Applies one decision. The caller holds the fleet's lock.

    All but `buyer` and `drains` is the outcome: `failures` counts purchases that failed, `gone` are workers
    that were destroyed, `price` is USD an hour of the newest purchase, `refusal` why the budget allowed less
    than the decision.
    """

    buyer: Buyer
    drains: Drains
    actions: list[ScaleAction] = field(default_factory=list, init=False)
    failures: int = field(default=0, init=False)
    gone: set[str] = field(default_factory=set, init=False)
    refusal: LimitError | None = field(default=None, init=False)
    price: float | None = field(default=None, init=False)

    async def apply(self, decision: ScaleDecision, checkup: Checkup, drained: Collection[str]) -> None:
        """`drained` are draining workers that have no question left.

        Raises:
            FleetBusy, ProviderError, StoreError: the lock was lost, or the fleet cannot be read or drained.
                What was done until then is in `actions`.
        """
        remaining = [*(one.worker for one in checkup.spared), *await self._repair(checkup.broken)]
        empty = [w for w in checkup.healthy if w.id in drained and w.id not in decision.revive]
        gone = await self._destroy("finish", empty, _EMPTY)
        if decision.revive:
            await self.buyer.lock.confirm()
            await self.drains.revive(decision.revive)
            self._done("revive", decision.revive, _NEEDED)
        present = [*(w for w in checkup.healthy if w.id not in gone), *remaining]
        await self._buy(decision.buy - len(remaining), present)
        await self._drain([worker for worker in checkup.healthy if worker.id in decision.drain])

    async def _repair(self, broken: Sequence[BrokenWorker]) -> Sequence[Worker]:
        """Those of them that remain, and are paid for, so that no other may take their place."""
        for one in broken:
            if not one.outdated:
                await self.buyer.records.failed_on(one.worker, one.reason)
            self.failures += one.failed_purchase
        outdated = [one.worker.id for one in broken if one.outdated]
        busy: set[str] = set()
        if outdated:  # a worker with another model may finish its answers
            await self.buyer.lock.confirm()
            await self.drains.drain(outdated)
            in_flight = await self.drains.in_flight(outdated)
            busy = {worker for worker in outdated if in_flight.get(worker)}
            self._done("drain", filter(busy.__contains__, outdated), f"serves another model, {_NO_MORE}")
        reasons = {one.worker.id: one.reason for one in broken}
        empty = [one.worker for one in broken if one.worker.id not in busy]
        gone = await self._destroy("repair", empty, reasons=reasons)
        return [one.worker for one in broken if one.worker.id not in gone]

    async def _buy(self, count: int, present: Sequence[Worker]) -> None:
        if count <= 0:
            return
        await self.buyer.lock.confirm()
        spec = replace(self.buyer.spec, gpus=len(present) + count)
        bought = await replace(self.buyer, spec=spec).buy(count, present)
        for worker in bought.workers:
            self.price = worker.price_per_hour
            self._done("buy", [worker.id], _price(worker))
        for error in bought.errors:
            self.actions.append(ScaleAction("buy", None, error.message, done=False))
            if isinstance(error, LimitError):
                self.refusal = error
            elif not isinstance(error, NoOffer):  # which costs nothing, and may be over in a minute
                self.failures += 1
        if bought.workers and self.buyer.provider.rents:
            await self._give_back_dearer(bought.workers)

    async def _give_back_dearer(self, bought: Iterable[Worker]) -> None:
        """One that costs more than its offer said is destroyed at once, and by the next step where the list
        cannot be read now."""
        agreed = {worker.id: worker.price_per_hour for worker in bought}
        dearer = [
            worker
            for worker in await self.buyer.provider.list()
            if exceeds_drift(worker.price_per_hour, agreed.get(worker.id, worker.price_per_hour))
        ]
        for worker in dearer:
            self.failures += 1
            await self.buyer.records.failed_on(worker, DEARER)
        await self._destroy("repair", dearer, DEARER)

    async def _drain(self, workers: Sequence[Worker]) -> None:
        """No new questions; destroyed after the last answer, the slow ones by the next step."""
        if not workers:
            return
        await self.buyer.lock.confirm()
        await self.drains.drain([worker.id for worker in workers])
        self._done("drain", [worker.id for worker in workers], _NO_MORE)
        deadline = self.buyer.clock.monotonic() + _LINGER
        remaining = list(workers)
        while remaining:
            busy = await self.drains.in_flight([worker.id for worker in remaining])
            await self._destroy("end", [w for w in remaining if not busy.get(w.id)], _EMPTY)
            remaining = [worker for worker in remaining if busy.get(worker.id)]
            if self.buyer.clock.monotonic() >= deadline:
                return
            if remaining:
                await self.buyer.clock.sleep(_POLL)

    async def _destroy(
        self,
        kind: ActionKind,
        workers: Sequence[Worker],
        reason: str = "",
        *,
        reasons: Mapping[str, str] | None = None,
    ) -> set[str]:
        """Those that are gone."""
        if not workers:
            return set()
        await self.buyer.lock.confirm()
        failures = await terminate(workers, self.buyer.provider, self.buyer.records, self.buyer.on_progress)
        not_destroyed = {failure.worker: failure.message for failure in failures}
        for worker in workers:
            why = (reasons or {}).get(worker.id, reason)
            detail = f"{why}; {not_destroyed[worker.id]}" if worker.id in not_destroyed else why
            self.actions.append(ScaleAction(kind, worker.id, detail, done=worker.id not in not_destroyed))
        gone = {worker.id for worker in workers} - set(not_destroyed)
        self.gone |= gone
        return gone

    def _done(self, kind: ActionKind, workers: Iterable[str], detail: str) -> None:
        self.actions += [ScaleAction(kind, worker, detail, done=True) for worker in workers]


def _price(worker: Worker) -> str:
    gpu = f"{worker.gpu}, " if worker.gpu else ""
    price = f"${worker.price_per_hour:.3f}" if worker.price_per_hour else "$0"
    return f"{gpu}{price}/h"
