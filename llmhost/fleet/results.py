"""What the fleet's commands give back."""

from __future__ import annotations

from dataclasses import dataclass

from llmhost.fleet.models import Worker
from llmhost.fleet.plan import Plan

__all__ = ["DownResult", "Failure", "FleetStatus", "UpResult"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that could not be done. `worker` is an id, None where there is no worker yet."""

    worker: str | None
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class UpResult:
    """`workers` is what the fleet has now; where `up` waited, each that is not READY has its `failed`."""

    plan: Plan
    workers: tuple[Worker, ...]
    failed: tuple[Failure, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DownResult:
    """`destroyed` are confirmed gone; `remaining` still exist and are paid for."""

    destroyed: tuple[str, ...]
    remaining: tuple[Worker, ...]
    failed: tuple[Failure, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """Every worker that exists; READY ones answered a moment ago."""

    workers: tuple[Worker, ...]
    warnings: tuple[str, ...]
