"""What `up` would do and what it costs, for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.cli.output import table
from llmhost.cli.text import clean, credit, money

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.fleet.models import Offer
    from llmhost.fleet.quote import Quote

__all__ = [
    "BudgetOutput",
    "OfferedOutput",
    "PlanOutput",
    "PricesOutput",
    "plan_output",
    "prices_output",
    "show_quote",
]

_DAY = 24  #: hours
_MONTH = 730  #: hours; a twelfth of a year, as vendors count it


@dataclass(frozen=True, slots=True)
class OfferedOutput:
    """One purchase; USD an hour, the disk included."""

    offer: str
    gpu: str
    price_per_hour: float
    region: str
    interruptible: bool


@dataclass(frozen=True, slots=True)
class PlanOutput:
    """How many workers to create, and which to keep and to destroy. `purchases` are what would be bought;
    fewer than `create` where not enough fits.
    """

    create: int
    keep: Sequence[str]
    destroy: Sequence[str]
    replace: int
    purchases: Sequence[OfferedOutput]


@dataclass(frozen=True, slots=True)
class BudgetOutput:
    """One limit, USD: what its period will have cost when it ends, and what the next one would cost."""

    name: str
    limit: float
    spent: float
    projected: float
    next_period: float


@dataclass(frozen=True, slots=True)
class PricesOutput:
    """USD of the whole fleet once the plan is done; a month is 730 hours. None where not known."""

    hourly: float
    daily: float
    monthly: float
    credit: float | None
    runway_hours: float | None
    budget: Sequence[BudgetOutput]


def plan_output(quote: Quote) -> PlanOutput:
    plan = quote.plan
    return PlanOutput(
        plan.create,
        [worker.id for worker in plan.keep],
        [worker.id for worker in plan.destroy],
        min(plan.create, len(plan.destroy)),
        [_offered(offer) for offer in quote.purchases],
    )


def prices_output(quote: Quote) -> PricesOutput:
    from llmhost.fleet.budget import projections, runway_hours

    hourly, funds = quote.hourly_usd, quote.funds
    budget = [
        BudgetOutput(row.name, row.limit, row.spent, row.projected, row.whole)
        for row in projections(funds.limits, funds.spent, hourly, quote.now)
    ]
    runway = runway_hours(funds.credit, hourly)
    return PricesOutput(hourly, hourly * _DAY, hourly * _MONTH, funds.credit, runway, budget)


def show_quote(quote: Quote, console: Console) -> None:
    """The steps, what would be bought, and what the fleet costs then."""
    plan, prices = plan_output(quote), prices_output(quote)
    console.print(
        f"create {plan.create}, keep {len(plan.keep)}, replace {plan.replace}, destroy {len(plan.destroy)}"
    )
    if plan.purchases:
        grid = table("offer", "gpu", "region", "an hour", right=("an hour",))
        for offer in plan.purchases:
            price = money(offer.price_per_hour) + (" bid" if offer.interruptible else "")
            grid.add_row(clean(offer.offer), clean(offer.gpu or "-"), clean(offer.region or "-"), price)
        console.print(grid)
    if quote.missing:
        console.print(
            f"{quote.missing} of {plan.create} cannot be had: no further offer fits", style="yellow"
        )
    console.print(
        f"cost {money(prices.hourly)} an hour, {money(prices.daily)} a day, {money(prices.monthly)} a month"
    )
    for row in prices.budget:
        later = f"; a whole one would cost {money(row.next_period)}" if row.next_period > row.limit else ""
        console.print(f"budget {row.name}: {money(row.projected)} of {money(row.limit)}{later}")
    if prices.credit is not None:
        console.print(credit(prices.credit, prices.runway_hours))


def _offered(offer: Offer) -> OfferedOutput:
    return OfferedOutput(offer.id, offer.gpu, offer.price_per_hour, offer.region, offer.bid is not None)
