"""What the autoscaler remembers between two steps, in one hash, for good.

Beside the fields of the fleet's lease (llmhost/store/lease.py) it holds, as JSON: `failures`, `sights`,
`price`, and the newest decisions as ``decision:{number}``; `decisions` is the number of the last one.
Beside them `paused` says since when the autoscaler rests.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from llmhost.store.client import load_script, text, translate_errors
from llmhost.store.keys import FleetKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["History", "ScaleState", "ScaleStateStore", "StepRecord", "WorkerObservation"]

#: seconds; what failed longer ago says nothing about the next purchase
_FAILURES_KEPT = 86_400.0

#: decisions; three days of one every five minutes
_DECISIONS_KEPT = 1_000

#: what a decision is filed under; longer numbers are not exact in Lua
_DECISION = re.compile(r"decision:([1-9][0-9]{0,14})")

#: what reading JSON that anybody may have written can raise
_DAMAGE = (ValueError, TypeError, KeyError, OverflowError, RecursionError)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class WorkerObservation:
    """How a worker was last seen. `said` is the last thing that it told about itself, which it has said since
    `since`; `answered`: it has answered once; `silent_since` is None while it answers. Unix seconds.
    `heard` are checksums of all that it told while it boots: what is told again is no news. `given_up`: it
    is to be ended, and was counted as a failure where it is one.
    """

    said: str
    since: float
    answered: bool = False
    silent_since: float | None = None
    heard: tuple[int, ...] = ()
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class ScaleState:
    """`failures` are when purchases came to nothing, Unix seconds; `price` is what the last one cost, USD an
    hour. `paused` is since when the autoscaler rests, because somebody took the fleet down. `damaged` names
    what could not be read and counts as forgotten.
    """

    failures: tuple[float, ...] = ()
    sights: Mapping[str, WorkerObservation] = field(default_factory=dict)
    price: float | None = None
    paused: float | None = None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One decision, as it is shown later. `at` is Unix seconds; `blocked` the kind of what stood in its way.

    What is observed and not finite is remembered as None.
    """

    at: float
    decision: str
    before: int
    after: int
    reason: str
    observed: Mapping[str, float | int | None] = field(default_factory=dict)
    actions: tuple[Mapping[str, str | bool | None], ...] = ()
    blocked: str | None = None


class History(tuple[StepRecord, ...]):
    """Decisions, newest last. `damaged` is how many more there are that cannot be read."""

    damaged: int = 0


class ScaleStateStore:
    """The memory of one fleet's autoscaler. Every method raises StoreError and nothing else."""

    def __init__(self, client: Redis, fleet: str) -> None:
        self._client = client
        self._key = FleetKeys(fleet).scale
        self._remember = client.register_script(load_script("llmhost.fleet.lua", "remember.lua"))

    async def recall(self) -> ScaleState:
        """What was remembered last; nothing where there is nothing."""
        with translate_errors():
            failures, sights, price, paused = await self._client.hmget(
                self._key, ["failures", "sights", "price", "paused"]
            )
        damaged: list[str] = []
        return ScaleState(
            failures=_read("failures", failures, _failures, (), damaged),
            sights=_sights(_read("sights", sights, _mapping, {}, damaged), damaged),
            price=_read("price", price, _optional_amount, None, damaged),
            # Whatever it says, somebody has written it.
            paused=_read("paused", paused, _amount, None if paused is None else 0.0, damaged),
            damaged=tuple(damaged),
        )

    async def remember(self, memory: ScaleState, record: StepRecord, fence: int) -> bool:
        """Writes both down. False, and nothing is written, where somebody else has taken the lock since.

        Workers that `memory` does not name are forgotten, and failures of more than a day before `record`.
        """
        failures = [at for at in memory.failures if abs(record.at - at) <= _FAILURES_KEPT]
        sights = {worker: asdict(sight) for worker, sight in memory.sights.items()}
        parts = map(_encode, (failures, sights, memory.price, asdict(record)))
        with translate_errors():
            done = await self._remember(keys=[self._key], args=[fence, *parts, _DECISIONS_KEPT])
        return bool(done)

    async def history(self, count: int) -> History:
        """The newest `count` decisions."""
        with translate_errors():
            names = [text(name) for name in await self._client.hkeys(self._key)]
            numbers = sorted(int(found[1]) for name in names if (found := _DECISION.fullmatch(name)))
            newest = [f"decision:{number}" for number in numbers[-count:]] if count > 0 else []
            rows = await self._client.hmget(self._key, newest) if newest else []
        damaged: list[str] = []
        read = [_read(name, raw, _record, None, damaged) for name, raw in zip(newest, rows, strict=True)]
        past = History(record for record in read if record is not None)
        past.damaged = len(damaged)
        return past


def _encode(value: object) -> str:
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: object) -> object:
    """The same without numbers that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _read(
    name: str, raw: bytes | str | None, decode: Callable[[Any], _T], absent: _T, damaged: list[str]
) -> _T:
    """What `decode` makes of the JSON; `absent` where there is none, or none that makes sense."""
    if raw is None:
        return absent
    try:
        return decode(json.loads(raw))
    except _DAMAGE:
        damaged.append(name)
        return absent


def _sights(data: Mapping[str, Any], damaged: list[str]) -> Mapping[str, WorkerObservation]:
    found: dict[str, WorkerObservation] = {}
    for worker, raw in data.items():
        try:
            found[worker] = _sight(raw)
        except _DAMAGE:
            damaged.append(f"sight of {worker}")
    return found


def _sight(data: Any) -> WorkerObservation:
    return WorkerObservation(
        said=_of(str, data["said"]),
        since=_amount(data["since"]),
        answered=_of(bool, data["answered"]),
        silent_since=_optional_amount(data["silent_since"]),
        heard=tuple(_count(checksum) for checksum in _of(list, data["heard"])),
        given_up=_of(bool, data["given_up"]),
    )


def _record(data: Any) -> StepRecord:
    return StepRecord(
        at=_amount(data["at"]),
        decision=_of(str, data["decision"]),
        before=_count(data["before"]),
        after=_count(data["after"]),
        reason=_of(str, data["reason"]),
        observed={name: _number(value) for name, value in _mapping(data["observed"]).items()},
        actions=tuple(_action(action) for action in _of(list, data["actions"])),
        blocked=None if data["blocked"] is None else _of(str, data["blocked"]),
    )


def _action(data: Any) -> Mapping[str, str | bool | None]:
    return {
        name: value if value is None else _of((str, bool), value) for name, value in _mapping(data).items()
    }


def _failures(data: Any) -> tuple[float, ...]:
    return tuple(_amount(at) for at in _of(list, data))


def _mapping(data: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _of(dict, data)
    return found


def _number(data: Any) -> float | int | None:
    """As it is; True is no number in JSON, though it is one in Python."""
    if data is None:
        return None
    if isinstance(data, bool) or not math.isfinite(_of((int, float), data)):
        raise ValueError(data)
    found: float | int = data
    return found


def _amount(data: Any) -> float:
    number = _number(data)
    if number is None or number < 0:
        raise ValueError(data)
    return float(number)


def _optional_amount(data: Any) -> float | None:
    return None if data is None else _amount(data)


def _count(data: Any) -> int:
    if not _amount(data).is_integer():
        raise ValueError(data)
    return int(data)


def _of(kind: type | tuple[type, ...], data: Any) -> Any:
    if not isinstance(data, kind):
        raise TypeError(data)
    return data
