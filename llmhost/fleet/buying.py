"""Buying workers: one at a time, on machines that never failed this fleet, inside the budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from llmhost.errors import LlmhostError, NoOffer, OfferGone
from llmhost.fleet.allowance import Allowance
from llmhost.fleet.budget import Limits, Spent, check, period_starts
from llmhost.fleet.clock import Clock
from llmhost.fleet.health import OnProgress, WorkerProgress
from llmhost.fleet.models import FleetSpec, Market, Offer, Worker, WorkerState
from llmhost.fleet.offers import choose
from llmhost.fleet.plan import Plan, make_plan
from llmhost.fleet.provider import Provider
from llmhost.fleet.quote import Funds, Quote, hourly
from llmhost.fleet.records import FleetRecords
from llmhost.fleet.spending import spent_now

__all__ = ["Buyer", "Purchases"]

#: offers; where so many were taken by others one after the other, the market moves faster than we do
_MOST_GONE = 10

_PERIODS = ("hour", "day", "month")


@dataclass(frozen=True, slots=True)
class Purchases:
    """What was bought, and why not more."""

    workers: tuple[Worker, ...] = ()
    errors: tuple[LlmhostError, ...] = ()


async def _nobody_asks() -> None:
    """A lock that cannot be lost."""


class Buyer:
    """Buys for one command. The caller holds the fleet's lock; `confirm` raises where it was lost since."""

    def __init__(
        self,
        provider: Provider,
        spec: FleetSpec,
        limits: Limits,
        clock: Clock,
        records: FleetRecords,
        on_progress: OnProgress = lambda _: None,
        *,
        confirm: Callable[[], Awaitable[None]] = _nobody_asks,
    ) -> None:
        self._provider = provider
        self._spec = spec
        self._limits = limits
        self._clock = clock
        self._records = records
        self._on_progress = on_progress
        self._confirm = confirm
        self._used: set[str] = set()
        self._allowance: Allowance | None = None

    async def quote(self, plan: Plan) -> Quote:
        """What the plan would buy now, and what that costs.

        Raises:
            ProviderError: the offers or the account cannot be read.
            StoreError: there is a budget, and the ledger that it is measured with cannot be read.
        """
        if not plan.create:
            return Quote(plan, (), now=self._clock.now())
        market = await self._provider.offers(self._spec)
        failed = {worker.machine for worker in plan.destroy if worker.state is WorkerState.FAILED}
        offers = choose(market.offers, plan.create, await self._records.bad_machines() | failed)
        return Quote(plan, offers, market.rejected, await self.funds(), self._clock.now())

    async def funds(self) -> Funds:
        """What may be spent, and was spent so far.

        Raises:
            ProviderError: the account cannot be read.
            StoreError: there is a budget, and the ledger that it is measured with cannot be read.
        """
        account = await self._provider.account()
        credit = account.credit if account else None
        if not self._limits.any:
            return Funds(self._limits, Spent(), credit)
        now = self._clock.now()
        spent = spent_now(await self._records.rentals(), now)
        return Funds(self._limits, await self._as_billed(spent, now), credit)

    @property
    def asked(self) -> bool:
        """Whether the operator has agreed to anything yet."""
        return self._allowance is not None

    def approved(self, quote: Quote) -> None:
        """The operator has seen this quote and agreed: nothing else is bought without asking."""
        self._allowance = Allowance(quote.purchases)

    def given_back(self, worker: Worker) -> None:
        """It is gone for good; what it cost may be spent on another one."""
        if self._allowance is not None:
            self._allowance.give_back(worker.price_per_hour)

    async def buy(self, count: int, present: Sequence[Worker]) -> Purchases:
        """Buys up to `count` workers beside those present, and stops at the first that cannot be had.

        What is rented may be bought from elsewhere too: each time it is looked again whether it is wanted.
        """
        bought: list[Worker] = []
        if count <= 0:
            return Purchases()
        try:
            funds, market = await self.funds(), await self._provider.offers(self._spec)
            offers = await self._candidates(market)
            while len(bought) < count:
                there = await self._there([*present, *bought])
                if self._provider.rents and not make_plan(self._spec, there).create:
                    break
                funds = await self._later(funds)
                bought.append(await self._buy_one(offers, market, funds, hourly(there)))
        except LlmhostError as error:
            return Purchases(tuple(bought), (error,))
        return Purchases(tuple(bought))

    async def _there(self, known: Sequence[Worker]) -> Sequence[Worker]:
        return await self._provider.list() if self._provider.rents else known

    async def _buy_one(self, offers: Iterator[Offer], market: Market, funds: Funds, burn: float) -> Worker:
        for _ in range(_MOST_GONE):
            offer = next(offers, None)
            if offer is None:
                return await self._without_offer(market, funds, burn)
            self._check_price(offer.price_per_hour, funds, burn)
            self._used.add(offer.id)
            try:
                return await self._create(offer)
            except OfferGone:
                continue
        raise NoOffer(
            f"{_MOST_GONE} offers in a row were taken by somebody else", hint="run `llmhost up` again"
        )

    async def _create(self, offer: Offer | None) -> Worker:
        await self._confirm()
        worker = await self._provider.create(self._spec, offer)
        if self._allowance is not None:
            self._allowance.take(worker.price_per_hour)
        if self._provider.rents:
            self._on_progress(WorkerProgress(worker.id, "rented"))
        await self._records.seen(replace(worker, state=WorkerState.STARTING))
        return worker

    async def _without_offer(self, market: Market, funds: Funds, burn: float) -> Worker:
        if not self._provider.rents:  # it knows best why it has no place left
            check(self._limits, funds.spent, burn, self._spec.price_per_hour, self._clock.now())
            return await self._create(None)
        turned_away = ", ".join(f"{count} by {reason}" for reason, count in market.rejected.items() if count)
        raise NoOffer(
            "no offer is left that fits" + (f"; turned away: {turned_away}" if turned_away else ""),
            hint="`llmhost offers` shows what there is; relax `vast.offers` or `vast.max_price`",
        )

    def _check_price(self, price: float, funds: Funds, burn: float) -> None:
        if self._allowance is not None:
            self._allowance.check(price)
        check(funds.limits, funds.spent, burn, price, self._clock.now(), funds.credit)

    async def _candidates(self, market: Market) -> Iterator[Offer]:
        """Best first. What was tried in this command is not tried again, even if it is still on offer."""
        fresh = [offer for offer in market.offers if offer.id not in self._used]
        return iter(choose(fresh, len(fresh), await self._records.bad_machines()))

    async def _later(self, funds: Funds) -> Funds:
        """The same, with what was spent since: a hundred purchases take minutes."""
        if not self._limits.any:
            return funds
        spent = spent_now(await self._records.rentals(), self._clock.now())
        most = {name: max(getattr(spent, name), getattr(funds.spent, name)) for name in _PERIODS}
        return replace(funds, spent=Spent(**most))

    async def _as_billed(self, spent: Spent, now: float) -> Spent:
        """What the provider billed, where that is more than what we saw."""
        if not self._provider.rents:
            return spent
        _, day, month = period_starts(now)
        billed = [
            sum(charge.usd for charge in await self._provider.charges(start)) if limit else 0.0
            for start, limit in ((day, self._limits.per_day), (month, self._limits.per_month))
        ]
        return Spent(spent.hour, max(spent.day, billed[0]), max(spent.month, billed[1]))
