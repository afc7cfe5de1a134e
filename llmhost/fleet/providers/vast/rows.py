"""What vast.ai answers, read: instances as workers of ours, the bill, the account. Pure.

An answer may hold anything. An instance of ours whose row is not what vast.ai documents is read as a worker
that has failed: its number suffices to show it, to count what it costs, and to end it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError

from llmhost.config.fields import FLEET_NAME, UNNAMED_FLEET
from llmhost.errors import ProviderError
from llmhost.fleet.models import Account, SshTarget, Worker, WorkerState
from llmhost.fleet.provider import UNREADABLE
from llmhost.fleet.providers.vast.faults import CONSOLE, clean, well_formed
from llmhost.fleet.providers.vast.identity import (
    FRONT_PORT,
    WorkerCredentials,
    names_workers_variable,
    read_environment,
)
from llmhost.ledger.rentals import Charge

__all__ = [
    "ENGINE",
    "PROVIDER",
    "Answer",
    "Id",
    "Machine",
    "Number",
    "Row",
    "Text",
    "fleet_of_nameless",
    "is_nameless",
    "label_of",
    "may_be_ours",
    "nameless_worker",
    "new_order",
    "number_in",
    "ordered_at",
    "read",
    "read_account",
    "read_charges",
    "read_fleet",
    "ssh_of",
    "unreadable",
    "worker_id",
]

PROVIDER = "vast"
ENGINE = "ollama"  #: the only one that vast.ai's workers run
_HOURS_A_MONTH = 720.0  #: disk is priced by 30 days: what vast.ai's own examples come to
_SSH_PORT = 22
_YEAR_5138 = 1e11  #: Unix seconds; a larger number is none
_MOST_BILLED = 1e9  #: USD of one item; a larger number is none

#: actual_status -> how far it has come, as long as it may still become a worker
_STAGES = {None: "rented", "created": "rented", "scheduling": "rented", "running": "installing"}
#: actual_status -> why it will never be one
_OVER = {
    "exited": "its container has ended",
    "stopped": "it was stopped; its disk is still paid for",
    "frozen": "it was paused; it is still paid for in full",
}
#: actual_status of a host whose heartbeat does not arrive: that says nothing about the worker, which is asked
_SILENT = {"unknown": "its host does not report to vast.ai", "offline": "its host is offline"}
#: actual_status in which the GPU is billed too
_BILLED_IN_FULL = {"running", "unknown", "frozen"}
#: what ends a boot; "error" and "failed" also occur in progress ("retrying after an error", "libgpg-error0")
_BROKEN = "OCI runtime create failed"
_ID = re.compile(r"vast-([1-9]\d{0,17})")
_HOURS = re.compile(r"(\d{1,7}(?:\.\d{1,9})?) hours at ", re.ASCII)
_DAY = 86_400.0
_SECRET = ("LLMHOST_TOKEN", "LLMHOST_KEY")  #: variables that a daemon's complaint may repeat
_ORDER = re.compile(r"(\d{9,11})-[0-9a-f]{8}")

# The shapes of vast.ai's answers. What is missing or null is None, unless it is needed.


def _port(value: object) -> object:
    """vast.ai writes a port as text or as a number, and none as empty text."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value):
        return int(value)
    return None if value == "" else value


def _pairs(value: object) -> object:
    """The container's environment, which vast.ai gives back as pairs, or as an object. One that is odd hides
    no other: a value that is no text is an empty one, and what has no name is left out."""
    if isinstance(value, dict):
        value = list(value.items())
    if not isinstance(value, list):
        return value
    pairs = []
    for pair in value:
        match pair:
            case [str(name), str(text), *_]:
                pairs.append((name, text))
            case [str(name), *_]:
                pairs.append((name, ""))
    return pairs


def _label(value: object) -> object:
    """None where it is no text, as another program may have written it."""
    return well_formed(value) if isinstance(value, str) else None


def _ports(value: object) -> object:
    """Some languages write an object without members as an empty list."""
    return None if value == [] else value


