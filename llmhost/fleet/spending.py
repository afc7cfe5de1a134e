"""What the workers have cost: the ledger's rentals, corrected by what the provider says it billed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from llmhost.fleet.budget import Spent, period_starts
from llmhost.fleet.models import Charge, Worker
from llmhost.ledger.cost import rental_cost, spent, spent_by_worker
from llmhost.ledger.rentals import Rental

__all__ = ["Spending", "bills_since", "spent_now", "tally"]

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
    listed: Sequence[Worker],
    now: float,
) -> Spending:
    """What was spent until `now`, Unix seconds. `charges` are the bills since `bills_since`.

    A bill of a worker's whole life goes first: it has what was not observed here. What it does not cover is
    added at the worker's present price. A worker of which there is neither rental nor bill costs its
    price since it was started.
    """
    known = {**_never_recorded(listed, now), **spent_by_worker(rentals, 0.0, now)}
    alive = {worker.id: worker for worker in listed}
    older = _started_before(bills_since(now), rentals, listed)
    billed = {
        charge.worker: charge.usd + _unbilled(charge, alive.get(charge.worker), rentals, now)
        for charge in charges
        if charge.worker not in older
    }
    by_worker = {**known, **billed}
    total = sum(by_worker.values())
    return Spending(by_worker, total, _at_most(spent_now(rentals, now), total))


def spent_now(rentals: Sequence[Rental], now: float) -> Spent:
    """What the rentals cost in the hour, the day and the month that `now` is in."""
    hour, day, month = (spent(rentals, start, now) for start in period_starts(now))
    return Spent(hour, day, month)


def bills_since(now: float) -> float:
    """From when on bills are needed, Unix seconds, also of what a lost ledger knows nothing of."""
    return now - _LONGEST_BILL


def _at_most(periods: Spent, total: float) -> Spent:
    """The ledger counts dear what it did not see; a part is never more than a whole that was billed."""
    most = max(0.0, total)
    return Spent(min(periods.hour, most), min(periods.day, most), min(periods.month, most))


def _started_before(time: float, rentals: Iterable[Rental], listed: Iterable[Worker]) -> set[str]:
    """Workers of whose life the bills since then are only a part."""
    return {rental.worker for rental in rentals if rental.started < time} | {
        worker.id for worker in listed if worker.started < time
    }


def _never_recorded(listed: Iterable[Worker], now: float) -> dict[str, float]:
    return {
        worker.id: rental_cost(Rental(worker.id, worker.price_per_hour, worker.started), 0.0, now)
        for worker in listed
    }


def _unbilled(charge: Charge, worker: Worker | None, rentals: Iterable[Rental], now: float) -> float:
    """What it cost since its bill ends. Of one that is gone, a bill that is not new is final: it knows better
    when the end was than who noticed it later."""
    if worker is not None:
        return max(0.0, now - charge.until) / 3600 * worker.burn
    if now - charge.until > _LATEST_BILL:
        return 0.0
    return spent((rental for rental in rentals if rental.worker == charge.worker), charge.until, now)
