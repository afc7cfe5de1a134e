"""Values of a fleet: what is wanted, what there is, what is for rent."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["FleetSpec", "Offer", "Rental", "Worker", "WorkerState"]


class WorkerState(StrEnum):
    STARTING = "starting"  # exists, does not answer yet
    READY = "ready"  # a one-token answer came back through the front door
    FAILED = "failed"  # will never become ready; still listed, so still paid for
    GONE = "gone"  # the provider says that it no longer exists


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """What the operator wants. `price_per_hour` is USD for one worker of provider local or static."""

    name: str
    provider: str
    gpus: int
    max_gpus: int
    engine: str
    model: str
    price_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine that a provider has for rent; `price_per_hour` in USD, `reliability` 0..1."""

    id: str
    gpu: str
    price_per_hour: float
    reliability: float
    region: str


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker as its provider reports it.

    `started` is Unix seconds, from which it is paid for. `detail` is a sentence for people: why it
    failed, or what it is doing. `log` is where to read more, a path or a command.
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


@dataclass(frozen=True, slots=True)
class Rental:
    """What one worker cost: USD an hour from `started` until `ended` (None: still running). Unix seconds."""

    worker: str
    price_per_hour: float
    started: float
    ended: float | None = None