Id = Annotated[int, Field(gt=0, lt=2**63)]
Number = Annotated[FiniteFloat, Field(ge=0)]
Text = Annotated[str, BeforeValidator(well_formed)]
_Port = Annotated[Annotated[int, Field(gt=0, lt=2**16)] | None, BeforeValidator(_port)]
_Host = Annotated[Text, Field(pattern=r"^\s*([0-9A-Za-z.:-]{1,253}\s*)?$")]


class Answer(BaseModel):
    """An object in one of vast.ai's answers, of which other fields do not matter."""

    model_config = ConfigDict(strict=True, frozen=True)


class Row(Answer):
    """An instance as it is listed, with all its fields, of which these two alone are known to be right."""

    model_config = ConfigDict(extra="allow")

    id: Id
    label: Annotated[str | None, BeforeValidator(_label)] = None

    @property
    def fleet(self) -> str | None:
        """The fleet that the label names, or `UNNAMED_FLEET`; None where llmhost did not buy the instance."""
        named = _fleet_and_order(self.label)[0]
        return UNNAMED_FLEET if named is None and self._has_our_environment else named

    def order(self, fleet: str) -> str | None:
        """The order that the instance was bought for; None where it is not this fleet's."""
        return "" if fleet == self.fleet == UNNAMED_FLEET else _order_in(self.label, fleet)

    @property
    def _has_our_environment(self) -> bool:
        """Anybody who has the account can change a label; the environment stays what it was bought with."""
        return has_our_environment(self.model_extra)


class _Place(Answer):
    HostPort: _Port = None


class _Addressed(Answer):
    public_ipaddr: _Host | None = None
    ports: Annotated[dict[str, list[_Place] | None] | None, BeforeValidator(_ports)] = None

    def reached(self, port: int) -> tuple[str, int] | None:
        """Where a port of the container is reached from outside; None where it is not (yet)."""
        host = (self.public_ipaddr or "").strip()
        places = (self.ports or {}).get(f"{port}/tcp") or []
        found = [place.HostPort for place in places if place.HostPort is not None]
        return (host, found[0]) if host and found else None


class _Shell(_Addressed):
    ssh_host: _Host | None = None
    ssh_port: _Port = None


class Machine(Answer):
    """What an offer and an instance say alike. `dph_total` is USD an hour, `disk_space` GB."""

    id: Id
    gpu_name: Text | None = None
    num_gpus: Number | None = None
    disk_space: Number | None = None
    storage_cost: Number | None = None
    storage_total_cost: Number | None = None

    @property
    def gpu(self) -> str:
        """The name of its GPU, with how many there are where it is more than one."""
        name, count = clean(self.gpu_name or ""), self.num_gpus or 1
        return f"{count:g}x {name}" if name and count > 1 else name

    def storage_price(self, disk: float | None) -> float | None:
        """USD an hour for the `disk` GB, running or not; None where the row does not say."""
        if self.storage_total_cost is not None or self.storage_cost is None or disk is None:
            return self.storage_total_cost
        return self.storage_cost * disk / _HOURS_A_MONTH


class _Instance(Machine, _Addressed):
    dph_total: Number
    machine_id: Id | None = None
    start_date: Number | None = None
    actual_status: Text | None = None
    cur_state: Text | None = None
    intended_status: Text | None = None
    next_state: Text | None = None
    is_bid: Any = None
    end_date: Any = None
    status_msg: Text | None = None
    extra_env: Annotated[list[tuple[Text, Text]] | None, BeforeValidator(_pairs)] = Field(None, repr=False)

    @property
    def ends(self) -> float | None:
        """When its contract ends, Unix seconds; None where the row does not say: the rest can be read."""
        date = self.end_date
        return float(date) if isinstance(date, int | float) and 0 < date < _YEAR_5138 else None

    def condition(self, secrets: Iterable[str]) -> tuple[WorkerState, str, str]:
        """Its state, its stage, and the reason or the latest news, without any of `secrets`."""
        status, news = self.actual_status, clean(self.status_msg or "", secrets)
        if {self.cur_state, self.intended_status, self.next_state} == {"stopped"}:
            if self.is_bid is True:
                return WorkerState.FAILED, "outbid", "outbid: another customer pays more for its machine"
            return WorkerState.FAILED, "stopped", _OVER["stopped"]
        if status is not None and status in _OVER:
            return WorkerState.FAILED, status, f"{_OVER[status]}: {news}" if news else _OVER[status]
        if status == "created" and _BROKEN in news:
            return WorkerState.FAILED, "failed", news
        if status is not None and status in _SILENT:
            return WorkerState.STARTING, status, _SILENT[status]
        return WorkerState.STARTING, _STAGES.get(status, "booting"), news


