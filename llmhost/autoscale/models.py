"""Values of the autoscaler: its inputs, and what it decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from typing import Literal

from llmhost.config.hours import Window
from llmhost.engines.traffic import Traffic
from llmhost.errors import LlmhostError
from llmhost.fleet.plan import Funds

__all__ = [
    "ActionKind",
    "Blocked",
    "FleetView",
    "Metrics",
    "Observed",
    "ScaleAction",
    "ScaleDecision",
    "ScaleSpec",
    "ScaledWorker",
    "StepResult",
    "count",
    "questions",
    "rate",
    "time",
]


@dataclass(frozen=True, slots=True)
class ScaleSpec:
    """What the operator wants: the keys of `scale` in the configuration, which has their meaning and their
    defaults. Times in seconds.

    `slots` is how many questions one worker works on at once. `tokens_per_s` of a whole worker and
    `tokens_per_answer` stand in until they are measured, `boot_seconds` until it is learned.
    """

    min_gpus: int
    max_gpus: int
    windows: tuple[Window, ...]
    zone: tzinfo
    queue_time: float
    max_late_ratio: float
    drain_backlog_within: float | None
    target_utilization_max: float
    target_utilization_min: float
    down_after: float
    scale_to_zero_after: float
    max_step: int
    max_failures: int
    slots: int
    tokens_per_s: float
    tokens_per_answer: float
    boot_seconds: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """What was measured until now. `boot_seconds` is what a worker takes to its first answer, as learned;
    `failures` are when purchases failed, Unix seconds.
    """

    traffic: Traffic
    boot_seconds: float | None = None
    failures: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ScaledWorker:
    """A healthy worker. `tokens_per_s` is of all its slots together, None where not measured. It gets no more
    questions while it is `draining`. `price` is USD an hour.
    """

    id: str
    ready: bool
    price: float
    started: float
    tokens_per_s: float | None = None
    draining: bool = False


@dataclass(frozen=True, slots=True)
class FleetView:
    """`lost` workers were broken and are destroyed: they are to be replaced while they are needed.

    `price` is what one more is expected to cost, USD an hour, and `traffic` what its downloads cost beside,
    once, USD. `funds` None: money is no limit.
    """

    workers: tuple[ScaledWorker, ...] = ()
    lost: int = 0
    price: float = 0.0
    funds: Funds | None = None
    traffic: float = 0.0


@dataclass(frozen=True, slots=True)
class Observed:
    """What a decision rests on. `waiting` are questions beyond the slots of the ready workers, and
    `queue_seconds` how long they wait; infinite where no worker is ready.
    """

    demand_tokens_per_s: float = 0.0
    demand_long_tokens_per_s: float = 0.0
    demand_peak_tokens_per_s: float = 0.0
    supply_tokens_per_s: float = 0.0
    in_flight: int = 0
    waiting: int = 0
    queue_seconds: float = 0.0
    tokens_per_answer: float = 0.0
    watched_seconds: float = 0.0
    idle_seconds: float | None = None
    ready: int = 0
    booting: int = 0
    draining: int = 0
    lost: int = 0
    floor: int = 0
    ceiling: int = 0
    boot_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why less is done than is needed."""

    kind: Literal["metrics", "budget", "failures"]
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class ScaleDecision:
    """From how many workers to how many. `buy` that many, after `revive`: those that were draining and are
    needed again. `drain` is in the order in which they go, worst first.
    """

    action: Literal["up", "down", "hold"]
    before: int
    after: int
    reason: str
    observed: Observed
    buy: int = 0
    revive: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    blocked: Blocked | None = None


#: in the order in which a step does them: a broken worker is destroyed, one that has drained too; one that
#: drains is kept after all, others are bought, or get no more questions and are destroyed when they are empty
ActionKind = Literal["repair", "finish", "revive", "buy", "drain", "end"]


@dataclass(frozen=True, slots=True)
class ScaleAction:
    """One thing that a step did. `worker` is None where there is none yet. Not `done`: it failed, or was only
    planned.
    """

    kind: ActionKind
    worker: str | None
    detail: str
    done: bool


@dataclass(frozen=True, slots=True)
class StepResult:
    """`error` is why less was done than is needed; it has the exit code. `pause` is since when autoscaling is
    paused, and by what; None where it is not.
    """

    decision: ScaleDecision
    actions: tuple[ScaleAction, ...] = ()
    warnings: tuple[str, ...] = ()
    error: LlmhostError | None = None
    pause: str | None = None


# Numbers as the autoscaler prints them.


def count(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def questions(waiting: int) -> str:
    return f"{waiting:,} question{'' if waiting == 1 else 's'} waiting"


def rate(tokens: float) -> str:
    """Tokens a second, without their unit."""
    return f"{tokens:,.1f}" if 0 < tokens < 10 else f"{tokens:,.0f}"


def time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:,.0f} minutes"
