"""Values of a fleet: what is wanted, what there is, what is for rent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

__all__ = [
    "Account",
    "FleetSpec",
    "Intent",
    "Market",
    "Offer",
    "Payer",
    "Registered",
    "SshTarget",
    "Stay",
    "Worker",
    "WorkerState",
]


class WorkerState(StrEnum):
    STARTING = "starting"  # exists, does not answer yet
    READY = "ready"  # a one-token answer came back through the front door
    FAILED = "failed"  # will never become ready; still listed, so still paid for
    GONE = "gone"  # the provider says that it no longer exists


@dataclass(frozen=True, slots=True)
class Stay:
    """How long a worker is expected to be rented, and what it downloads first, which the cost of a token
    depends on. `slots` is how many questions it works on at once."""

    seconds: float = 86_400.0
    image_gb: float = 0.0
    model_gb: float = 0.0
    slots: int = 1


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """What the operator wants. `price_per_hour` is USD for one worker of provider local or static; `rents`
    says whether the provider's workers cost real money; a machine that failed is then not rented for
    `ban_for` seconds."""

    name: str
    provider: str
    gpus: int
    max_gpus: int
    engine: str
    model: str
    price_per_hour: float = 0.0
    rents: bool = False
    stay: Stay = Stay()
    ban_for: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine that a provider has for rent. It can be bought once.

    `price_per_hour` is USD for all of it while it runs, the disk included, traffic not; `reliability` is
    0..1. `machine` is the provider's name for the computer, which may be offered in several parts.
    `performance` is the provider's own measure, `bandwidth` that of the memory of one GPU in GB/s; 0 where
    unknown. `bid` is what to bid, USD an hour; None where the price is fixed. `download` is Mbit/s, 0 where
    unknown; `download_price` USD per GB, None where unknown. `contract` is seconds that it can be rented for;
    None for ever.
    """

    id: str
    gpu: str
    price_per_hour: float
    reliability: float
    region: str
    machine: str = ""
    performance: float = 0.0
    bid: float | None = None
    download: float = 0.0
    download_price: float | None = None
    cuda: float = 0.0
    verified: bool = True
    bandwidth: float = 0.0
    contract: float | None = None


@dataclass(frozen=True, slots=True)
class Market:
    """The offers that fit, in no order, and why others do not: how many each filter rejected.

    An offer is counted under the first filter that it fails.
    """

    offers: tuple[Offer, ...]
    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Payer:
    """Who pays for a rented worker: `account` as its provider calls them, `fingerprint` of a key of theirs.
    Empty where it is not known."""

    account: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker as its provider reports it.

    `price_per_hour` is USD while it runs. `billing` is what it is billed at this moment, where that
    differs: a rented machine that boots or was stopped pays for its disk alone. `started` is Unix
    seconds, from which it is paid for; it never changes. `stage` is one word for how far it has come.
    `detail` is a sentence for people: why it failed, or what it is doing. `log` is where to read more,
    a path or a command. `machine` is the provider's name for the computer. `certificate` is the PEM of
    the only certificate that this worker may show. `digest` names the weights that it serves, where its
    provider knows them. `ends` is when its provider stops it for good, Unix seconds; None where unknown.
    `nameless`: it stands for something that the provider lists without saying which worker it is.
    """

    id: str
    provider: str
    state: WorkerState
    url: str | None
    price_per_hour: float
    started: float
    model: str
    engine: str
    gpu: str = ""
    detail: str = ""
    log: str = ""
    token: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    stage: str = ""
    machine: str = ""
    billing: float | None = None
    digest: str = ""
    ends: float | None = None
    payer: Payer = Payer()
    nameless: bool = False

    @property
    def burn(self) -> float:
        """USD an hour that it costs at this moment."""
        return self.price_per_hour if self.billing is None else self.billing

    @property
    def rate(self) -> float:
        """USD an hour that it goes on to cost: one that boots its whole price, one that failed its burn."""
        return self.burn if self.state is WorkerState.FAILED else self.price_per_hour


@dataclass(frozen=True, slots=True)
class Registered:
    """What is on record: the workers, oldest first, the ids whose record cannot be read or verified, and who
    pays for each of them, as far as its record says so. `bought` are those whose buyer wrote the record,
    `begun` the purchases that were begun on some machine a short time ago."""

    workers: tuple[Worker, ...] = ()
    damaged: tuple[str, ...] = ()
    payers: Mapping[str, Payer] = field(default_factory=dict)
    bought: frozenset[str] = frozenset()
    begun: tuple[Intent, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(worker.id for worker in self.workers) | frozenset(self.damaged)

    def without(self, ids: Collection[str]) -> Registered:
        """The same without the workers named."""
        return replace(
            self,
            workers=tuple(worker for worker in self.workers if worker.id not in ids),
            damaged=tuple(worker for worker in self.damaged if worker not in ids),
        )


@dataclass(frozen=True, slots=True)
class Account:
    """What is left to pay with, USD."""

    credit: float


@dataclass(frozen=True, slots=True)
class Intent:
    """A purchase that was begun and of which no worker is listed. `written` is Unix seconds, `uptime` what
    the monotonic clock said then, 0 where that is not known. `worker` is what the provider said that it sold,
    empty where it did not say; `refused`: it said that it does not sell it. `counts_for` is how many seconds
    more it counts for the limits as if it had bought a worker: 0 where that worker is listed itself, and
    where one would be listed by now. `hidden`: why the provider's list never proves that it bought nothing,
    and `hint` what to do; empty where it does in time."""

    id: str
    offer: str
    machine: str
    written: float
    uptime: float = 0.0
    hidden: str = ""
    hint: str | None = None
    model: str = ""
    worker: str = ""
    price_per_hour: float = 0.0
    payer: Payer = Payer()
    refused: bool = False
    counts_for: float = 0.0


@dataclass(frozen=True, slots=True)
class SshTarget:
    user: str
    host: str
    port: int
