"""An instance as vast.ai lists it, read as a worker of ours. Pure.

A row may hold anything. What is not what vast.ai documents raises ProviderError, so that a machine that
costs money is never overlooked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llmhost.errors import ProviderError
from llmhost.fleet.models import Account, Charge, SshTarget, Worker, WorkerState
from llmhost.fleet.providers.vast.faults import clean
from llmhost.fleet.providers.vast.identity import FRONT_PORT, WorkerCredentials, read_environment

__all__ = [
    "ENGINE",
    "PROVIDER",
    "Fields",
    "Row",
    "as_row",
    "gpu_of",
    "label_of",
    "new_order",
    "number_in",
    "number_of",
    "order_in",
    "order_of",
    "ordered_at",
    "read_account",
    "read_charges",
    "read_fleet",
    "read_instance",
    "ssh_of",
    "storage_price",
    "worker_id",
]


# Values out of untrusted JSON. Pure.
#
# Each is what it should be, or a ProviderError names it: what is malformed must never look like nothing.


Row = Mapping[str, object]

_LARGEST_ID = 2**63 - 1  #: what a database gives a row


def as_row(value: object, what: str) -> Row:
    """`value`, a JSON object. Raises ProviderError."""
    if not isinstance(value, Mapping):
        raise ProviderError(f"vast.ai's answer cannot be read: {what} is no object")
    return value


@dataclass(frozen=True, slots=True)
class Fields:
    """One JSON object and what it is called. What is missing or null is None; what is wrong is an error."""

    row: Row
    what: str

    def id(self, name: str = "id") -> int:
        """A positive whole number that must be there."""
        value = self.row.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LARGEST_ID:
            raise self.wrong(name, "a positive whole number")
        return value

    def number(self, name: str) -> float | None:
        """A finite number, 0 or more."""
        value = self.signed(name)
        if value is not None and value < 0:
            raise self.wrong(name, "a number, 0 or more")
        return value

    def needed(self, name: str) -> float:
        """A finite number, 0 or more, that must be there."""
        value = self.number(name)
        if value is None:
            raise self.wrong(name, "a number, 0 or more")
        return value

    def signed(self, name: str) -> float | None:
        """A finite number."""
        value = self.row.get(name)
        if value is None:
            return None
        try:
            number = float(value) if isinstance(value, int | float) else math.nan
        except OverflowError:
            number = math.inf
        if isinstance(value, bool) or not math.isfinite(number):
            raise self.wrong(name, "a number")
        return number

    def text(self, name: str) -> str | None:
        value = self.row.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def part(self, name: str) -> Row | None:
        """An object inside this one."""
        value = self.row.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(name, "an object")
        return value

    def wrong(self, name: str, wanted: str) -> ProviderError:
        return ProviderError(f"vast.ai's answer cannot be read: {name} of {self.what} is not {wanted}")


# The label of an instance: whose it is, and when it was ordered. Pure.
#
# ``llmhost/{fleet}/{unix seconds}-{8 hex}``. The last part names the order: it is unique to one purchase,
# so that after a crash the instance can be found, and its seconds are our own clock's.


_ORDER = re.compile(r"(\d{9,11})-[0-9a-f]{8}")


def new_order(now: float, chance: int) -> str:
    """The name of an order made `now`, Unix seconds; `chance` tells orders of one second apart."""
    return f"{int(now):09d}-{chance & 0xFFFFFFFF:08x}"


def label_of(fleet: str, order: str) -> str:
    return f"llmhost/{fleet}/{order}"


def order_in(label: str | None, fleet: str) -> str | None:
    """What stands for the order in a label of this fleet; None where the label is not this fleet's."""
    prefix = label_of(fleet, "")
    return label[len(prefix) :] if label is not None and label.startswith(prefix) else None


def ordered_at(order: str) -> float | None:
    """Unix seconds; None where `order` is nothing that llmhost made."""
    match = _ORDER.fullmatch(order)
    return float(match.group(1)) if match else None


PROVIDER = "vast"
ENGINE = "ollama"  #: the only one that vast.ai's workers run
_HOURS_A_MONTH = 720.0  #: disk is priced by 30 days: what vast.ai's own examples come to
_SSH_PORT = 22
_LAST_PORT = 65535

#: actual_status -> how far it has come, as long as it may still become a worker
_STAGES = {None: "rented", "created": "rented", "scheduling": "rented", "running": "installing"}
#: actual_status -> why it will never be one
_OVER = {
    "exited": "its container has ended",
    "unknown": "its host does not report any more",
    "offline": "its host is offline",
    "stopped": "it was stopped; its disk is still paid for",
    "frozen": "it was paused; its disk is still paid for",
}
_BROKEN = re.compile(r"OCI runtime|error|failed", re.IGNORECASE)
_ID = re.compile(r"vast-([1-9]\d{0,17})")
_SECRET = ("LLMHOST_TOKEN", "LLMHOST_KEY")  #: variables that a daemon's complaint may repeat
_PORT = re.compile(r"[0-9]{1,5}")
_HOST = re.compile(r"[0-9A-Za-z.:-]{1,253}")