class _Credentials(Answer):
    """What suffices to ask a worker."""

    extra_env: Annotated[list[tuple[Text, Text]] | None, BeforeValidator(_pairs)] = Field(None, repr=False)


class _Metadata(Answer):
    label: Annotated[str | None, BeforeValidator(_label)] = None


class _Billed(Answer):
    source: Any = None
    metadata: _Metadata | None = None


class _Charge(Answer):
    source: Annotated[Text, Field(pattern=r"^instance-[1-9][0-9]{0,17}$")]
    amount: FiniteFloat  #: USD; what is given back is below 0
    start: Number  #: the first moment of a day (UTC), as `end` is, which the bill reaches past
    end: Number
    items: Any = None

    def until(self, started: float | None) -> float:
        """Unix seconds up to which an instance is billed that `started` in the time asked for. Its disk is
        billed as long as it exists; without its hours, all of the last day counts as billed."""
        hours = _disk_hours(self.items)
        return self.end + _DAY if started is None or hours is None else started + hours * 3600


def _disk_hours(items: Any) -> float | None:
    texts = [
        str(item.get("description"))
        for item in (items if isinstance(items, list) else ())
        if isinstance(item, dict) and item.get("type") == "disk"
    ]
    found = [_HOURS.match(text) for text in texts]
    return sum(float(match[1]) for match in found if match) if found and all(found) else None


def _traffic(items: Any) -> float:
    """USD of a charge that are for traffic, as far as its items say so."""
    amounts = [
        item.get("amount")
        for item in (items if isinstance(items, list) else ())
        if isinstance(item, dict) and item.get("type") not in ("gpu", "disk")
    ]
    return sum(
        float(amount)
        for amount in amounts
        if isinstance(amount, int | float) and abs(amount) < _MOST_BILLED  # which NaN is not
    )


class _Account(Answer):
    credit: FiniteFloat | None = None
    balance: FiniteFloat | None = None


_A = TypeVar("_A", bound=Answer)


def unreadable(fault: str) -> ProviderError:
    return ProviderError(f"vast.ai's answer cannot be read: {fault}")


def read(shape: type[_A], value: object, what: str) -> _A:
    """`value`, which is `what`, in this shape. Raises ProviderError, which names the first wrong field."""
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = f"{fault['loc'][0]} of {what}" if fault["loc"] else what
        raise unreadable(f"{field}: {fault['msg']}") from None


# The label of an instance: whose it is, and when it was ordered.
#
# ``llmhost/{fleet}/{unix seconds}-{8 hex}``. The last part names the order: it is unique to one purchase,
# so that after a crash the instance can be found, and its seconds are our own clock's.


def new_order(now: float, chance: int) -> str:
    """The name of an order made `now`, Unix seconds; `chance` tells orders of one second apart."""
    return f"{int(now):09d}-{chance & 0xFFFFFFFF:08x}"


def label_of(fleet: str, order: str) -> str:
    return f"llmhost/{fleet}/{order}"


def _fleet_and_order(label: str | None) -> tuple[str | None, str]:
    """The fleet that a label names and what stands for the order. A label may have been edited: one that is
    llmhost's and names no fleet that there could be is of `UNNAMED_FLEET`. None: it is not llmhost's.
    """
    if label is None or not label.startswith("llmhost/"):
        return None, ""
    name, _, order = label.removeprefix("llmhost/").partition("/")
    return (name, order) if FLEET_NAME.fullmatch(name) else (UNNAMED_FLEET, "")


def _order_in(label: str | None, fleet: str) -> str | None:
    """What stands for the order in a label of this fleet; None where the label is not this fleet's."""
    named, order = _fleet_and_order(label)
    return order if named == fleet else None


