"""What the autoscaler keeps between two steps, in the hash `FleetKeys.scale`, for good.

Beside the fields of the fleet's lease (llmhost/store/lease.py) it holds, as JSON: `failures`, `sights` (the
observations of the workers), `price`, and the newest steps as ``decision:{number}``; `decisions` is the
number of the last one. `paused` is the registry's (llmhost/fleet/registry.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field, Strict, TypeAdapter

from llmhost.store.client import is_sharded, load_script, text, translate_errors
from llmhost.store.keys import FleetKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["History", "ScaleState", "ScaleStateStore", "StepRecord", "WorkerObservation"]

#: seconds; what failed longer ago says nothing about the next purchase
_FAILURES_KEPT = 86_400.0

#: steps; three days of one every five minutes
_STEPS_KEPT = 1_000

#: what a step is filed under; longer numbers are not exact in Lua
_STEP = re.compile(r"decision:([1-9][0-9]{0,14})")

# What another program may have written there is refused: strict types, and finite numbers.
_Flag = Annotated[bool, Strict()]
_Text = Annotated[str, Strict()]
_Count = Annotated[int, Strict(), Field(ge=0)]
_Amount = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
#: Unix seconds until the year 5138; far later ones are no dates
_Moment = Annotated[float, Strict(), Field(ge=0, le=1e11, allow_inf_nan=False)]
_Number = Annotated[int, Strict()] | Annotated[float, Strict(), Field(allow_inf_nan=False)] | None

_T = TypeVar("_T")
_Absent = TypeVar("_Absent")


@dataclass(frozen=True, slots=True)
class WorkerObservation:
    """How a worker was last seen. `said` is its last status, which it has had since `since`; `answered`: it
    has answered once; `silent_since` is None while it answers. Unix seconds. `heard` are checksums of every
    status while it boots: a repeated one is no progress. `given_up`: it is to be destroyed, and was counted
    as a failure where it is one.
    """

    said: _Text
    since: _Moment
    answered: _Flag = False
    silent_since: _Moment | None = None
    heard: tuple[_Count, ...] = ()
    given_up: _Flag = False


@dataclass(frozen=True, slots=True)
class ScaleState:
    """`failures` are when purchases failed, Unix seconds; `price` is what the last one cost, USD an hour.
    `damaged` names what could not be read and counts as absent.
    """

    failures: tuple[float, ...] = ()
    observations: Mapping[str, WorkerObservation] = field(default_factory=dict)
    price: float | None = None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step, as it is shown later. `at` is Unix seconds; `blocked` the kind of what blocked it.

    What is observed and not finite is kept as None.
    """

    at: _Moment
    decision: _Text
    before: _Count
    after: _Count
    reason: _Text
    observed: dict[_Text, _Number] = field(default_factory=dict)
    actions: tuple[dict[_Text, _Text | _Flag | None], ...] = ()
    blocked: _Text | None = None

    def summary(self) -> dict[str, Any]:
        """What was decided, as JSON for programs, without what it was decided by."""
        return {
            "at": self.at,
            "decision": self.decision,
            "from": self.before,
            "to": self.after,
            "reason": self.reason,
            "blocked": self.blocked,
        }


class History(tuple[StepRecord, ...]):
    """Steps, newest last. `damaged` is how many more there are that cannot be read."""

    damaged: int = 0


_PRICE = TypeAdapter[float | None](_Amount | None)
_FAILURES = TypeAdapter(tuple[_Moment, ...])
_OBJECT = TypeAdapter(dict[str, Any])
_OBSERVATION = TypeAdapter(WorkerObservation)
_OBSERVATIONS = TypeAdapter(dict[str, WorkerObservation])
_RECORD = TypeAdapter(StepRecord)


class ScaleStateStore:
    """The state of one fleet's autoscaler. Every method raises StoreError and nothing else."""

    def __init__(self, client: Redis, fleet: str) -> None:
        self._client = client
        self._key = FleetKeys(fleet, is_sharded(client)).scale
        self._save = client.register_script(load_script("llmhost.autoscale", "save_state.lua"))

    async def load(self) -> ScaleState:
        """What was saved last; an empty state where there is none."""
        with translate_errors():
            failures, observations, price = await self._client.hmget(
                self._key, ["failures", "sights", "price"]
            )
        damaged: list[str] = []
        return ScaleState(
            failures=_read("failures", _FAILURES, failures, (), damaged),
            observations=_observations(observations, damaged),
            price=_read("price", _PRICE, price, None, damaged),
            damaged=tuple(damaged),
        )

    async def save(self, state: ScaleState, record: StepRecord, fence: int) -> bool:
        """Saves both. False, and nothing is saved, where another holder has taken the lock since.

        Workers that `state` does not name are forgotten, and failures of more than a day before `record`.
        """
        failures = tuple(at for at in state.failures if abs(record.at - at) <= _FAILURES_KEPT)
        parts = (
            _FAILURES.dump_json(failures),
            _OBSERVATIONS.dump_json(dict(state.observations)),
            _PRICE.dump_json(state.price),
            _RECORD.dump_json(record),
        )
        with translate_errors():
            done = await self._save(keys=[self._key], args=[fence, *parts, _STEPS_KEPT])
        return bool(done)

    async def history(self, count: int) -> History:
        """The newest `count` steps."""
        with translate_errors():
            names = [text(name) for name in await self._client.hkeys(self._key)]
            numbers = sorted(int(found[1]) for name in names if (found := _STEP.fullmatch(name)))
            newest = [f"decision:{number}" for number in numbers[-count:]] if count > 0 else []
            rows = await self._client.hmget(self._key, newest) if newest else []
        damaged: list[str] = []
        read = [_read(name, _RECORD, raw, None, damaged) for name, raw in zip(newest, rows, strict=True)]
        history = History(record for record in read if record is not None)
        history.damaged = len(damaged)
        return history


def _read(
    name: str, adapter: TypeAdapter[_T], raw: bytes | str | None, absent: _Absent, damaged: list[str]
) -> _T | _Absent:
    """What the JSON says; `absent` where there is none, or none that is valid."""
    if raw is None:
        return absent
    try:
        return adapter.validate_json(raw)
    except ValueError:
        damaged.append(name)
        return absent


def _observations(raw: bytes | str | None, damaged: list[str]) -> dict[str, WorkerObservation]:
    """One that is damaged leaves the others."""
    found = {}
    for worker, data in (_read("sights", _OBJECT, raw, None, damaged) or {}).items():
        try:
            found[worker] = _OBSERVATION.validate_python(data)
        except ValueError:
            damaged.append(f"observation of {worker}")
    return found
