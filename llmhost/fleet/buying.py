"""Buying workers: one at a time, on machines that never failed this fleet, inside the budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from llmhost.errors import LimitError, LlmhostError, OfferGone, ProviderError
from llmhost.fleet.budget import Limits, Spent, check, period_starts
from llmhost.fleet.clock import Clock
from llmhost.fleet.health import OnProgress, WorkerProgress
from llmhost.fleet.models import FleetSpec, Market, Offer, Worker, WorkerState
from llmhost.fleet.plan import Plan
from llmhost.fleet.provider import Provider
from llmhost.fleet.quote import Funds, Quote, hourly
from llmhost.fleet.ranking import choose
from llmhost.fleet.records import FleetRecords
from llmhost.fleet.spending import spent_now

__all__ = ["Buyer", "Purchases"]

#: offers; where so many were taken by others one after the other, the market moves faster than we do
_MOST_GONE = 10

#: of the dearest offer that was shown: what may be paid more without asking again
_SURPRISE = 1.25


@dataclass(frozen=True, slots=True)
class Purchases:
    """What was bought, and why not more."""

    workers: tuple[Worker, ...] = ()
    errors: tuple[LlmhostError, ...] = ()


class Buyer:
    """Buys for one command. The caller holds the fleet's lock."""

    def __init__(
        self,
        provider: Provider,
        spec: FleetSpec,
        limits: Limits,
        clock: Clock,
        records: FleetRecords,
        on_progress: OnProgress = lambda _: None,
    ) -> None:
        self._provider = provider
        self._spec = spec
        self._limits = limits
        self._clock = clock
        self._records = records
        self._on_progress = on_progress
        self._used: set[str] = set()
        self._ceiling: float | None = None

    async def quote(self, plan: Plan) -> Quote:
        """What the plan would buy now, and what that costs.

        Raises:
            ProviderError: the offers or the account cannot be read.
            StoreError: there is a budget, and the ledger that it is measured with cannot be read.
        """
        if not plan.create:
            return Quote(plan, (), now=self._clock.now())
        market = await self._provider.offers(self._spec)
        offers = choose(market.offers, plan.create, await self._records.bad_machines())
        return Quote(plan, offers, market.rejected, await self._funds(), self._clock.now())

    def approved(self, quote: Quote) -> None:
        """The operator has seen this quote and agreed: nothing much dearer is bought without asking."""
        self._ceiling = quote.dearest * _SURPRISE

    async def buy(self, count: int, present: Sequence[Worker]) -> Purchases:
        """Buys up to `count` workers beside those present, and stops at the first that cannot be had."""
        bought: list[Worker] = []
        if count <= 0:
            return Purchases()
        try:
            funds, market = await self._funds(), await self._provider.offers(self._spec)
            offers = await self._candidates(market)
            for _ in range(count):
                burn = hourly([*present, *bought])
                bought.append(await self._buy_one(offers, market, funds, burn))
        except LlmhostError as error:
            return Purchases(tuple(bought), (error,))
        return Purchases(tuple(bought))

    async def _buy_one(self, offers: Iterator[Offer], market: Market, funds: Funds, burn: float) -> Worker:
        for _ in range(_MOST_GONE):
            offer = next(offers, None)
            if offer is None:
                return await self._without_offer(market, funds, burn)
            self._check_price(offer, funds, burn)
            self._used.add(offer.id)
            try:
                return await self._create(offer)
            except OfferGone:
                continue
        raise ProviderError(
            f"{_MOST_GONE} offers in a row were taken by somebody else", hint="run `llmhost up` again"
        )

    async def _create(self, offer: Offer | None) -> Worker:
        worker = await self._provider.create(self._spec, offer)
        if self._provider.rents:
            self._on_progress(WorkerProgress(worker.id, "rented"))
        await self._records.seen(replace(worker, state=WorkerState.STARTING))
        return worker

    async def _without_offer(self, market: Market, funds: Funds, burn: float) -> Worker:
        if not self._provider.rents:  # it knows best why it has no place left
            check(self._limits, funds.spent, burn, self._spec.price_per_hour, self._clock.now())
            return await self._create(None)
        turned_away = ", ".join(f"{count} by {reason}" for reason, count in market.rejected.items() if count)
        raise ProviderError(
            "no offer is left that fits" + (f"; turned away: {turned_away}" if turned_away else ""),
            hint="`llmhost offers` shows what there is; relax `vast.offers` or `vast.max_price`",
        )

    def _check_price(self, offer: Offer, funds: Funds, burn: float) -> None:
        price = offer.price_per_hour
        if self._ceiling is not None and price > self._ceiling:
            raise LimitError(
                f"the next offer costs ${price:.3f} an hour, and what you agreed to cost at most"
                f" ${self._ceiling / _SURPRISE:.3f}",
                hint="run `llmhost up` again to see the new prices",
            )
        check(funds.limits, funds.spent, burn, price, self._clock.now(), funds.credit)

    async def _candidates(self, market: Market) -> Iterator[Offer]:
        """Best first. What was tried in this command is not tried again, even if it is still on offer."""
        fresh = [offer for offer in market.offers if offer.id not in self._used]
        return iter(choose(fresh, len(fresh), await self._records.bad_machines()))

    async def _funds(self) -> Funds:
        account = await self._provider.account()
        credit = account.credit if account else None
        if not self._limits.any:
            return Funds(self._limits, Spent(), credit)
        now = self._clock.now()
        spent = spent_now(await self._records.rentals(), now)
        return Funds(self._limits, await self._as_billed(spent, now), credit)

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
