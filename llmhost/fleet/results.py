"""What the fleet's commands give back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llmhost.autoscale.models import Decision
from llmhost.errors import LlmhostError
from llmhost.fleet.models import Account, Worker
from llmhost.fleet.plan import Plan
from llmhost.fleet.spending import Spending

__all__ = ["ActionKind", "DownResult", "Failure", "FleetStatus", "ScaleAction", "StepResult", "UpResult"]

#: in the order in which a step does them: a broken worker is ended, one that has drained too; one that drains
#: is kept after all, others are bought, or take no more questions and are ended when they are empty
ActionKind = Literal["repair", "finish", "revive", "buy", "drain", "end"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that could not be done. `worker` is an id, None where there is no worker yet."""

    worker: str | None
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class UpResult:
    """`workers` is what the fleet has now; where `up` waited, each that is not READY has its `failed`.

    `replaced` are workers that failed and in whose place another one was bought.
    """

    plan: Plan
    workers: tuple[Worker, ...]
    failed: tuple[Failure, ...]
    warnings: tuple[str, ...]
    replaced: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class DownResult:
    """`destroyed` are confirmed gone; `remaining` still exist and are paid for. `intents` are purchases that
    had come to nothing and are forgotten now. `paused`: an autoscaler was told to rest.
    """

    destroyed: tuple[str, ...]
    remaining: tuple[Worker, ...]
    failed: tuple[Failure, ...]
    warnings: tuple[str, ...]
    intents: tuple[str, ...] = ()
    paused: bool = False


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """Every worker that exists; READY ones answered a moment ago."""

    workers: tuple[Worker, ...]
    warnings: tuple[str, ...]
    spending: Spending = field(default_factory=Spending)
    account: Account | None = None


@dataclass(frozen=True, slots=True)
class ScaleAction:
    """One thing that a step of the autoscaler did. `worker` is None where there is none yet. Not `done`: it
    could not be done, or was only planned.
    """

    kind: ActionKind
    worker: str | None
    detail: str
    done: bool


@dataclass(frozen=True, slots=True)
class StepResult:
    """`error` is why not everything that should be done is done; it has the exit code."""

    decision: Decision
    actions: tuple[ScaleAction, ...] = ()
    warnings: tuple[str, ...] = ()
    error: LlmhostError | None = None
