"""The fleet's own model, asked for llmhost itself: what it is asked and costs, and whether it is good enough.

A judge and a condenser are both such. What users wrote goes in as JSON strings between marks that JSON text
cannot close.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from llmhost.answering.answerer import engine_answer
from llmhost.answering.cache_session import WarnOnce
from llmhost.cache.calibration import Tally, served_error
from llmhost.engines.engine import ChatRequest
from llmhost.engines.pool import Collected, Pool
from llmhost.errors import StoreError
from llmhost.ledger.events import Outcome, engine_event
from llmhost.ledger.ledger import Ledger
from llmhost.store.client import text, translate_errors

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from redis.asyncio import Redis

__all__ = [
    "ENOUGH_PRECISION",
    "EvaluationStore",
    "FleetModel",
    "low_end",
    "nearest_rank",
    "quoted",
    "why_unfit",
]

#: share; a model that is to widen what the cache serves must be at least as sure as the cache's own threshold
ENOUGH_PRECISION = 0.9


@dataclass(slots=True)
class FleetModel:
    """Asks `model`, each time within `timeout` seconds. `slots` is how many requests a worker serves at once.
    Its calls are counted in the ledger, apart from questions; None: nowhere.
    """

    pool: Pool
    model: str
    timeout: float
    slots: int
    ledger: Ledger | None
    warn_once: WarnOnce
    clock: Callable[[], float] = time.time

    async def _ask(self, request: ChatRequest, outcome: Outcome) -> str | None:
        """What it said; None where it did not end in time. The time of a worker is paid for, whatever it
        answered. Raises LlmhostError where there is no worker to ask, or none gave a whole answer.
        """
        began, collected = time.perf_counter(), Collected()
        try:
            async with (
                asyncio.timeout(self.timeout),
                aclosing(self.pool.stream(request)) as events,
            ):
                async for event in events:
                    collected.add(event)
        except TimeoutError:
            return None
        finally:
            await self._count(outcome, collected, began)
        return collected.text

    async def _count(self, outcome: Outcome, collected: Collected, began: float) -> None:
        if collected.assigned is None or self.ledger is None:
            return
        answer = engine_answer(collected, self.model, self.clock(), self.slots)
        elapsed_ms = (time.perf_counter() - began) * 1000
        try:
            await self.ledger.record(engine_event(self.clock(), outcome, elapsed_ms, [answer]))
        except StoreError as error:
            self.warn_once.warn(f"the work of the {outcome.value} is not counted", error)


def quoted(text: str) -> str:
    """As a JSON string that holds no mark of ours; other scripts stay as they are, so that it can read
    them.
    """
    quoted = json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False)
    return quoted.replace("<", "\\u003c").replace(">", "\\u003e")


# How good it is.


class _Evaluation(Protocol):
    """Numbers are 0 or more, and finite. `precision` is the share of what a model gave that was right, `low`
    the lower end of its 95 % interval; None where it gave nothing."""

    @property
    def model(self) -> str: ...
    @property
    def precision(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def p95_ms(self) -> float: ...


E = TypeVar("E", bound=_Evaluation)


class EvaluationStore(Generic[E]):
    """The last measurement of a fleet's model at one task, without a lifetime; `kind` is a dataclass.

    Every method raises StoreError where Redis is away or will not write.
    """

    def __init__(self, client: Redis, key: str, kind: type[E]) -> None:
        self._client = client
        self._key = key
        self._kind = kind

    async def write(self, evaluation: E) -> None:
        """Takes the place of the one before."""
        fields = _fields(evaluation).items()
        with translate_errors():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.delete(self._key)
            pipeline.hset(self._key, mapping={name: "" if value is None else value for name, value in fields})
            await pipeline.execute()

    async def read(self, model: str) -> E | None:
        """The measurement of this model; None where there is none, or none that makes sense."""
        with translate_errors():
            row = await self._client.hgetall(self._key)
        values = {text(name): text(value) or None for name, value in row.items()}
        try:
            found: E = _adapter(self._kind).validate_python(values)
        except ValueError:
            return None
        numbers = [value for value in _fields(found).values() if isinstance(value, int | float)]
        return found if found.model == model and all(0 <= number < math.inf for number in numbers) else None


def _fields(evaluation: Any) -> dict[str, Any]:
    return asdict(evaluation)


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def low_end(right: int, of: int) -> float:
    """The lower end of the 95 % interval of a share."""
    high = served_error(Tally(right, of - right)).high
    return 0.0 if high is None else 1 - high


def why_unfit(evaluation: _Evaluation, given: str, count: int, *, nothing: str, timeout: float) -> str | None:
    """Why a model is not good enough, for people; None where it is. It has `given`, "yes verdicts" for
    example, `count` times; `nothing` says so where it gave none. `timeout` in seconds."""
    low = evaluation.low
    if low is None or not count:
        return nothing
    if low < ENOUGH_PRECISION:
        few = "too few to say: " if low_end(count, count) < ENOUGH_PRECISION else ""
        found = f"{few}of its {count} {given} {_percent(evaluation.precision or 0.0)} were right"
        return f"{found}, at least {_percent(low)} with 95 % certainty; 90 % is wanted"
    if not evaluation.p95_ms < timeout * 1000:
        return f"1 of 20 {given.split()[-1]} takes longer than {timeout:g} s, or does not come"
    return None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
