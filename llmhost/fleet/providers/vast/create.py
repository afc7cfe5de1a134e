"""Buying one machine, so that nothing that was bought is ever lost.

What is to be bought is written down first, under a label that no other purchase has. Where vast.ai's
answer does not come or cannot be read, its list is asked what exists under that label.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, Strict, TypeAdapter, ValidationError

from llmhost.config.fleet import VastConfig
from llmhost.errors import ConfigError, LlmhostError, OfferGone, ProviderError, PurchaseUnclear, StateError
from llmhost.fleet.clock import Clock
from llmhost.fleet.models import FleetSpec, Intent, Offer, Payer, Worker, WorkerState
from llmhost.fleet.provider import Confirm, agree
from llmhost.fleet.providers.vast.client import VastAccount
from llmhost.fleet.providers.vast.faults import NoResponse, Rejected
from llmhost.fleet.providers.vast.identity import (
    Identity,
    WorkerBootConfig,
    WorkerCredentials,
    environment,
    make_identity,
    onstart,
)
from llmhost.fleet.providers.vast.listing import Listing, end_instance
from llmhost.fleet.providers.vast.rows import (
    ENGINE,
    PROVIDER,
    Row,
    label_of,
    new_order,
    ordered_at,
    read,
    read_fleet,
    worker_id,
)
from llmhost.machine.files import make_folder, names_in, open_file, read_json, write_json

__all__ = ["InstanceCreator", "Order", "PendingPurchases", "new_worker"]


# Purchases that were begun: one small file each, mode 0600, written before vast.ai is asked.
#
# A file outlives its purchase until the instance is gone, and then knows the number of the instance. It holds
# what the worker was given, should vast.ai's list not give it back.


_FAR_AWAY = 1e11  #: Unix seconds; no clock is that wrong
_SUFFIX = ".json"
#: name and value in the text of an order, whole where something of JSON follows
_FIELD = re.compile(
    r'"(\w+)": ("(?:[^"\\]|\\.)*"|\d+(?:\.\d+)?(?:e[+-]?\d+)?|null|true|false)(?=[,}])', re.ASCII
)


@dataclass(frozen=True, slots=True)
class Order:
    """`id` is unique to this purchase. `written`, Unix seconds, is when it was begun or refused, and `uptime`
    what the monotonic clock said then, 0 where an older llmhost wrote the order. `price` is USD an hour.
    `instance` is None until it is known, `owner` where it is not known whose account bought it. `fingerprint`
    is of a key of that account, None where an older llmhost wrote the order. `listed`: the instance was in
    vast.ai's list. `refused`: vast.ai said that it does not sell it. `damaged`: its file cannot be read in
    full.
    """

    id: str
    label: str
    offer: str
    machine: str
    written: Annotated[float, Strict(), Field(ge=0, lt=_FAR_AWAY)]
    model: str
    engine: str
    token: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    instance: Annotated[PositiveInt, Strict()] | None = None
    price: Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)] | None = None
    owner: Annotated[PositiveInt, Strict()] | None = None
    fingerprint: str | None = None
    listed: bool = False
    uptime: Annotated[float, Strict(), Field(allow_inf_nan=False)] = 0.0
    refused: bool = False
    damaged: bool = False

    @property
    def payer(self) -> Payer:
        return Payer(str(self.owner or ""), self.fingerprint or "")

    @property
    def intent(self) -> Intent:
        return Intent(
            self.id,
            self.offer,
            self.machine,
            self.written,
            self.uptime,
            model=self.model,
            worker="" if self.instance is None else worker_id(self.instance),
            price_per_hour=self.price or 0.0,
            payer=self.payer,
            refused=self.refused,
        )


_ORDERS = TypeAdapter(Order)


class PendingPurchases:
    """Keeps a fleet's orders in `folder`, which is its own. `write` and what reads raise StateError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, order: Order) -> None:
        make_folder(self.folder)
        values = asdict(order)
        del values["damaged"]
        write_json(self._path(order.id), values)

    def resolve(self, order: Order, instance: int | None, payer: Payer | None = None) -> None:
        """Writes down which instance came of it, and where it is listed now, who pays. A full disk hides no
        purchase: the label, which was written before, finds it too.
        """
        if payer is not None:
            owner = int(payer.account) if payer.account else order.owner
            order = replace(order, owner=owner, fingerprint=payer.fingerprint, listed=True)
        with suppress(StateError):
            self.write(replace(order, instance=instance, refused=False))

    def refuse(self, order: Order, clock: Clock) -> None:
        """vast.ai does not sell it, it says now. It has sold some all the same, and listed them later."""
        with suppress(StateError):  # then it is in doubt for longer
            self.write(replace(order, refused=True, written=clock.now(), uptime=clock.monotonic()))

    def all(self) -> Sequence[Order]:
        """Oldest first. A file that is damaged or cannot be read is an order of which little is known."""
        names = names_in(self.folder)
        found = (self.find(name.removesuffix(_SUFFIX)) for name in names if name.endswith(_SUFFIX))
        return [order for order in found if order is not None]

    def find(self, order_id: str) -> Order | None:
        written = ordered_at(order_id)
        if written is None:
            return None
        try:
            raw = read_json(self._path(order_id))
        except (StateError, ValueError):
            return replace(_read_order(_intact_fields(self._path(order_id)), order_id, written), damaged=True)
        return None if raw is None else _read_order(raw, order_id, written)

    def kept(self, order_id: str) -> WorkerCredentials | None:
        """What the worker of this order was given, as far as it is known here."""
        order = self.find(order_id)
        if order is None or order.token is None:
            return None
        return WorkerCredentials(model=order.model, token=order.token, certificate=order.certificate)

    def drop(self, order_id: str) -> None:
        """One that is not there is fine, and so is a name that no order has. A file that cannot be removed
        stays: the number in it is looked for once more by the next command.
        """
        if ordered_at(order_id) is not None:
            with suppress(OSError):
                self._path(order_id).unlink(missing_ok=True)

    def _path(self, order_id: str) -> Path:
        return self.folder / f"{order_id}{_SUFFIX}"