class _Condition(NamedTuple):
    state: WorkerState
    stage: str
    detail: str


def worker_id(number: int) -> str:
    """What a worker is called whose instance has this number."""
    return f"{PROVIDER}-{number}"


def number_in(worker: str) -> int | None:
    """The number of the instance that a worker is; None where the name is no worker's of vast.ai."""
    match = _ID.fullmatch(worker)
    return int(match.group(1)) if match else None


def number_of(row: Row) -> int:
    """The number of the instance that a row is about. Raises ProviderError."""
    return Fields(row, "an instance").id()


def order_of(row: Row, fleet: str) -> str | None:
    """The order that an instance was bought for; None where it is not this fleet's."""
    return order_in(_fields(row).text("label"), fleet)


def read_fleet(
    rows: Iterable[Row], fleet: str, kept: Callable[[str], WorkerCredentials | None]
) -> tuple[Worker, ...]:
    """The workers of this fleet among all instances of the account, oldest first; `kept` is what this
    machine remembers of an order. Of two instances with one label the older counts, and the other failed.

    Raises:
        ProviderError: something in a row is not what vast.ai documents.
    """
    first: dict[str, int] = {}
    workers = []
    for row in sorted(rows, key=number_of):
        if (order := order_of(row, fleet)) is None:
            continue
        number = number_of(row)
        counts = first.setdefault(order, number)
        workers.append(read_instance(row, order, kept, None if counts == number else counts))
    return tuple(sorted(workers, key=lambda worker: worker.started))


def read_instance(
    row: Row, order: str, kept: Callable[[str], WorkerCredentials | None], twin_of: int | None = None
) -> Worker:
    """The worker that an instance is. `kept` is asked where the row does not have its environment;
    `twin_of` is the older instance that was bought for the same order.

    Raises:
        ProviderError: something in the row is not what vast.ai documents.
    """
    fields = _fields(row)
    environment = _environment(fields)
    facts = read_environment(environment)
    if facts.token is None:
        facts = kept(order) or facts
    condition = _condition(fields, [environment.get(name, "") for name in _SECRET])
    if twin_of is not None:
        detail = f"bought twice for one order: {worker_id(twin_of)} is the one that counts"
        condition = _Condition(WorkerState.FAILED, "failed", detail)
    running = fields.text("actual_status") == "running" and condition.stage != "outbid"
    name = worker_id(fields.id())
    return Worker(
        id=name,
        provider=PROVIDER,
        state=condition.state,
        url=_url(fields) if condition.state is WorkerState.STARTING else None,
        price_per_hour=fields.needed("dph_total"),
        started=_started(fields, order),
        model=facts.model,
        engine=ENGINE,
        gpu=gpu_of(fields),
        detail=condition.detail,
        log=f"llmhost logs {name}",
        token=facts.token,
        certificate=facts.certificate,
        stage=condition.stage,
        machine=_machine(fields),
        billing=None if running else storage_price(fields, fields.number("disk_space")),
    )


def ssh_of(row: Row) -> SshTarget | None:
    """Where the instance's shell is: at its own port 22, else at vast.ai's relay; None where nowhere yet."""
    fields = _fields(row)
    host, port = _host(fields, "public_ipaddr"), _mapped_port(fields, _SSH_PORT)
    if host is None or port is None:
        host, port = _host(fields, "ssh_host"), _port(fields, "ssh_port", fields.row.get("ssh_port"))
    return None if host is None or port is None else SshTarget("root", host, port)


def gpu_of(fields: Fields) -> str:
    """The name of its GPU, with how many there are where it is more than one."""
    name, count = clean(fields.text("gpu_name") or ""), fields.number("num_gpus") or 1
    return f"{count:g}x {name}" if name and count > 1 else name


def storage_price(fields: Fields, disk: float | None) -> float | None:
    """USD an hour for the `disk` GB, running or not; None where the row does not say."""
    hourly, monthly = fields.number("storage_total_cost"), fields.number("storage_cost")
    if hourly is not None or monthly is None or disk is None:
        return hourly
    return monthly * disk / _HOURS_A_MONTH


def _fields(row: Row) -> Fields:
    return Fields(row, f"instance {number_of(row)}")


