"""Buying workers: one at a time, on machines that never failed this fleet, inside the budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from llmhost.errors import (
    ConfigError,
    FleetBusy,
    LimitError,
    LimitInDoubt,
    LlmhostError,
    NoOffer,
    OfferGone,
    PartialError,
    ProviderError,
    PurchaseUnclear,
    StoreError,
    StoreUnavailable,
)
from llmhost.fleet.budget import Limits, Spent, check, period_starts
from llmhost.fleet.clock import Clock
from llmhost.fleet.ending import terminate
from llmhost.fleet.health import OnProgress, WorkerProgress
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec, Intent, Market, Offer, Worker, WorkerState
from llmhost.fleet.offers import choose, traffic_usd
from llmhost.fleet.plan import ApprovedSpend, Funds, Plan, Quote, check_size, hourly, make_plan
from llmhost.fleet.provider import Provider
from llmhost.fleet.registry import FleetRecords, is_machines_fault
from llmhost.fleet.spending import spent_now

__all__ = ["Buyer", "Purchases", "taken_down"]


#: offers in a row that others took first; then the market moves faster than we do
_MOST_GONE = 10

_LOOK_AGAIN = 5.0  #: seconds; what was bought although it was refused may be listed before its minute is over

_PERIODS = ("hour", "day", "month")


@dataclass(frozen=True, slots=True)
class Purchases:
    """What was bought, and why not more."""

    workers: tuple[Worker, ...] = ()
    errors: tuple[LlmhostError, ...] = ()


@dataclass(slots=True)
class Buyer:
    """Buys for one command. The caller holds `lock`, which is confirmed before each purchase.

    `waits`: where the limits leave room unless purchases in doubt have bought something, it waits until that
    is known; else it stops there. `approved` is what the operator agreed to; None where no approval is
    needed.
    """

    provider: Provider
    spec: FleetSpec
    limits: Limits
    lock: FleetLock
    clock: Clock
    records: FleetRecords
    on_progress: OnProgress = lambda _: None
    waits: bool = False
    approved: ApprovedSpend | None = field(default=None, init=False)
    _used: set[str] = field(default_factory=set, init=False)

    async def quote(self, plan: Plan) -> Quote:
        """What the plan would buy now, and what that costs.

        Raises:
            ProviderError: the offers or the account cannot be read.
            StoreError: there is a budget, and the ledger that it is measured with cannot be read.
        """
        if not plan.create:
            return Quote(plan, (), now=self.clock.now())
        market = await self.provider.offers(self.spec)
        failed = {
            one.machine for one in plan.destroy if one.state is WorkerState.FAILED and is_machines_fault(one)
        }
        avoid = await self.records.bad_machines() | failed
        offers = choose(market.offers, plan.create, avoid, self.spec.stay, await self._speeds(market))
        return Quote(plan, offers, market, await self.funds(), self.clock.now(), self.spec.stay)

    async def funds(self) -> Funds:
        """What may be spent, and was spent so far.

        Raises:
            ProviderError: the account cannot be read.
            StoreError: there is a budget, and the ledger that it is measured with cannot be read.
        """
        account = await self.provider.account()
        credit = account.credit if account else None
        if not self.limits.any:
            return Funds(self.limits, Spent(), credit)
        now = self.clock.now()
        spent = spent_now(await self.records.rentals(), now)
        return Funds(self.limits, await self._as_billed(spent, now), credit)

    async def buy(self, count: int, present: Sequence[Worker], quoted: Quote | None = None) -> Purchases:
        """Buys up to `count` workers beside those present, and stops at the first that cannot be had.

        `quoted` was made a moment ago, under the same lock: then the market is not searched once more. What
        is rented may be bought from elsewhere too: before each purchase it is checked whether it is still
        wanted. Workers that turn out to exist already count as bought.
        """
        bought: list[Worker] = []
        if count <= 0:
            return Purchases()
        try:
            if quoted is not None:
                funds, market = quoted.funds, quoted.market
            else:
                funds, market = await self.funds(), await self.provider.offers(self.spec)
            offers, gone = await self._candidates(market), 0
            while len(bought) < count:
                doubtful = await self._doubtful()  # first: what others list meanwhile is in doubt no longer
                existing = await self._listed(present) if self.provider.rents else [*present, *bought]
                if self.provider.rents and self._is_whole(existing):
                    ours = {worker.id for worker in (*present, *bought)}
                    bought += [worker for worker in existing if worker.id not in ours]
                    break
                funds = await self._with_current_spending(funds)
                try:
                    bought.append(await self._buy_one(offers, market, funds, existing, doubtful))
                except LimitInDoubt as error:
                    await self._wait(doubtful, error)
                except OfferGone:  # what is listed now says whether it was bought all the same
                    gone += 1
                    if gone == _MOST_GONE:
                        raise NoOffer(
                            f"{_MOST_GONE} offers were taken by other customers",
                            hint="run `llmhost up` again",
                        ) from None
        except LlmhostError as error:
            return Purchases(tuple(bought), (error,))
        return Purchases(tuple(bought))

    async def _listed(self, asked: Sequence[Worker]) -> Sequence[Worker]:
        """What the provider lists; of workers that were asked, their answers count."""
        known = {worker.id: worker for worker in asked}
        return [known.get(worker.id, worker) for worker in await self.provider.list()]

    def _is_whole(self, existing: Sequence[Worker]) -> bool:
        """Whether no more is to be bought. One that has failed may stand where another one is wanted: where
        there may be no more of them, it has to go first."""
        return len(existing) >= self.spec.max_gpus or not make_plan(self.spec, existing).create

    async def _doubtful(self) -> Sequence[Intent]:
        """The purchases of which no list that was read has a worker, and that may have bought one."""
        if not self.provider.rents:
            return ()
        self.provider.learn(await self.records.begun())
        return [intent for intent in await self.provider.intents() if intent.counts_for]

    async def _wait(self, doubtful: Sequence[Intent], error: LimitInDoubt) -> None:
        """Until it is known of the first of them. Raises the error where it does not wait, or waits too long:
        a damaged record that cannot be replaced has no date. Raises as `_check_ours` and `Provider.list`.
        """
        left = await self._doubtful()
        if len(left) < len(doubtful):
            return
        if not self.waits:
            raise error
        stage = "waiting: a refused purchase counts for a minute, and leaves the limits no room"
        self.on_progress(WorkerProgress("fleet", stage))
        deadline = self.clock.monotonic() + max(intent.counts_for for intent in left) + _LOOK_AGAIN
        while len(left) >= len(doubtful):
            if self.clock.monotonic() > deadline:
                raise error
            await self.clock.sleep(min(_LOOK_AGAIN, *(intent.counts_for for intent in left)))
            await self._check_ours()
            await self.provider.list()
            left = await self._doubtful()
        self.on_progress(WorkerProgress("fleet", "waited"))

    async def _buy_one(
        self,
        offers: list[Offer],
        market: Market,
        funds: Funds,
        existing: Sequence[Worker],
        doubtful: Sequence[Intent],
    ) -> Worker:
        """From the best of the offers, which is taken out when it is tried."""
        if not offers:
            return await self._without_offer(market, funds, hourly(existing))
        offer = offers[0]
        self._check_price(offer, funds, hourly(existing))
        if doubtful:
            self._check_with(doubtful, offer, funds, existing)
        self._used.add(offers.pop(0).id)
        return await self._create(offer)

    async def _create(self, offer: Offer | None) -> Worker:
        await self._check_ours()
        worker = await self._create_known(offer)
        if offer is not None:
            await self.records.downloads(worker, traffic_usd(offer, self.spec.stay))
        if self.approved is not None:
            self.approved.take(worker.price_per_hour)
        if self.provider.rents:
            self.on_progress(WorkerProgress(worker.id, "rented"))
        await self.records.seen(replace(worker, state=WorkerState.STARTING), bought=True)
        try:
            with suppress(StoreError):  # a `down` that came meanwhile has seen the purchase in Redis
                await self._check_wanted()
        except FleetBusy as error:
            await self._undo(worker, error)
            raise
        return worker

    async def _create_known(self, offer: Offer | None) -> Worker:
        """As `Provider.create`; every machine of this Redis knows what is begun, and what came of it."""
        begun: list[Intent] = []

        async def begin(intent: Intent) -> None:
            begun.append(intent)
            try:
                await self.records.begin(intent)
            except StoreUnavailable:
                if self.lock.fence is not None:  # Redis has just been there
                    raise
            await self._check_ours()

        try:
            worker = await self.provider.create(self.spec, offer, begin)
        except PurchaseUnclear:
            raise
        except (ConfigError, FleetBusy, ProviderError, StoreError) as error:  # after others it is not known
            if isinstance(error, ProviderError) and error.in_doubt:
                for intent in begun:
                    await self.records.refused(intent)
            else:
                await self.records.answered([intent.id for intent in begun])
            raise
        for intent in begun:
            await self.records.bought(intent, worker)
        return worker

    async def _check_ours(self) -> None:
        """Directly before a purchase. Raises FleetBusy."""
        await self.lock.confirm()
        await self._check_wanted()

    async def _check_wanted(self) -> None:
        """`up` lifts the pauses that it knows before it buys, and a paused autoscaler buys nothing: a fleet
        that is paused now was taken down meanwhile. Raises FleetBusy, and StoreError where Redis was there
        when the lock was taken, and does not say."""
        if await self.records.pauses(certain=self.lock.fence is not None):
            raise taken_down()

    async def _undo(self, worker: Worker, why: FleetBusy) -> None:
        """The fleet was taken down while this one was being bought, which `down` could not see yet. Raises
        PartialError where it cannot be ended."""
        for failure in await terminate([worker], self.provider, self.records, self.on_progress):
            raise PartialError(f"{why.message}; {worker.id}: {failure.message}", hint="run `llmhost down`")

    async def _without_offer(self, market: Market, funds: Funds, burn: float) -> Worker:
        if not self.provider.rents:  # its own error says why it has no capacity left
            check(self.limits, funds.spent, burn, self.spec.price_per_hour, self.clock.now())
            return await self._create(None)
        rejected = ", ".join(f"{count} by {reason}" for reason, count in market.rejected.items() if count)
        raise NoOffer(
            "no offer is left that fits" + (f"; rejected: {rejected}" if rejected else ""),
            hint="`llmhost offers` shows what there is; relax `vast.offers` or `vast.max_price`",
        )

    def _check_price(self, offer: Offer, funds: Funds, burn: float) -> None:
        price, traffic = offer.price_per_hour, traffic_usd(offer, self.spec.stay)
        if self.approved is not None:
            self.approved.check(price)
        check(funds.limits, funds.spent, burn, price, self.clock.now(), funds.credit, traffic)

    def _check_with(
        self, doubtful: Sequence[Intent], offer: Offer, funds: Funds, existing: Sequence[Worker]
    ) -> None:
        """Raises LimitInDoubt where the limits leave no room beside what `doubtful` may have bought."""
        burn = hourly(existing) + sum(intent.price_per_hour for intent in doubtful)
        try:
            self._check_price(offer, funds, burn)
            check_size(replace(self.spec, gpus=len(existing) + len(doubtful) + 1))
        except LimitError as error:
            seconds = math.ceil(min(intent.counts_for for intent in doubtful))
            raise LimitInDoubt(
                f"there is no room beside what purchases in doubt ({len(doubtful)}) may have bought:"
                f" {error.message}",
                hint=f"the next run continues: the first of them is known in {seconds} s",
            ) from error

    async def _candidates(self, market: Market) -> list[Offer]:
        """Best first. What was tried in this command is not tried again, even if it is still on offer."""
        avoid = await self.records.bad_machines() | self._used
        offers, speeds = market.offers, await self._speeds(market)
        return list(choose(offers, len(offers), avoid, self.spec.stay, speeds))

    async def _speeds(self, market: Market) -> Mapping[str, float]:
        return await self.records.speeds(self.spec, {offer.gpu for offer in market.offers})

    async def _with_current_spending(self, funds: Funds) -> Funds:
        """The same, with what was spent since: a hundred purchases take minutes."""
        if not self.limits.any:
            return funds
        spent = spent_now(await self.records.rentals(), self.clock.now())
        most = {name: max(getattr(spent, name), getattr(funds.spent, name)) for name in _PERIODS}
        return replace(funds, spent=Spent(**most))

    async def _as_billed(self, spent: Spent, now: float) -> Spent:
        """What the provider billed, where that is more than what we saw."""
        if not self.provider.rents:
            return spent
        _, day, month = period_starts(now)
        billed = [
            sum(charge.usd for charge in await self.provider.charges(start)) if limit else 0.0
            for start, limit in ((day, self.limits.per_day), (month, self.limits.per_month))
        ]
        return Spent(spent.hour, max(spent.day, billed[0]), max(spent.month, billed[1]))


def taken_down() -> FleetBusy:
    return FleetBusy(
        "`llmhost down` has ended this fleet meanwhile, so nothing more is bought",
        hint="`llmhost up` starts it again",
    )