def _intact_fields(path: Path) -> dict[str, Any]:
    """Those fields of a file that is no JSON, as a broken disk may leave it, that can be read."""
    try:
        with open_file(path) as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return {}
    fields = {}
    for name, value in _FIELD.findall(text):
        with suppress(ValueError):
            fields[name] = json.loads(value)
    return fields


def _read_order(raw: Mapping[str, Any], order_id: str, written: float) -> Order:
    """What can be read of an order."""
    try:
        return _ORDERS.validate_python({**raw, "id": order_id})
    except ValidationError as error:
        wrong = {fault["loc"][0] for fault in error.errors(include_url=False, include_input=False)}
    blank = Order(order_id, label="", offer="", machine="", written=written, model="", engine="")
    intact = {name: value for name, value in raw.items() if name not in wrong}
    return _ORDERS.validate_python({**asdict(blank), **intact, "id": order_id, "damaged": True})


#: seconds before each look for what was bought; 30 in all, as long as vast.ai may take over a purchase
_LOOKS = (1.0, 2.0, 4.0, 8.0, 15.0)
_GONE = 410
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


class _Bought(Exception):
    """There is no need to ask for it once more."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.id)
        self.worker = worker


class InstanceCreator:
    """Buys for one fleet, one machine at a time."""

    def __init__(
        self,
        account: VastAccount,
        listing: Listing,
        intents: PendingPurchases,
        settings: VastConfig,
        boot: WorkerBootConfig,
        fleet: str,
        clock: Clock,
    ) -> None:
        self._account = account
        self._listing = listing
        self._intents = intents
        self._settings = settings
        self._boot = boot
        self._fleet = fleet
        self._clock = clock

    async def buy(self, spec: FleetSpec, offer: Offer, confirm: Confirm = agree) -> Worker:
        """The new worker, as soon as it exists. Raises as `Provider.create` does."""

        number = _number(offer)
        identity = make_identity(self._clock.now())
        order = self._order(spec, offer, identity)
        request = self._request(order, offer, identity)
        try:
            answer = await self._account.create(number, request, self._before(order, confirm))
        except _Bought as bought:
            return bought.worker
        except Rejected as error:
            return await self._refused(order, offer, error)
        except NoResponse as error:
            if error.may_have_executed:
                return await self._look_for(order, error)
            self._intents.drop(order.id)
            raise
        except ConfigError:
            self._intents.drop(order.id)
            raise
        instance = _contract(answer)
        if instance is None:
            return await self._look_for(order, NoResponse("vast.ai sold a machine and did not say which"))
        self._intents.resolve(order, instance)
        return new_worker(order, instance, offer.gpu)

    def _before(self, order: Order, confirm: Confirm) -> Callable[[], Awaitable[None]]:
        """What is done directly before each time that vast.ai is asked for it."""
        sent = False

        async def on_send() -> None:
            nonlocal sent
            again = sent
            if again:  # it was refused for now, and may have bought all the same
                with suppress(ProviderError):
                    if (worker := await self._find(order)) is not None:
                        raise _Bought(worker)
            sent = True
            self._intents.write(order)
            try:
                await confirm(order.intent)
            except BaseException as error:
                if not again:  # nothing was sent
                    self._intents.drop(order.id)
                elif isinstance(error, LlmhostError):
                    why = "vast.ai refused the purchase for now, and lists nothing of it yet"
                    raise PurchaseUnclear(f"{error.message}; {why}", hint=error.hint) from error
                raise

        return on_send

    def _order(self, spec: FleetSpec, offer: Offer, identity: Identity) -> Order:
        now = self._clock.now()
        order = new_order(now, secrets.randbits(32))
        return Order(
            id=order,
            label=label_of(self._fleet, order),
            offer=offer.id,
            machine=offer.machine,
            written=now,
            uptime=self._clock.monotonic(),
            model=spec.model,
            engine=ENGINE,
            token=identity.token,
            certificate=identity.certificate,
            price=offer.price_per_hour,
            owner=self._account.owner,
            fingerprint=self._account.fingerprint or None,
        )

    def _request(self, order: Order, offer: Offer, identity: Identity) -> Mapping[str, Any]:
        """What the SDK is to ask for. An SSH runtype runs the onstart text instead of the image's program."""
        boot = replace(self._boot, model=order.model, price=offer.price_per_hour)
        return {
            "image": self._settings.image,
            "disk": self._settings.disk,
            "env": environment(boot, identity),
            "label": order.label,
            "onstart_cmd": onstart(),
            "ssh": True,
            "direct": True,
            # Without it, an offer that was taken leaves a stopped instance that is paid for.
            "cancel_unavail": True,
            "price": offer.bid,
        }

    async def _refused(self, order: Order, offer: Offer, error: Rejected) -> Worker:
        """Nothing was bought, as far as is known now; should the refusal name an instance all the same, it is
        ended. What is not vast.ai's, but a proxy's, says nothing: then the worker, should it appear."""
        if not error.is_vasts_own and _contract(error.body) is None:
            return await self._look_for(order, error)
        instance = _contract(error.body)
        if instance is not None:
            self._intents.resolve(order, instance)
            await self._undo(order, instance, error)
        else:
            self._intents.refuse(order, self._clock)
        if instance is not None or _is_gone(error):
            gone = OfferGone(f"offer {offer.id} is gone: {error.message}")
            gone.in_doubt = instance is None
            raise gone from error
        error.in_doubt = True
        raise error

    async def _undo(self, order: Order, instance: int, reason: Rejected) -> None:
        """One with another label stays on record, so that it is shown and `down` ends it."""
        try:
            row = await self._account.instance(instance)
            if row is not None and read(Row, row, "an instance").label not in {order.label, None, ""}:
                return
            await end_instance(self._account, self._listing, self._clock, instance, self._settings.pace)
        except LlmhostError as error:
            raise PurchaseUnclear(
                f"{reason.message}; it made {worker_id(instance)} all the same, which could not be ended:"
                f" {error.message}",
                hint="`llmhost down` ends it",
            ) from error
        self._intents.drop(order.id)

    async def _look_for(self, order: Order, error: NoResponse | Rejected) -> Worker:
        """The worker that was bought although vast.ai did not say so."""
        for pause in _LOOKS:
            await self._clock.sleep(pause)
            with suppress(ProviderError):
                if (worker := await self._find(order)) is not None:
                    return worker
        raise PurchaseUnclear(
            f"{error.message}; whether a machine was bought is not known, and none is listed yet",
            hint="`llmhost status` shows it as soon as vast.ai lists it; `llmhost down --orphans` cleans up",
        ) from error

    async def _find(self, order: Order) -> Worker | None:
        mine = [row for row in await self._listing.rows() if row.label == order.label]
        workers = read_fleet(mine, self._fleet, self._intents.kept, now=self._clock.now())
        return workers[0] if workers else None