def _started(fields: Fields, order: str) -> float:
    """By our own clock where llmhost made the label, else by vast.ai's."""
    started = ordered_at(order)
    return fields.needed("start_date") if started is None else started


def _machine(fields: Fields) -> str:
    return "" if fields.row.get("machine_id") is None else str(fields.id("machine_id"))


def _condition(fields: Fields, secrets: Sequence[str]) -> _Condition:
    status = fields.text("actual_status")
    status_message = clean(fields.text("status_msg") or "", secrets)
    if all(fields.text(name) == "stopped" for name in ("cur_state", "intended_status", "next_state")):
        if fields.row.get("is_bid") is True:
            return _Condition(
                WorkerState.FAILED, "outbid", "outbid: another customer pays more for its machine"
            )
        return _Condition(WorkerState.FAILED, "stopped", _OVER["stopped"])
    if status in _OVER:
        return _Condition(
            WorkerState.FAILED,
            status or "",
            f"{_OVER[status or '']}{status_message and f': {status_message}'}",
        )
    if status != "running" and _BROKEN.search(status_message):
        return _Condition(WorkerState.FAILED, "failed", status_message)
    return _Condition(WorkerState.STARTING, _STAGES.get(status, "booting"), status_message)


def _environment(fields: Fields) -> Mapping[str, str]:
    """The container's environment, which vast.ai gives back as pairs."""
    raw = fields.row.get("extra_env") or ()
    pairs = raw.items() if isinstance(raw, Mapping) else raw
    if isinstance(pairs, str) or not isinstance(pairs, Collection) or not all(map(_is_pair, pairs)):
        raise fields.wrong("extra_env", "a list of names and values")
    return {name: value for name, value, *_ in pairs}


def _is_pair(pair: object) -> bool:
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) < 2:
        return False
    return isinstance(pair[0], str) and isinstance(pair[1], str)


def _url(fields: Fields) -> str | None:
    """Where the worker's front door is, once vast.ai has mapped it."""
    host, port = _host(fields, "public_ipaddr"), _mapped_port(fields, FRONT_PORT)
    if host is None or port is None or fields.text("actual_status") != "running":
        return None
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _host(fields: Fields, name: str) -> str | None:
    host = (fields.text(name) or "").strip()
    if host and not _HOST.fullmatch(host):
        raise fields.wrong(name, "an address")
    return host or None


def _mapped_port(fields: Fields, port: int) -> int | None:
    """Where a port of the container is reached from outside; None where it is not (yet)."""
    places = (fields.part("ports") or {}).get(f"{port}/tcp")
    if places is None:
        return None
    if not isinstance(places, Sequence) or isinstance(places, str):
        raise fields.wrong("ports", "a map of lists")
    for place in places:
        if not isinstance(place, Mapping):
            raise fields.wrong("ports", "a map of lists of places")
        if (found := _port(fields, "ports", place.get("HostPort"))) is not None:
            return found
    return None


def _port(fields: Fields, name: str, value: object) -> int | None:
    """A number of a port, which vast.ai writes as text or as a number."""
    if value is None or value == "":
        return None
    number = int(value) if isinstance(value, str) and _PORT.fullmatch(value) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= _LAST_PORT:
        raise fields.wrong(name, "a port")
    return number


# vast.ai's bill and account, read. Pure.


_SOURCE = re.compile(r"instance-([1-9]\d{0,17})")


def read_charges(rows: Sequence[object], fleet: str) -> tuple[Charge, ...]:
    """What was billed for this fleet's instances, which are known by their label. Raises ProviderError."""
    charges = (_charge(as_row(row, "a charge"), fleet) for row in rows)
    return tuple(charge for charge in charges if charge is not None)


def read_account(answer: object) -> Account:
    """The credit, or the balance where there is no word of credit; either may be below 0.

    Raises:
        ProviderError: neither is a number.
    """
    fields = Fields(as_row(answer, "the account"), "the account")
    credit = fields.signed("credit")
    credit = fields.signed("balance") if credit is None else credit
    if credit is None:
        raise fields.wrong("credit", "a number")
    return Account(credit)


def _charge(row: Row, fleet: str) -> Charge | None:
    source = Fields(row, "a charge").text("source") or ""
    fields = Fields(row, f"the charge for {source[:40]!r}")
    label = Fields(fields.part("metadata") or {}, fields.what).text("label")
    if order_in(label, fleet) is None:
        return None
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise ProviderError(f"vast.ai's answer cannot be read: {fields.what} names no instance")
    usd = fields.signed("amount")  # what is given back is below 0
    if usd is None:
        raise fields.wrong("amount", "a number")
    return Charge(worker_id(int(match.group(1))), usd, fields.needed("start"), fields.needed("end"))
