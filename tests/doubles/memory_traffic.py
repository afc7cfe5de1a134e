"""Traffic that a test makes up: so many questions a second from a moment on.

It keeps the contract of a traffic book (llmhost/autoscale/step.py), with time as the test's clock has it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from llmhost.engines.traffic import BUCKET, Traffic, WorkerTraffic
from llmhost.errors import StoreError
from llmhost.fleet.clock import Clock

#: tokens of every answer
TOKENS = 100


@dataclass
class MemoryTraffic:
    """`in_flight`, `speeds` and `last_answers` are by worker; `error` is what every call raises."""

    clock: Clock
    since: float | None = None
    in_flight_now: dict[str, int] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    last_answers: dict[str, float] = field(default_factory=dict)
    draining: set[str] = field(default_factory=set)
    error: StoreError | None = None
    waiting: int = 0
    rates: list[tuple[float, float]] = field(default_factory=list)

    def ask(self, tokens_per_s: float) -> None:
        """From now on the questions ask for so many tokens a second."""
        self.rates.append((self.clock.now(), tokens_per_s / TOKENS))

    async def read(self, workers: Sequence[str]) -> Traffic:
        self._fail()
        now = self.clock.now()
        self.since = now if self.since is None else min(self.since, now)
        asked = {start: count for start, count in self._buckets(now) if count}
        return Traffic(
            at=now,
            since=self.since,
            asked=asked,
            answered=asked,
            tokens={start: count * TOKENS for start, count in asked.items()},
            workers={name: self._of(name) for name in workers},
            draining=frozenset(self.draining),
            waiting=self.waiting,
        )

    async def drain(self, ids: Iterable[str]) -> None:
        self._fail()
        self.draining |= set(ids)

    async def revive(self, ids: Iterable[str]) -> None:
        self._fail()
        self.draining -= set(ids)

    async def in_flight(self, ids: Sequence[str]) -> Mapping[str, int]:
        self._fail()
        return {name: self.in_flight_now.get(name, 0) for name in ids}

    def _of(self, name: str) -> WorkerTraffic:
        return WorkerTraffic(
            self.in_flight_now.get(name, 0), self.speeds.get(name), self.last_answers.get(name)
        )

    def _buckets(self, now: float) -> Iterable[tuple[int, int]]:
        """Whole questions in each bucket of the last half hour, up to now."""
        first = math.floor((now - 1800) / BUCKET) * BUCKET
        for start in range(first, math.floor(now) + 1, BUCKET):
            end = min(start + BUCKET, now)
            yield start, round(sum(self._between(start, end)))

    def _between(self, start: float, end: float) -> Iterable[float]:
        ends = [begun for begun, _ in self.rates[1:]] + [math.inf]
        for (begun, rate), until in zip(self.rates, ends, strict=False):
            yield rate * max(0.0, min(end, until) - max(start, begun))

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error
