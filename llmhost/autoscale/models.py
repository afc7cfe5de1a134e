"""Values of the autoscaler: what it is told, and what it decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
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
    """What the operator wants. Times in seconds.

    `target_utilization_max` and `_min` are shares of what the workers can deliver: the band to stay in. At
    most the share `max_late_ratio` of the questions should wait longer than `queue_time`; a backlog is to be
    worked off within `drain_backlog_within`, or one boot. `places` is how many questions one worker answers
    at once. `tokens_per_s` of a whole worker and `tokens_per_answer` stand in until they are measured,
    `boot_seconds` until it is learned.
    """

    min_gpus: int = 1
    max_gpus: int = 8
    windows: tuple[Window, ...] = ()
    zone: tzinfo = UTC
    queue_time: float = 5.0
    max_late_ratio: float = 0.05
    drain_backlog_within: float | None = None
    target_utilization_max: float = 0.85
    target_utilization_min: float = 0.8
    down_after: float = 300.0
    scale_to_zero_after: float = 1800.0
    max_step: int = 32
    max_failures: int = 3
    places: int = 1
    tokens_per_s: float = 50.0
    tokens_per_answer: float = 200.0
    boot_seconds: float = 180.0


@dataclass(frozen=True, slots=True)
class Metrics:
    """What happened until now. `boot_seconds` is what a worker takes to its first answer, as learned;
    `failures` are when purchases came to nothing, Unix seconds.
    """

    traffic: Traffic
    boot_seconds: float | None = None
    failures: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ScaledWorker:
    """A healthy worker. `tokens_per_s` is of all its places together, None where not measured. A `draining`
    one takes no more questions. `price` is USD an hour.
    """

    id: str
    ready: bool
    price: float
    started: float
    tokens_per_s: float | None = None
    draining: bool = False


@dataclass(frozen=True, slots=True)
class FleetView:
    """`lost` workers were broken and are gone: they are to be replaced while they are needed.

    `price` is what one more is expected to cost, USD an hour. `funds` None: money is no limit.
    """

    workers: tuple[ScaledWorker, ...] = ()
    lost: int = 0
    price: float = 0.0
    funds: Funds | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What a decision rests on. `waiting` are questions beyond the places of the ready workers, and
    `queue_seconds` how long they wait; infinite where there is nobody to work on them.
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
    """Why not everything that was wanted is done."""

    kind: Literal["metrics", "budget", "failures"]
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class ScaleDecision:
    """From how many workers to how many. `buy` so many, after `revive`: those that were draining and are
    wanted again. `drain` is in the order in which they go, worst first.
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


# Numbers as the autoscaler says them. Pure.


def count(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def questions(waiting: int) -> str:
    return "1 question waits" if waiting == 1 else f"{waiting:,} questions wait"


def rate(tokens: float) -> str:
    return f"{tokens:,.1f} tokens/s" if 0 < tokens < 10 else f"{tokens:,.0f} tokens/s"


def time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:,.0f} minutes"


#: in the order in which a step does them: a broken worker is ended, one that has drained too; one that drains
#: is kept after all, others are bought, or take no more questions and are ended when they are empty
ActionKind = Literal["repair", "finish", "revive", "buy", "drain", "end"]


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

    decision: ScaleDecision
    actions: tuple[ScaleAction, ...] = ()
    warnings: tuple[str, ...] = ()
    error: LlmhostError | None = None
