"""What `up` would do and what that costs, before anything is done. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from llmhost.errors import LimitError
from llmhost.fleet.budget import Limits, Spent, check
from llmhost.fleet.models import Offer, Worker
from llmhost.fleet.plan import Plan

__all__ = ["Funds", "Quote", "hourly"]


@dataclass(frozen=True, slots=True)
class Funds:
    """What may be spent, what was spent in the periods that count now, and what the account has left."""

    limits: Limits
    spent: Spent
    credit: float | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """The plan with its prices. `purchases` are the offers that would be bought, best first; fewer than
    `plan.create` where not enough fit, and `rejected` says why others do not. `now` is Unix seconds.
    """

    plan: Plan
    purchases: tuple[Offer, ...]
    rejected: Mapping[str, int] = field(default_factory=dict)
    funds: Funds = field(default_factory=lambda: Funds(Limits(), Spent()))
    now: float = 0.0

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
        burn = hourly(self.plan.keep)
        for offer in self.purchases:
            try:
                check(
                    self.funds.limits,
                    self.funds.spent,
                    burn,
                    offer.price_per_hour,
                    self.now,
                    self.funds.credit,
                )
            except LimitError as error:
                return error
            burn += offer.price_per_hour
        return None


def hourly(workers: Iterable[Worker]) -> float:
    """USD an hour of all workers when they run. One that boots is billed less, but not for long."""
    return sum(worker.price_per_hour for worker in workers)
