"""Workers that are GPUs rented on vast.ai.

vast.ai's list is the truth about what exists and is paid for. An instance is this fleet's by its label, or by
its number where that is on record: a label can be changed by anybody who has the account. Where neither says
whose it is, its environment says that llmhost bought it: it is of the fleet `UNNAMED_FLEET`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from llmhost.config.fields import UNNAMED_FLEET
from llmhost.config.fleet import VastConfig
from llmhost.errors import ProviderError, StateError
from llmhost.fleet.clock import Clock, waited_since
from llmhost.fleet.models import Account, FleetSpec, Intent, Market, Offer, Payer, SshTarget, Worker
from llmhost.fleet.offers import rank
from llmhost.fleet.provider import ANSWERED_AFTER, Confirm, Provider, agree
from llmhost.fleet.providers.vast.client import VastAccount
from llmhost.fleet.providers.vast.create import InstanceCreator, Order, PendingPurchases, new_worker
from llmhost.fleet.providers.vast.faults import CONSOLE
from llmhost.fleet.providers.vast.identity import WorkerBootConfig
from llmhost.fleet.providers.vast.listing import Bill, Listing, end_instance, pages
from llmhost.fleet.providers.vast.market import read_market
from llmhost.fleet.providers.vast.rows import (
    ENGINE,
    PROVIDER,
    Row,
    fleet_of_nameless,
    is_nameless,
    nameless_worker,
    number_in,
    ordered_at,
    read_account,
    read_charges,
    read_fleet,
    ssh_of,
    worker_id,
)
from llmhost.ledger.rentals import Charge
from llmhost.store.keys import FleetKeys

__all__ = ["VastProvider"]

_READINGS = 3  #: of a list that lacks what is known to exist
#: seconds, at vast.ai's own pace; what it does not list so long after a purchase was begun, or refused, was
#: not bought
_SETTLING = 60.0
_SETTLING_LOOKS = 12
_DAY = 86400  #: seconds; vast.ai bills by the day (UTC)
_OTHER_KEY = f"use the key that it was bought with (`vast.api_key`, else VAST_API_KEY), or look at {CONSOLE}"


class VastProvider(Provider):
    """Rents for the fleet named `fleet`; `folder` is the fleet's own, and keeps its begun purchases."""

    name = PROVIDER
    rents: ClassVar[bool] = True
    console: ClassVar[str] = CONSOLE

    def __init__(
        self,
        account: VastAccount,
        settings: VastConfig,
        boot: WorkerBootConfig,
        fleet: str,
        folder: Path,
        clock: Clock,
        *,
        sharded: bool = False,
    ) -> None:
        self._account = account
        self._keys = FleetKeys(fleet, sharded)
        self._settings = settings
        self._settling = _SETTLING * settings.pace
        self._fleet = fleet
        self._clock = clock
        self._intents = PendingPurchases(folder / "intents")
        self._listing = Listing(account)
        self._buyer = InstanceCreator(account, self._listing, self._intents, settings, boot, fleet, clock)
        self._buying = asyncio.Lock()
        self._asked_owner = False
        self._told: frozenset[str] | None = None  #: orders of which `list` has told; None before it was read
        self._ended: set[str] = set()  #: orders whose instance is gone; the file of one may not be removable
        self._elsewhere: dict[str, Order] = {}  #: orders of other machines, by their names

    async def offers(self, spec: FleetSpec) -> Market:  # noqa: ARG002
        kind = "bid" if self._settings.interruptible else "on-demand"
        answer = await self._account.search(kind, self._settings.disk)
        return read_market(answer, self._settings)

    async def create(self, spec: FleetSpec, offer: Offer | None = None, confirm: Confirm = agree) -> Worker:
        async with self._buying:
            return await self._buyer.buy(spec, offer or await self._best(spec), confirm)

    async def list(self) -> Sequence[Worker]:
        rows = await self._rows()
        newest_first = sorted(
            rows, key=lambda row: row.id, reverse=True
        )  # of two of one order the older counts
        instances, listed = {row.order(self._fleet): row.id for row in newest_first}, {row.id for row in rows}
        edited = self._edited(newest_first)
        ours = self._payer
        for order in self._intents.all():
            number = order.instance or instances.get(order.id) or edited.get(order.id)
            if number in listed and not (order.listed and order.fingerprint == ours.fingerprint):
                self._intents.resolve(order, number, ours)
            elif order.refused and not self._is_awaited(order) and await self._is_proven_none(order):
                self._intents.drop(order.id)
        numbers = {number: order for order, number in edited.items()}
        workers = [*self._read(rows, numbers), *self._sold({row.id for row in rows})]
        dearest = max((worker.price_per_hour for worker in workers), default=0.0)
        return (*workers, *self._nameless(dearest, {self._fleet, None}))

    async def unlisted(self, payers: Mapping[str, Payer]) -> Sequence[Worker]:
        known = {number: payer for name, payer in payers.items() if (number := number_in(name)) is not None}
        rows = await self._listing.lacks(known)
        # A row without its number may be what is lacking.
        if not self._listing.nameless and (lost := self._inexcusable(rows)):
            raise _incomplete(lost)
        await self._check_records(known)
        return self._read(rows, dict.fromkeys(known, ""))

    async def fleets(self) -> Mapping[str, Sequence[Worker]]:
        rows = self._listing.last or await self._listing.rows()
        nameless = {fleet_of_nameless(row) or self._fleet for row in self._listing.nameless}
        now, recorded, found = self._clock.now(), set[int](), dict[str, Sequence[Worker]]()
        with suppress(StateError):  # `list` says so
            recorded |= set(self._on_record())
        # What names no fleet, and is on record here, is this fleet's.
        rows = [row for row in rows if row.fleet != UNNAMED_FLEET or row.id not in recorded]
        for name in sorted({row.fleet for row in rows if row.fleet is not None} | nameless):
            workers = read_fleet(rows, name, lambda _: None, now=now)
            dearest = max((worker.price_per_hour for worker in workers), default=0.0)
            found[name] = (
                *workers,
                *self._nameless(dearest, {name, None} if name == self._fleet else {name}),
            )
        return found

    def _edited(self, rows: Iterable[Row]) -> Mapping[str, int]:
        """Orders with the instance of each whose label was edited, and still has the order's name in it."""
        orders = [order.id for order in self._orders()]
        return {
            order: row.id
            for row in rows
            for order in orders
            if row.label and order in row.label.lower() and row.order(self._fleet) is None
        }

    def _sold(self, listed: Collection[int]) -> Sequence[Worker]:
        """Those that vast.ai said it sold a moment ago, and does not list yet."""
        orders = [order for order in self._awaited() if order.instance not in listed]
        return [new_worker(order, order.instance) for order in orders if order.instance is not None]

    def _nameless(self, price: float, fleets: Collection[str | None]) -> Sequence[Worker]:
        """A worker for each row without a number whose label names one of these fleets, None for none."""
        rows, now = enumerate(self._listing.nameless, 1), self._clock.now()
        return [nameless_worker(n, price, now) for n, row in rows if fleet_of_nameless(row) in fleets]

    async def destroy(self, worker_id: str, payer: Payer | None = None) -> None:
        number = number_in(worker_id)
        if number is None and is_nameless(worker_id):
            raise ProviderError(
                f"{worker_id} has no number by which it could be ended",
                hint=f"end it in the console: {CONSOLE}",
            )
        if number is None:
            return
        ordered = next((row.order(self._fleet) for row in self._listing.last if row.id == number), None)
        await end_instance(self._account, self._listing, self._clock, number, self._settings.pace)
        if payer is not None:
            await self._check_records({number: payer})
        orders: Sequence[Order] = tuple(self._elsewhere.values())
        with suppress(StateError):  # what cannot be read stands in no ending's way
            orders = self._orders()
        for order in orders:
            if order.instance != number and order.id != ordered:
                continue
            await self._check_orders({number: order})
            if self._is_awaited(replace(order, instance=number, refused=False)):
                raise ProviderError(
                    f"it is not known yet whether {worker_id} exists: vast.ai sold it a moment ago and does"
                    " not show it",
                    hint=f"run this again in {math.ceil(ANSWERED_AFTER / 60)} minutes",
                )
            self._ended.add(order.id)
            self._intents.drop(order.id)

    async def logs(self, worker_id: str, lines: int = 100) -> str:
        number = number_in(worker_id)
        text = "" if number is None else await self._account.logs(number, lines)
        return "\n".join(text.splitlines()[-lines:])

    async def charges(self, since: float) -> Sequence[Charge]:
        """Whole days (UTC) as vast.ai bills them: the day of `since` is given in full."""
        first = max(1, int(since // _DAY) * _DAY)
        last = int(self._clock.now()) + _DAY  # its clock may be ahead of ours
        found: list[Charge] = []
        async for page in pages(Bill, lambda token: self._account.charges(first, last, token), "the bill"):
            found += read_charges(page.results, self._fleet, self._on_record())
        return tuple(found)

    async def account(self) -> Account:
        return read_account(await self._account.user())

    async def ssh(self, worker_id: str) -> SshTarget | None:
        number = number_in(worker_id)
        rows = [] if number is None else await self._listing.rows()
        mine = [row for row in rows if row.id == number and self._is_ours(row)]
        return ssh_of(mine[0]) if mine else None

    def learn(self, begun: Iterable[Intent]) -> None:
        self._elsewhere |= {intent.id: _order_of(intent) for intent in begun}

    async def intents(self) -> Sequence[Intent]:
        orders = await self._in_doubt()
        if not orders:
            return ()
        if self._told is None:
            await self._rows()
            orders = await self._in_doubt()
        # What a later reading shows, `list` has not told of.
        known = (self._told or frozenset()) | self._ended
        return [await self._intent(order) for order in orders if order.id not in known]

    async def _in_doubt(self) -> Sequence[Order]:
        """Those that may still show, and those that were refused to an account whose list is not this one."""
        orders = self._orders()
        foreign = [order for order in orders if order.refused and not await self._pays(order.payer)]
        return [order for order in orders if order in foreign or self._is_awaited(order)]

    async def _intent(self, order: Order) -> Intent:
        intent, forget = replace(order.intent, counts_for=self._counts_for(order)), self._forgetting(order)
        if order.damaged and order.instance is None:  # the number of an instance may have been in it
            hint = f"look at {CONSOLE}, then {forget}"
            return replace(intent, hidden="in its record, which cannot be read in full", hint=hint)
        if not await self._pays(order.payer):
            return replace(intent, hidden="with this API key", hint=f"{_OTHER_KEY}; else {forget}")
        return intent

    def on_record(self) -> Sequence[str]:
        return [worker_id(number) for number in self._on_record()]

    async def forget_intent(self, intent_id: str) -> None:
        self._intents.drop(intent_id)

    async def resolve_pending(self) -> None:
        for _ in range(_SETTLING_LOOKS):
            if not self._fresh_orders():
                return
            await self.list()
            if self._fresh_orders():
                await self._clock.sleep(self._settling / _SETTLING_LOOKS)

    def _on_record(self) -> Mapping[int, str]:
        """The instances that were bought here, with their orders."""
        return {order.instance: order.id for order in self._intents.all() if order.instance is not None}

    def _is_ours(self, row: Row) -> bool:
        return row.order(self._fleet) is not None or row.id in self._on_record()

    def _read(self, rows: Iterable[Row], numbers: Mapping[int, str] = {}) -> Sequence[Worker]:
        """The workers of this fleet among the rows, by their label or because they are on record."""
        prices = (order.price for order in self._intents.all())
        workers = read_fleet(
            rows,
            self._fleet,
            self._intents.kept,
            now=self._clock.now(),
            numbers={**numbers, **self._on_record()},
            dearest=max((price for price in prices if price is not None), default=0.0),
        )
        return [replace(worker, payer=self._payer) for worker in workers]

    @property
    def _payer(self) -> Payer:
        """Who pays for what is listed."""
        return Payer(str(self._account.owner or ""), self._account.fingerprint)

    async def _rows(self) -> Sequence[Row]:
        """The list, and what was bought here a moment ago and does not show in it yet.

        Raises:
            ProviderError: it lacks something that was bought here long ago, and that exists.
        """
        lost: Sequence[Row] = ()
        for _ in range(_READINGS):
            rows = await self._listing.rows()
            lacking = await self._lacking({row.id for row in rows})
            # A row without its number may be what is lacking.
            if self._listing.nameless or not (lost := self._inexcusable(lacking)):
                self._told = frozenset(self._listing.orders(self._fleet))
                return [*rows, *lacking]
        raise _incomplete(lost)

    async def _lacking(self, listed: Collection[int]) -> Sequence[Row]:
        """What was bought here, exists and is not listed. An order whose instance is gone is forgotten."""
        missing = {order.instance: order for order in self._orders() if order.instance is not None}
        for number in listed:
            missing.pop(number, None)
        rows = await self._listing.lacks(missing)
        unseen = {number: missing[number] for number in set(missing) - {row.id for row in rows}}
        gone = {number: order for number, order in unseen.items() if not self._is_awaited(order)}
        await self._check_orders(gone)
        for order in gone.values():
            self._intents.drop(order.id)
        return rows

    async def _check_records(self, gone: Mapping[int, Payer]) -> None:
        """As `_check_gone`, for what the fleet's records say of who pays."""
        await self._check_gone(
            [
                (number, payer, f"delete the key {self._keys.worker(worker_id(number))} in Redis")
                for number, payer in gone.items()
            ]
        )

    async def _check_orders(self, gone: Mapping[int, Order]) -> None:
        """As `_check_gone`, for what was bought here."""
        await self._check_gone(
            [(number, order.payer, self._forgetting(order)) for number, order in gone.items()]
        )

    async def _check_gone(self, gone: Iterable[tuple[int, Payer, str]]) -> None:
        """An account does not know another's instances: they are not gone because it shows none. Each comes
        with who pays for it, and with what to do where that account does not exist any more.

        Raises:
            ProviderError: one of these was never listed, and this account is not proven to pay for it.
        """
        doubtful = [one for one in gone if one[0] not in self._listing.seen]
        unproven = [one for one in sorted(doubtful, key=lambda one: one[0]) if not await self._pays(one[1])]
        if unproven:
            names = ", ".join(worker_id(number) for number, _, _ in unproven)
            _, payer, forget = unproven[0]
            raise _foreign(names, payer.account, self._account.owner, forget)

    def _forgetting(self, order: Order) -> str:
        if order.id in self._elsewhere and self._intents.find(order.id) is None:
            return f"delete the field {order.id} of {self._keys.purchases} in Redis"
        return f"remove {order.id}.json in {self._intents.folder}"

    async def _pays(self, payer: Payer) -> bool:
        """Whether the account is proven to be this one: by its key, which then is the same, or by its number,
        which vast.ai has to say. That it cannot be proven is as good as no."""
        if payer.fingerprint and payer.fingerprint == self._account.fingerprint:
            return True
        if payer.account and self._account.owner is None and not self._asked_owner:
            self._asked_owner = True  # once: each try may take long
            with suppress(ProviderError):
                await self._account.user()
        return bool(payer.account) and payer.account == str(self._account.owner)

    def _inexcusable(self, rows: Iterable[Row]) -> Sequence[Row]:
        """Those of this fleet that are so old that a list without them is wrong, not late."""
        now = self._clock.now()
        orders = ((row, row.order(self._fleet)) for row in rows)
        return [
            row
            for row, order in orders
            if order is not None and now - (ordered_at(order) or 0.0) > self._settling
        ]

    async def _is_proven_none(self, order: Order) -> bool:
        """Whether the list, which does not show it, would."""
        return not self._listing.nameless and await self._pays(order.payer)

    def _fresh_orders(self) -> Sequence[Order]:
        """Purchases begun a moment ago, of which no instance is known."""
        return [order for order in self._awaited() if self._waited(order) < self._settling]

    def _counts_for(self, order: Order) -> float:
        return max(0.0, self._settling - self._waited(order)) if order.instance is None else 0.0

    def _awaited(self) -> Sequence[Order]:
        return [order for order in self._orders() if self._is_awaited(order)]

    def _orders(self) -> Sequence[Order]:
        """Those of this machine, and of others those that were begun a short time ago. Raises StateError."""
        here = self._intents.all()
        names = {order.id for order in here}
        return [*here, *(order for name, order in self._elsewhere.items() if name not in names)]

    def _is_awaited(self, order: Order) -> bool:
        """Whether its instance may still appear. vast.ai may have named one that it does not show yet."""
        if order.refused:
            return self._waited(order) < self._settling
        if order.instance is None:
            return True
        shown = order.listed or order.instance in self._listing.seen | self._listing.ended
        return not shown and self._waited(order) < ANSWERED_AFTER

    def _waited(self, order: Order) -> float:
        return waited_since(self._clock, order.written, order.uptime)

    async def _best(self, spec: FleetSpec) -> Offer:
        market = await self.offers(spec)
        if not market.offers:
            raise ProviderError(
                "no machine on vast.ai fits", hint="see `llmhost offers` for what is in the way"
            )
        return rank(market.offers, spec.stay, {})[0]


def _order_of(intent: Intent) -> Order:
    """What is known here of an order that another machine made."""
    owner = intent.payer.account
    return Order(
        intent.id,
        label="",
        offer=intent.offer,
        machine=intent.machine,
        written=intent.written,
        model=intent.model,
        engine=ENGINE,
        instance=number_in(intent.worker),
        price=intent.price_per_hour,
        refused=intent.refused,
        owner=int(owner) if owner.isascii() and owner.isdigit() and int(owner) else None,
        fingerprint=intent.payer.fingerprint,
    )


def _foreign(names: str, payer: str, ours: int | None, forget: str) -> ProviderError:
    """Either may not be known: `payer`, and whose this key is."""
    if payer and ours is not None:
        return ProviderError(
            f"{names}: bought by user {payer} of vast.ai, and this API key is user {ours}'s, which cannot see"
            " whether it is still paid for",
            hint="use that user's key (`vast.api_key`, else VAST_API_KEY); of an account that is closed,"
            f" {forget}",
        )
    return ProviderError(
        f"{names}: this API key is not proven to be of the account that bought it, so it cannot be seen"
        " whether it is still paid for",
        hint=f"{_OTHER_KEY}; where it does not exist any more, {forget}",
    )


def _incomplete(lost: Sequence[Row]) -> ProviderError:
    names = ", ".join(worker_id(row.id) for row in lost)
    return ProviderError(
        f"vast.ai's list of instances is not complete: it lacks {names}, found by number",
        hint="try again in a minute",
    )
