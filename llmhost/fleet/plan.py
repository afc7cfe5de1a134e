"""What must be created and destroyed so that the fleet is what the operator wants. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from llmhost.errors import LimitError, UsageError
from llmhost.fleet.budget import Limits, Spent, check
from llmhost.fleet.models import FleetSpec, Market, Offer, Stay, Worker, WorkerState
from llmhost.fleet.offers import traffic_usd

__all__ = [
    "ApprovedSpend",
    "Funds",
    "Plan",
    "Quote",
    "check_size",
    "exceeds_drift",
    "hourly",
    "make_plan",
    "select",
]

_DESTROY_ORDER = {WorkerState.FAILED: 0, WorkerState.STARTING: 1, WorkerState.READY: 2}


@dataclass(frozen=True, slots=True)
class Plan:
    """`keep` is best first, `destroy` in the order in which it is to be done."""

    create: int
    keep: tuple[Worker, ...]
    destroy: tuple[Worker, ...]

    @property
    def changes(self) -> bool:
        return bool(self.create or self.destroy)


def make_plan(spec: FleetSpec, workers: Sequence[Worker], busy: Collection[str] = ()) -> Plan:
    """The steps from `workers` to `spec.gpus` healthy workers of the wanted model and engine.

    Failed workers and those with another model or engine are replaced. Where there are too many,
    ready ones are kept before starting ones, those `busy` with questions before idle ones, and older before
    newer. `gpus == 0` destroys all.

    Raises:
        LimitError: more is wanted than `max_gpus` allows.
        UsageError: fewer than none is wanted.
    """
    check_size(spec)
    existing = [worker for worker in workers if worker.state is not WorkerState.GONE]
    fit = sorted(
        (worker for worker in existing if _fits(spec, worker)), key=lambda worker: _merit(worker, busy)
    )
    keep = tuple(fit[: spec.gpus])
    kept = {worker.id for worker in keep}
    destroy = sorted((worker for worker in existing if worker.id not in kept), key=_destroy_order)
    return Plan(create=spec.gpus - len(keep), keep=keep, destroy=tuple(destroy))


def check_size(spec: FleetSpec) -> None:
    """Raises as `make_plan`."""
    if spec.gpus < 0:
        raise UsageError(f"a fleet cannot have {spec.gpus} workers", hint="ask for 1 or more")
    if spec.gpus > spec.max_gpus:
        raise LimitError(
            f"{spec.gpus} workers wanted, but fleet.max_gpus is {spec.max_gpus}:"
            f" {spec.gpus - spec.max_gpus} too many",
            hint=f"ask for at most {spec.max_gpus}, or raise fleet.max_gpus in the configuration",
        )


def _fits(spec: FleetSpec, worker: Worker) -> bool:
    return (
        worker.state is not WorkerState.FAILED and worker.model == spec.model and worker.engine == spec.engine
    )


def _merit(worker: Worker, busy: Collection[str]) -> tuple[bool, bool, float, str]:
    return (worker.state is not WorkerState.READY, worker.id not in busy, worker.started, worker.id)


def _destroy_order(worker: Worker) -> tuple[int, float, str]:
    return (_DESTROY_ORDER[worker.state], -worker.started, worker.id)


# What `up` would do and what that costs, before anything is done. Pure.


@dataclass(frozen=True, slots=True)
class Funds:
    """What may be spent, what was spent in the periods that count now, and what the account has left."""

    limits: Limits
    spent: Spent
    credit: float | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """The plan with its prices. `purchases` are the offers that would be bought, best first; fewer than
    `plan.create` where not enough fit. `now` is Unix seconds. `stay` says what each downloads.
    """

    plan: Plan
    purchases: tuple[Offer, ...]
    market: Market = field(default_factory=lambda: Market(()))
    funds: Funds = field(default_factory=lambda: Funds(Limits(), Spent()))
    now: float = 0.0
    stay: Stay = field(default_factory=Stay)

    @property
    def missing(self) -> int:
        """How many workers no offer fits."""
        return self.plan.create - len(self.purchases)

    @property
    def hourly_usd(self) -> float:
        """What the fleet costs an hour once everything is done."""
        return hourly(self.plan.keep) + sum(offer.price_per_hour for offer in self.purchases)

    @property
    def dearest(self) -> float:
        """USD an hour of the dearest purchase; 0 where nothing is bought."""
        return max((offer.price_per_hour for offer in self.purchases), default=0.0)

    def refusal(self) -> LimitError | None:
        """Why the budget does not allow all of it."""
        burn, traffic = hourly(self.plan.keep), 0.0
        for offer in self.purchases:
            traffic += traffic_usd(offer, self.stay)
            try:
                check(
                    self.funds.limits,
                    self.funds.spent,
                    burn,
                    offer.price_per_hour,
                    self.now,
                    self.funds.credit,
                    traffic,
                )
            except LimitError as error:
                return error
            burn += offer.price_per_hour
        return None


def hourly(workers: Iterable[Worker]) -> float:
    """USD an hour of all workers when they run. One that boots is billed less, but not for long."""
    return sum(worker.price_per_hour for worker in workers)


# What the operator agreed to buy. Without asking again, nothing much dearer is bought, and no more.


#: of a price that was shown: what may be paid without asking again
MAX_PRICE_DRIFT = 1.25


def exceeds_drift(price: float, agreed: float) -> bool:
    """Whether a worker costs so much more than was agreed to that it must be asked about again."""
    return price > agreed * MAX_PRICE_DRIFT


_HINT = "run `llmhost up` again to see what there is now"


class ApprovedSpend:
    """`purchases` are the offers that were shown. Prices are USD an hour."""

    def __init__(self, purchases: Sequence[Offer]) -> None:
        prices = [offer.price_per_hour for offer in purchases]
        self._count = len(prices)
        self._dearest = max(prices, default=0.0) * MAX_PRICE_DRIFT
        self._total = sum(prices) * MAX_PRICE_DRIFT
        self._taken: list[float] = []

    def check(self, price: float) -> None:
        """Raises LimitError where one more of this price was not agreed to."""
        if self._count <= 0:
            raise LimitError("more workers are to be bought now than you agreed to", hint=_HINT)
        ceiling = min(self._dearest, self._total)
        if price > ceiling:
            raise LimitError(
                f"the next offer costs ${price:.3f} an hour, and what you agreed to cost at most"
                f" ${ceiling / MAX_PRICE_DRIFT:.3f}",
                hint=_HINT,
            )

    def take(self, price: float) -> None:
        """One was bought."""
        self._count -= 1
        self._total -= price
        self._taken.append(price)

    def give_back(self, price: float) -> None:
        """One that was agreed to, or was there before, is gone: another one may take its place. What it was
        agreed to cost is not agreed to once more with each that fails."""
        self._count += 1
        if price in self._taken:
            self._taken.remove(price)
            self._total += price
        else:
            self._total += price * MAX_PRICE_DRIFT


# Selecting workers by name.


def select(listed: Sequence[Worker], ids: Iterable[str] | None) -> tuple[Worker, ...]:
    """The workers named, each once, or all. Raises UsageError for a name that none of them has."""
    if ids is None:
        return tuple(listed)
    known = {worker.id: worker for worker in listed}
    wanted = dict.fromkeys(ids)
    unknown = [worker_id for worker_id in wanted if worker_id not in known]
    if unknown:
        names = ", ".join(known) or "none"
        raise UsageError(
            f"no worker is called {', '.join(unknown)}; this fleet has: {names}",
            hint="see `llmhost status`",
        )
    return tuple(known[worker_id] for worker_id in wanted)
