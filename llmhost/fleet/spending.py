"""What the workers have cost: the ledger's rentals, corrected by what the provider says it billed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from llmhost.fleet.budget import Spent, period_starts
from llmhost.fleet.models import Worker
from llmhost.ledger.cost import corrected, spent, spent_by_worker
from llmhost.ledger.rentals import Charge, Rental

__all__ = ["Reconciled", "Spending", "bills_since", "of_whole_lives", "reconcile", "spent_now", "tally"]

#: seconds; a month of bills is a few pages, and what is older was settled long ago
_LONGEST_BILL = 31 * 86400.0

#: seconds; what happened so long ago is on the bill
_LATEST_BILL = 3600.0


@dataclass(frozen=True, slots=True)
class Spending:
    """USD: each worker over its whole life, all workers ever, and those of the current periods."""

    by_worker: Mapping[str, float] = field(default_factory=dict)
    total: float = 0.0
    periods: Spent = field(default_factory=Spent)


def tally(
    rentals: Sequence[Rental],
    charges: Iterable[Charge],
    listed: Sequence[Worker] | None,
    now: float,
) -> Spending:
    """What was spent until `now`, Unix seconds. `charges` are the bills since `bills_since`; `listed` is None
    where the provider was not asked which workers it has: then those run that the rentals say.

    A bill of a worker's whole life goes first: it has what was not observed here. What it does not cover is
    added at the worker's present price. A worker of which there is neither rental nor bill costs its
    price since it was started.
    """
    alive = {worker.id: worker for worker in listed or ()}
    running = {rental.worker for rental in rentals if rental.ended is None} if listed is None else set(alive)
    whole = of_whole_lives(charges, rentals, listed or (), now)
    billed = {
        charge.worker: charge.usd + _unbilled(charge, alive.get(charge.worker), running, rentals, now)
        for charge in whole
    }
    known = [*rentals, *_never_recorded(alive.values(), rentals)]
    recorded = spent_by_worker(known, 0.0, now)
    by_worker = {**recorded, **billed}
    # At which price does not matter: it is corrected to what was billed.
    known += [Rental(one.worker, 1.0, one.since, one.until) for one in whole if one.worker not in recorded]
    periods = spent_now(corrected(known, by_worker, now), now)
    return Spending(by_worker, sum(by_worker.values()), periods)


def of_whole_lives(
    charges: Iterable[Charge], rentals: Iterable[Rental], listed: Iterable[Worker], now: float
) -> Sequence[Charge]:
    """The bills without those of workers that are older than the bills, and of whose life they are a part."""
    since = bills_since(now)
    older = {rental.worker for rental in rentals if rental.started < since}
    older |= {worker.id for worker in listed if worker.started < since}
    return [charge for charge in charges if charge.worker not in older]


def spent_now(rentals: Sequence[Rental], now: float) -> Spent:
    """What the rentals cost in the hour, the day and the month that `now` is in."""
    hour, day, month = (spent(rentals, start, now) for start in period_starts(now))
    return Spent(hour, day, month)


def bills_since(now: float) -> float:
    """From when on bills are needed, Unix seconds, also of what a lost ledger knows nothing of."""
    return now - _LONGEST_BILL


def _never_recorded(listed: Iterable[Worker], rentals: Iterable[Rental]) -> Sequence[Rental]:
    known = {rental.worker for rental in rentals}
    return [
        Rental(worker.id, worker.price_per_hour, worker.started)
        for worker in listed
        if worker.id not in known
    ]


def _unbilled(
    charge: Charge, worker: Worker | None, running: Collection[str], rentals: Iterable[Rental], now: float
) -> float:
    """What it cost since its bill ends. Of one that is gone, a bill that is not new is final: it knows better
    when the end was than who noticed it later."""
    if worker is not None:
        return max(0.0, now - charge.until) / 3600 * worker.burn
    if charge.worker not in running and now - charge.until > _LATEST_BILL:
        return 0.0
    return spent((rental for rental in rentals if rental.worker == charge.worker), charge.until, now)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One worker on the books and on the bill, USD. `causes` names the parts of the difference: they add
    up to it. `billed_usd` is None where there is no bill of its whole life, and nothing is compared."""

    worker: str
    ledger_usd: float
    billed_usd: float | None
    difference_usd: float | None
    causes: Mapping[str, float]


def reconcile(rentals: Sequence[Rental], charges: Iterable[Charge], now: float) -> Sequence[Reconciled]:
    """What was recorded against the bills that were just read, by worker, the largest difference first.

    The record has an hour's price, disk included, by the second, and the traffic that was expected; a bill
    has the traffic that there was, and says until when it goes.
    """
    bills = {charge.worker: charge for charge in of_whole_lives(charges, rentals, (), now)}
    recorded = spent_by_worker(rentals, 0.0, now)
    rows = []
    for worker in {*recorded, *bills}:
        own, bill = [one for one in rentals if one.worker == worker], bills.get(worker)
        total = recorded.get(worker, 0.0)
        if bill is None:
            rows.append(Reconciled(worker, total, None, None, {}))
            continue
        causes = _causes(own, bill, now)
        rows.append(Reconciled(worker, total, bill.usd, bill.usd - total, causes))
    return sorted(rows, key=lambda row: (row.billed_usd is None, -abs(row.difference_usd or 0.0), row.worker))


def _causes(rentals: Sequence[Rental], bill: Charge, now: float) -> dict[str, float]:
    if not rentals:
        return {"not on record": bill.usd}
    expected = sum(rental.once for rental in rentals)
    until = min(bill.until, now)
    unbilled = spent(rentals, until, now) if until > min(rental.started for rental in rentals) else 0.0
    timed = spent(rentals, 0.0, now) - expected - unbilled
    return {
        "time and price": bill.usd - bill.traffic - timed,
        "traffic": bill.traffic - expected,
        "not billed yet": -unbilled,
    }
