"""What answers and workers cost. Pure; money in USD, times in Unix seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from llmhost.ledger.rentals import Rental

__all__ = [
    "Money",
    "answer_cost",
    "corrected",
    "cost_reduction",
    "hours_of",
    "hours_without_cache",
    "money",
    "rental_cost",
    "spent",
    "spent_by_worker",
]

_HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class Money:
    """`spent_usd` is the workers' rent, used or idle. `baseline_usd` is what the same answers would have
    cost without the cache: the rent plus the engine time that hits did not need. `savings_ratio` is the
    part of that baseline which was saved. None where nothing was asked, or nothing cost anything.
    """

    spent_usd: float
    per_query_usd: float | None
    saved_usd: float
    baseline_usd: float
    savings_ratio: float | None


def answer_cost(engine_seconds: float, price_per_hour: float, parallel: int) -> float:
    """One answer's share of its worker's rent. A worker that serves `parallel` requests at once splits
    its price among them, so that what a hit saves is never counted too high.
    """
    return engine_seconds * price_per_hour / _HOUR / parallel


def rental_cost(rental: Rental, since: float, now: float) -> float:
    """What a worker cost between `since` and `now`."""
    once = rental.once if rental.started >= since else 0.0
    return hours_of([rental], since, now) * rental.price_per_hour + once


def hours_of(rentals: Iterable[Rental], since: float, now: float) -> float:
    """For how many hours between `since` and `now` workers were paid for, all together."""
    ends = ((rental, now if rental.ended is None else min(rental.ended, now)) for rental in rentals)
    return sum(max(0.0, ended - max(rental.started, since)) / _HOUR for rental, ended in ends)


def spent(rentals: Iterable[Rental], since: float, now: float) -> float:
    """What all workers cost between `since` and `now`."""
    return sum(rental_cost(rental, since, now) for rental in rentals)


def spent_by_worker(rentals: Iterable[Rental], since: float, now: float) -> Mapping[str, float]:
    """What each worker cost between `since` and `now`, all its prices together."""
    sums: dict[str, float] = {}
    for rental in rentals:
        sums[rental.worker] = sums.get(rental.worker, 0.0) + rental_cost(rental, since, now)
    return sums


def corrected(rentals: Iterable[Rental], by_worker: Mapping[str, float], now: float) -> Sequence[Rental]:
    """The rentals at other prices, at which each worker has cost so much until `now`, in all."""
    rentals = list(rentals)
    factors = {
        worker: max(0.0, by_worker[worker]) / cost
        for worker, cost in spent_by_worker(rentals, 0.0, now).items()
        if cost > 0 and worker in by_worker
    }
    return [
        replace(rental, price_per_hour=rental.price_per_hour * factor, once=rental.once * factor)
        for rental in rentals
        for factor in [factors.get(rental.worker, 1.0)]
    ]


def hours_without_cache(hours: float, spent_usd: float, saved_usd: float) -> float:
    """``hours * (spent + saved) / spent``: for how many hours workers would have been needed without hits."""
    return hours * (spent_usd + saved_usd) / spent_usd if spent_usd > 0 else 0.0


def cost_reduction(spent_usd: float, saved_usd: float, hours: float, usd_per_hour: float) -> float | None:
    """``1 - spent / (hours without the cache * price)``: the part that is saved of what the same answers
    would have cost on GPUs at this price, without a cache. None where nothing was spent.
    """
    other = hours_without_cache(hours, spent_usd, saved_usd) * usd_per_hour
    return 1 - spent_usd / other if other > 0 else None


def money(spent_usd: float, saved_usd: float, answered: int) -> Money:
    """The sums that `stats` shows; `answered` is how many questions got an answer."""
    baseline = spent_usd + saved_usd
    return Money(
        spent_usd=spent_usd,
        per_query_usd=spent_usd / answered if answered else None,
        saved_usd=saved_usd,
        baseline_usd=baseline,
        savings_ratio=saved_usd / baseline if baseline > 0 else None,
    )
