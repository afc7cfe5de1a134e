"""What the fleet's commands give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmhost.fleet.models import Account, Worker
from llmhost.fleet.plan import Plan
from llmhost.fleet.spending import Spending

__all__ = ["DownResult", "Failure", "FleetStatus", "UpResult"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that could not be done. `worker` is an id, None where there is no worker yet."""

    worker: str | None
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class UpResult:
    """`workers` is what the fleet has now; where `up` waited, each that is not READY has its `failed`.

    `replaced` are workers that failed and in whose place another one was bought. `spent` is USD by worker, as
    in `Spending`.
    """

    plan: Plan
    workers: tuple[Worker, ...]
    failed: tuple[Failure, ...]
    warnings: tuple[str, ...]
    replaced: tuple[Failure, ...] = ()
    spent: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DownResult:
    """`destroyed` are confirmed gone; `remaining` still exist and are paid for. `intents` are purchases that
    bought nothing and are forgotten now. `paused`: an autoscaler is paused by it.
    """

    destroyed: tuple[str, ...]
    remaining: tuple[Worker, ...]
    failed: tuple[Failure, ...]
    warnings: tuple[str, ...]
    intents: tuple[str, ...] = ()
    paused: bool = False


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """Every worker that exists; READY ones answered a moment ago. `paused` is since when the autoscaler is
    paused, Unix seconds; None where it is not. `doubts` are purchases of which it is not known whether they
    bought a worker that is not shown."""

    workers: tuple[Worker, ...]
    warnings: tuple[str, ...]
    spending: Spending = field(default_factory=Spending)
    account: Account | None = None
    paused: float | None = None
    doubts: tuple[Failure, ...] = ()