def _number(offer: Offer) -> int:
    if not (offer.id.isascii() and offer.id.isdigit()):
        raise ProviderError(f"{offer.id!r} is no offer of vast.ai", hint="see `llmhost offers`")
    return int(offer.id)


def _contract(answer: Mapping[str, object]) -> int | None:
    """The number of the instance that an answer names."""
    number = answer.get("new_contract")
    if isinstance(number, str) and _NUMBER.fullmatch(number):
        number = int(number)
    whole = isinstance(number, int) and not isinstance(number, bool)
    return number if whole and isinstance(number, int) and number > 0 else None


def _is_gone(error: Rejected) -> bool:
    return error.status == _GONE or "no_such_ask" in f"{error.reason} {error.message}"


def new_worker(order: Order, instance: int, gpu: str = "") -> Worker:
    """As the list will show it; until it does, its price is the offer's."""
    name = worker_id(instance)
    return Worker(
        id=name,
        provider=PROVIDER,
        state=WorkerState.STARTING,
        url=None,
        price_per_hour=order.price or 0.0,
        started=float(int(order.written)),
        model=order.model,
        engine=ENGINE,
        gpu=gpu,
        log=f"llmhost logs {name}",
        token=order.token,
        certificate=order.certificate,
        stage="rented",
        machine=order.machine,
        payer=order.payer,
    )