def ordered_at(order: str) -> float | None:
    """Unix seconds; None where `order` is nothing that llmhost made."""
    match = _ORDER.fullmatch(order)
    return float(match.group(1)) if match else None


# Instances


def worker_id(number: int) -> str:
    """What a worker is called whose instance has this number."""
    return f"{PROVIDER}-{number}"


def number_in(worker: str) -> int | None:
    """The number of the instance that a worker is; None where the name is no worker's of vast.ai."""
    match = _ID.fullmatch(worker)
    return int(match.group(1)) if match else None


def has_our_environment(row: object) -> bool:
    """Whether a row has an environment that llmhost gives its workers: one of its variables suffices, in
    whichever shape vast.ai gives them back."""
    return isinstance(row, Mapping) and names_workers_variable(json.dumps(row.get("extra_env"), default=str))


def may_be_ours(row: object) -> bool:
    """Whether llmhost may have bought what a row is about. Another program's label says that it did not,
    unless the environment is one of llmhost's."""
    label = row.get("label") if isinstance(row, Mapping) else None
    if not isinstance(label, str) or not label or label.startswith("llmhost/"):
        return True
    return has_our_environment(row)


def read_fleet(
    rows: Iterable[Row],
    fleet: str,
    kept: Callable[[str], WorkerCredentials | None],
    *,
    now: float,
    numbers: Mapping[int, str] = {},
    dearest: float = 0.0,
) -> tuple[Worker, ...]:
    """The workers of this fleet among all instances of the account, oldest first. `kept` is what this
    machine remembers of an order: it is asked where a row does not have its environment. Of two instances
    with one label the older counts, and the other failed.

    `numbers` are instances on record with their orders, "" where that is not known: they are ours whatever
    their label says. What cannot be read has failed, and costs as much as the dearest that is known, or
    `dearest`, USD an hour. `now` is Unix seconds.
    """
    first: dict[str, int] = {}
    workers: list[Worker] = []
    unreadable: list[tuple[Row, str, ProviderError]] = []
    for row in sorted(rows, key=lambda row: row.id):
        order, failure = row.order(fleet), None
        if order is None:
            if row.id not in numbers:
                continue
            order = numbers[row.id]
            failure = "relabelled", f"its label was changed to {clean(row.label or '')!r}"
        elif ordered_at(order) is not None and (counts := first.setdefault(order, row.id)) != row.id:
            failure = "failed", f"bought twice for one order: {worker_id(counts)} is the one that counts"
        try:
            workers.append(_read_instance(row, order, kept, failure))
        except ProviderError as error:
            unreadable.append((row, order, error))
    dearest = max([dearest, *(worker.price_per_hour for worker in workers)])
    workers += [_unreadable_worker(row, order, error, kept, dearest, now) for row, order, error in unreadable]
    return tuple(sorted(workers, key=lambda worker: worker.started))


def _unreadable_worker(
    row: Row,
    order: str,
    error: ProviderError,
    kept: Callable[[str], WorkerCredentials | None],
    price: float,
    now: float,
) -> Worker:
    """What is known of an instance whose row cannot be read: it exists, it costs, and perhaps it answers."""
    name, what, facts, address = worker_id(row.id), f"instance {row.id}", kept(order), None
    with suppress(ProviderError):
        facts = facts or read_environment(dict(read(_Credentials, dict(row), what).extra_env or ()))
    with suppress(ProviderError):
        address = read(_Addressed, dict(row), what).reached(FRONT_PORT)
    return Worker(
        id=name,
        provider=PROVIDER,
        state=WorkerState.FAILED,
        url=None if address is None else _url(*address),
        price_per_hour=price,
        started=ordered_at(order) or now,
        model=facts.model if facts else "",
        engine=ENGINE,
        detail=error.message,
        log=f"llmhost logs {name}",
        token=facts.token if facts else None,
        certificate=facts.certificate if facts else None,
        stage=UNREADABLE,
    )


def fleet_of_nameless(row: object) -> str | None:
    """The fleet that the label of a row without a number names; None where llmhost did not make the label."""
    label = row.get("label") if isinstance(row, Mapping) else None
    return _fleet_and_order(label)[0] if isinstance(label, str) else None


