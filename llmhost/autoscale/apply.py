"""Doing what the autoscaler decided, in the order that is safe: what is broken goes before others come.

Everything that is done is confirmed to be still ours to do: whoever lost the fleet's lock changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from llmhost.autoscale.checkup import Broken, Checkup
from llmhost.autoscale.models import ActionKind, ScaleAction, ScaleDecision
from llmhost.errors import LimitError, LlmhostError, NoOffer
from llmhost.fleet.clock import Clock
from llmhost.fleet.health import OnProgress
from llmhost.fleet.models import FleetSpec, Worker
from llmhost.fleet.plan import exceeds_drift
from llmhost.fleet.provider import Provider
from llmhost.fleet.provision import Buyer, terminate
from llmhost.fleet.registry import FleetRecords

__all__ = ["Drains", "ScaleExecutor"]

#: seconds; what has not drained until then is left to the next step, so that this one ends
_LINGER = 60.0
_POLL = 0.5  #: seconds; most answers take some seconds


class Drains(Protocol):
    """Which workers take no more questions. Every method raises StoreError."""

    async def drain(self, ids: Iterable[str]) -> None: ...

    async def revive(self, ids: Iterable[str]) -> None: ...

    async def in_flight(self, ids: Sequence[str]) -> Mapping[str, int]: ...


class ScaleExecutor:
    """Carries out one decision. The caller holds the fleet's lock."""

    def __init__(
        self,
        provider: Provider,
        spec: FleetSpec,
        *,
        buyer: Callable[[FleetSpec], Buyer],
        records: FleetRecords,
        drains: Drains,
        clock: Clock,
        confirm: Callable[[], Awaitable[None]],
        on_progress: OnProgress,
    ) -> None:
        """`buyer` makes one that buys for a fleet of this many; `confirm` raises when the lock was lost."""
        self._provider = provider
        self._spec = spec
        self._buyer = buyer
        self._on_progress = on_progress
        self._records = records
        self._drains = drains
        self._clock = clock
        self._confirm = confirm
        self.actions: list[ScaleAction] = []
        #: purchases that came to nothing
        self.failures = 0
        #: workers that were ended; whoever has such a name later is another one
        self.gone: set[str] = set()
        #: why the budget did not allow what the decision thought that it would
        self.refusal: LimitError | None = None
        #: USD an hour of the newest purchase
        self.price: float | None = None

    async def carry_out(self, decision: ScaleDecision, checkup: Checkup, drained: Collection[str]) -> None:
        """`drained` are workers that take no more questions and have none left.

        Raises:
            FleetBusy, ProviderError, StoreError: the lock was lost, or the fleet cannot be read or drained.
                What was done until then is in `actions`.
        """
        undone = await self._repair(checkup.broken)
        empty = [w for w in checkup.healthy if w.id in drained and w.id not in decision.revive]
        gone = await self._end("finish", empty, "its last answer is out")
        await self._revive(decision.revive)
        await self._buy(decision.buy - undone, [w for w in checkup.healthy if w.id not in gone])
        await self._drain([worker for worker in checkup.healthy if worker.id in decision.drain])

    async def _repair(self, broken: Sequence[Broken]) -> int:
        """How many of them are still there, and paid for, so that no other may take their place."""
        for one in broken:
            if one.machine_is_bad:
                await self._records.failed_on(one.worker.machine, one.reason)
            self.failures += one.never_answered
        reasons = {one.worker.id: one.reason for one in broken}
        busy = await self._drain_outdated([one.worker.id for one in broken if one.outdated])
        empty = [one.worker for one in broken if one.worker.id not in busy]
        ended = await self._end("repair", empty, reasons=reasons)
        return len(broken) - len(ended)

    async def _drain_outdated(self, ids: Sequence[str]) -> set[str]:
        """Those that still answer questions: a worker with another model is in nobody's way."""
        if not ids:
            return set()
        await self._confirm()
        await self._drains.drain(ids)
        in_flight = await self._drains.in_flight(ids)
        busy = [worker for worker in ids if in_flight.get(worker)]
        self.actions += [
            ScaleAction("drain", worker, "it serves another model, and takes no more questions", done=True)
            for worker in busy
        ]
        return set(busy)

    async def _revive(self, ids: Sequence[str]) -> None:
        if ids:
            await self._confirm()
            await self._drains.revive(ids)
            self.actions += [ScaleAction("revive", worker, "it is wanted again", done=True) for worker in ids]

    async def _buy(self, count: int, there: Sequence[Worker]) -> None:
        if count <= 0:
            return
        await self._confirm()
        buyer = self._buyer(replace(self._spec, gpus=len(there) + count))
        bought = await buyer.buy(count, there)
        for worker in bought.workers:
            self.price = worker.price_per_hour
            self.actions.append(ScaleAction("buy", worker.id, _price(worker), done=True))
        for error in bought.errors:
            self._failed_to_buy(error)
        if bought.workers and self._provider.rents:
            await self._refuse_surprises(bought.workers)

    def _failed_to_buy(self, error: LlmhostError) -> None:
        self.actions.append(ScaleAction("buy", None, error.message, done=False))
        if isinstance(error, LimitError):
            self.refusal = error
        elif not isinstance(error, NoOffer):  # which costs nothing, and may be over in a minute
            self.failures += 1

    async def _refuse_surprises(self, bought: Iterable[Worker]) -> None:
        """One that costs more than its offer said is given back at once."""
        agreed = {worker.id: worker.price_per_hour for worker in bought}
        dearer = [
            worker
            for worker in await self._provider.list()
            if exceeds_drift(worker.price_per_hour, agreed.get(worker.id, worker.price_per_hour))
        ]
        for worker in dearer:
            self.failures += 1
            await self._records.failed_on(worker.machine, "it cost more than its offer said")
        await self._end("repair", dearer, "it costs more than its offer said")

    async def _drain(self, workers: Sequence[Worker]) -> None:
        """No new questions; ended as soon as the last answer is out, the slow ones by the next step."""
        if not workers:
            return
        await self._confirm()
        await self._drains.drain([worker.id for worker in workers])
        self.actions += [
            ScaleAction("drain", worker.id, "it takes no more questions", done=True) for worker in workers
        ]
        end = self._clock.monotonic() + _LINGER
        left = list(workers)
        while left:
            busy = await self._drains.in_flight([worker.id for worker in left])
            await self._end("end", [w for w in left if not busy.get(w.id)], "its last answer is out")
            left = [worker for worker in left if busy.get(worker.id)]
            if self._clock.monotonic() >= end:
                return
            if left:
                await self._clock.sleep(_POLL)

    async def _end(
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
        await self._confirm()
        failures = await terminate(workers, self._provider, self._records, self._on_progress)
        undone = {failure.worker: failure.message for failure in failures}
        for worker in workers:
            why = (reasons or {}).get(worker.id, reason)
            detail = f"{why}; {undone[worker.id]}" if worker.id in undone else why
            self.actions.append(ScaleAction(kind, worker.id, detail, done=worker.id not in undone))
        gone = {worker.id for worker in workers} - set(undone)
        self.gone |= gone
        return gone


def _price(worker: Worker) -> str:
    gpu = f"{worker.gpu}, " if worker.gpu else ""
    price = f"${worker.price_per_hour:.3f}" if worker.price_per_hour else "$0"
    return f"{gpu}{price} an hour"
