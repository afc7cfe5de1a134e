"""What was asked of the workers and what they delivered, as all processes that ask count it together.

Only questions that the cache did not answer are in it: only they load a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["BUCKET", "KEPT", "Traffic", "Work", "WorkerTraffic"]

#: seconds; a minute, the shortest stretch that is judged, is four of them
BUCKET = 15

#: seconds; the longest that a decision looks back
KEPT = 3 * 3600


@dataclass(frozen=True, slots=True)
class Work:
    """What one answer took: tokens generated, and the seconds that the engine needed for it, the prompt's
    included. `gpu` is what it ran on, empty where unknown.
    """

    tokens: int
    seconds: float
    model: str = ""
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class WorkerTraffic:
    """One worker. `in_flight` are the questions that it works on and those that wait for it.

    `tokens_per_s` is what it generates with all its places in use; None until it was measured.
    `last_answer` is when it last finished one, Unix seconds.
    """

    in_flight: int = 0
    tokens_per_s: float | None = None
    last_answer: float | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Read at `at`; counted without a gap since `since`. Unix seconds, by the clock of Redis.

    The counts are by the start of their bucket of `BUCKET` seconds: `asked` are questions, also those that
    no worker could take; `answered` those that were finished, and `tokens` what was generated for them.
    `waiting` are the questions before all workers: their slots are taken, or there is none.
    """

    at: float
    since: float
    asked: Mapping[int, int] = field(default_factory=dict)
    answered: Mapping[int, int] = field(default_factory=dict)
    tokens: Mapping[int, int] = field(default_factory=dict)
    workers: Mapping[str, WorkerTraffic] = field(default_factory=dict)
    draining: frozenset[str] = frozenset()
    waiting: int = 0