def nameless_worker(number: int, price: float, now: float) -> Worker:
    """Stands for the `number`-th row that names no instance: it may cost, and cannot be ended from here."""
    return Worker(
        id=f"{PROVIDER}-unknown-{number}",
        provider=PROVIDER,
        state=WorkerState.FAILED,
        url=None,
        price_per_hour=price,
        started=now,
        model="",
        engine=ENGINE,
        detail=f"vast.ai lists an instance without its number; see {CONSOLE}",
        stage=UNREADABLE,
        nameless=True,
    )


def is_nameless(worker: str) -> bool:
    """Whether this is the name that `nameless_worker` gives."""
    return worker.startswith(f"{PROVIDER}-unknown-")


def _read_instance(
    row: Row,
    order: str,
    kept: Callable[[str], WorkerCredentials | None],
    failure: tuple[str, str] | None,
) -> Worker:
    """`failure` is a stage and the reason why it does not count, whatever the row says."""
    instance = read(_Instance, dict(row), f"instance {row.id}")
    environment = dict(instance.extra_env or ())
    facts = read_environment(environment)
    if facts.token is None:
        facts = kept(order) or facts
    state, stage, detail = instance.condition([environment.get(name, "") for name in _SECRET])
    if failure is not None:
        state, (stage, detail) = WorkerState.FAILED, failure
    runs = instance.actual_status in {"running", *_SILENT}
    in_full = instance.actual_status in _BILLED_IN_FULL and stage != "outbid"
    address = instance.reached(FRONT_PORT) if runs and stage != "failed" else None
    started = ordered_at(order)  # by our own clock where llmhost made the label
    if started is None and (started := instance.start_date) is None:
        raise unreadable(f"start_date of instance {instance.id} is missing")
    name = worker_id(instance.id)
    return Worker(
        id=name,
        provider=PROVIDER,
        state=state,
        url=None if address is None else _url(*address),
        price_per_hour=instance.dph_total,
        started=started,
        model=facts.model,
        engine=ENGINE,
        gpu=instance.gpu,
        detail=detail,
        log=f"llmhost logs {name}",
        token=facts.token,
        certificate=facts.certificate,
        stage=stage,
        machine="" if instance.machine_id is None else str(instance.machine_id),
        billing=None if in_full else instance.storage_price(instance.disk_space),
        ends=instance.ends,
    )


def _url(host: str, port: int) -> str:
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def ssh_of(row: Row) -> SshTarget | None:
    """Where the instance's shell is: at its own port 22, else at vast.ai's relay; None where nowhere yet."""
    shell = read(_Shell, dict(row), f"instance {row.id}")
    relay = ((shell.ssh_host or "").strip(), shell.ssh_port)
    host, port = shell.reached(_SSH_PORT) or relay
    return SshTarget("root", host, port) if host and port is not None else None


# The bill and the account


def read_charges(rows: Sequence[object], fleet: str, numbers: Collection[int] = ()) -> tuple[Charge, ...]:
    """What was billed for this fleet's instances, which are known by their label or are among `numbers`.
    Raises ProviderError."""
    sources = {f"instance-{number}" for number in numbers}
    charges = []
    for row in rows:
        billed = read(_Billed, row, "a charge")
        label = billed.metadata.label if billed.metadata else None
        if str(billed.source) not in sources and _order_in(label, fleet) is None:
            continue
        charge = read(_Charge, row, "a charge")
        worker = worker_id(int(charge.source.removeprefix("instance-")))
        started = ordered_at(_order_in(label, fleet) or "")
        until, traffic = charge.until(started), _traffic(charge.items)
        charges.append(Charge(worker, charge.amount, charge.start, until, traffic))
    return tuple(charges)


def read_account(answer: object) -> Account:
    """The credit, or the balance where there is no word of credit; either may be below 0.

    Raises:
        ProviderError: neither is a number.
    """
    account = read(_Account, answer, "the account")
    credit = account.balance if account.credit is None else account.credit
    if credit is None:
        raise unreadable("credit of the account is missing")
    return Account(credit)
