"""Measures a set-up: what a hit and a miss take, and how much its workers answer.

What is measured is what serves: the path of a question, with a cache of its own, and the fleet's engines.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from llmhost.answering.question import Event, Question, Reply
from llmhost.engines.engine import ChatRequest, Delta, Done
from llmhost.engines.pool import Upstream
from llmhost.errors import EngineError, EngineRefused, LlmhostError
from llmhost.trust.fleet_model import nearest_rank

__all__ = [
    "PUBLISHED",
    "QUICK",
    "Bench",
    "BenchReport",
    "Measured",
    "WorkerMeasured",
    "Workload",
    "percentile_of",
]

#: what the paper that the project began with says: milliseconds, and questions a minute of one RTX 4090
PUBLISHED: dict[str, tuple[float, float]] = {
    "embedding": (10.0, 50.0),
    "Redis": (1.0, 5.0),
    "exact hit": (50.0, 100.0),
    "semantic hit": (50.0, 100.0),
    "miss": (3_000.0, 8_000.0),
    "worker": (50.0, 100.0),
}

#: whose capitals are asked for: each question has an answer of its own, in two wordings
_PLACES = (
    *("France", "Italy", "Spain", "Poland", "Norway", "Sweden", "Finland", "Denmark", "Germany", "Austria"),
    *("Greece", "Hungary", "Romania", "Bulgaria", "Croatia", "Serbia", "Turkey", "Egypt", "Kenya", "Ghana"),
    *("Nigeria", "Morocco", "Tunisia", "Ethiopia", "Japan", "China", "Vietnam", "Thailand", "Nepal", "Iran"),
    *("Canada", "Mexico", "Cuba", "Peru", "Chile", "Bolivia", "Brazil", "Argentina", "Ireland", "Portugal"),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """How often each thing is measured. `rounds` are the answers of each slot of a worker."""

    hits: int = 40
    trips: int = 200
    misses: int = 5
    alone: int = 3
    rounds: int = 3


QUICK = Workload(hits=10, trips=50, misses=1, alone=1, rounds=1)


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of `count` measurements; None where there was none. `asked` is how often it was tried."""

    name: str
    asked: int
    count: int
    p50_ms: float | None
    p95_ms: float | None
    published_ms: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class WorkerMeasured:
    """`first_token_ms` and `tokens_per_s` are medians of answers one after the other, `queries_per_minute` is
    with all slots of all workers in use. None where it gave no answer; `failure` says why."""

    worker: str
    gpu: str
    first_token_ms: float | None
    tokens_per_s: float | None
    queries_per_minute: float | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class BenchReport:
    """`queries_per_minute` is of the fleet; None without a worker. `notes` say what could not be measured."""

    rows: Sequence[Measured]
    workers: Sequence[WorkerMeasured]
    queries_per_minute: float | None
    slots: int
    notes: Sequence[str]


def percentile_of(samples: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile; None without samples."""
    return nearest_rank(sorted(samples), share) if samples else None


@dataclass(eq=False, slots=True, kw_only=True)
class Bench:
    """`ask` is the path of a question with a cache that is empty, `store` puts an answer into that cache, and
    `embed` and `ping` are what its name says. `request` is sent to workers, which serve `slots` at once.
    `tell` gets what is being measured, and how much of it is done, 0..1.
    """

    workload: Workload
    make: Callable[[str], Question]
    ask: Callable[[Question], AsyncGenerator[Event, None]]
    store: Callable[[Question, str], Awaitable[None]]
    embed: Callable[[str], Awaitable[object]]
    ping: Callable[[], Awaitable[object]]
    request: ChatRequest
    slots: int
    tell: Callable[[str, float], None] = lambda _, __: None
    clock: Callable[[], float] = time.perf_counter
    notes: list[str] = field(default_factory=list)

    async def run(self, upstreams: Sequence[Upstream], *, cached: bool) -> BenchReport:
        """Measures everything; what fails is a note. Without `cached`, the cache's part is left out."""
        rows = [await self._times("embedding", self.workload.hits, lambda n: self.embed(_stored(n)))]
        if cached:
            rows.append(await self._times("Redis", self.workload.trips, lambda _: self.ping()))
            rows += await self._hits()
        if upstreams:
            rows.append(await self._misses())
        else:
            self.notes.append("no worker answers: run `llmhost up`")
        alone = [await self._alone(upstream, at / len(upstreams)) for at, upstream in enumerate(upstreams)]
        together = await self._together(upstreams)
        workers = [
            WorkerMeasured(one.worker_id, one.gpu, first, speed, rate, failure or missing)
            for one, (first, speed, failure), (rate, missing) in zip(upstreams, alone, together, strict=True)
        ]
        rates = [one.queries_per_minute for one in workers if one.queries_per_minute is not None]
        return BenchReport(rows, workers, sum(rates) if rates else None, self.slots, self.notes)

    async def _times(self, name: str, count: int, run: Callable[[int], Awaitable[object]]) -> Measured:
        """How long `run` takes; the first time, which loads what is needed, does not count."""
        samples: list[float] = []
        try:
            await run(0)
            for number in range(count):
                self.tell(name, number / count)
                began = self.clock()
                await run(number)
                samples.append((self.clock() - began) * 1000)
        except LlmhostError as error:
            self.notes.append(f"{name}: {error.message}")
        return _measured(name, count, samples)

    async def _hits(self) -> list[Measured]:
        """Exact hits, and then semantic ones, each in a wording that was not asked before."""
        try:
            for number in range(self.workload.hits):
                await self.store(self.make(_stored(number)), "It is a city.")
        except LlmhostError as error:
            self.notes.append(f"hits: {error.message}")
            return []
        await self._asked(self.make(_reworded(0)))  # loads the models
        return [
            await self._sourced("exact hit", "exact", _stored, self.workload.hits),
            await self._sourced("semantic hit", "semantic", _reworded, self.workload.hits),
        ]

    async def _misses(self) -> Measured:
        return await self._sourced("miss", "engine", _new, self.workload.misses)

    async def _sourced(self, name: str, source: str, wording: Callable[[int], str], count: int) -> Measured:
        """Only what came from there counts."""
        samples: list[float] = []
        for number in range(count):
            self.tell(name, number / count)
            came_from, taken = await self._asked(self.make(wording(number)))
            if came_from == source:
                samples.append(taken)
        return _measured(name, count, samples)

    async def _asked(self, question: Question) -> tuple[str, float]:
        """Where the answer came from, and after how many milliseconds it was complete."""
        began = self.clock()
        try:
            async with aclosing(self.ask(question)) as events:
                async for event in events:
                    if isinstance(event, Reply):
                        return event.source, (self.clock() - began) * 1000
        except LlmhostError as error:
            if error.message not in self.notes:
                self.notes.append(error.message)
        return "", 0.0

    async def _alone(self, upstream: Upstream, done: float) -> tuple[float | None, float | None, str]:
        """First token and tokens a second of a worker that answers one request at a time, medians."""
        self.tell("workers", done)
        firsts, speeds = [], []
        try:
            for number in range(self.workload.alone + 1):  # the first one warms it up
                first, speed = await self._stream(upstream)
                if number:
                    firsts.append(first)
                    speeds += [speed] if speed is not None else []
        except (EngineError, EngineRefused) as error:
            return None, None, error.message
        return percentile_of(firsts, 0.5), percentile_of(speeds, 0.5), ""

    async def _stream(self, upstream: Upstream) -> tuple[float, float | None]:
        """Milliseconds to the first token, and tokens a second after it; None where they are not told."""
        began, first, done = self.clock(), 0.0, None
        async with aclosing(upstream.engine.chat(self.request)) as events:
            async for event in events:
                if isinstance(event, Delta) and not first:
                    first = self.clock()
                elif isinstance(event, Done):
                    done = event
        end = self.clock()
        tokens = done.completion_tokens - 1 if done is not None else 0
        speed = tokens / (end - first) if first and tokens > 0 and end > first else None
        return ((first or end) - began) * 1000, speed

    async def _together(self, upstreams: Sequence[Upstream]) -> list[tuple[float | None, str]]:
        """Answers a minute of each worker, while all slots of all workers are in use."""
        if not upstreams:
            return []
        total, finished = len(upstreams) * self.slots * self.workload.rounds, 0

        async def slot(upstream: Upstream) -> int:
            nonlocal finished
            for _ in range(self.workload.rounds):
                self.tell("fleet", finished / total)
                await self._stream(upstream)
                finished += 1
            return self.workload.rounds

        async def worker(upstream: Upstream) -> tuple[float | None, str]:
            began = self.clock()
            try:
                answers = await asyncio.gather(*(slot(upstream) for _ in range(self.slots)))
            except (EngineError, EngineRefused) as error:
                return None, error.message
            return sum(answers) / (self.clock() - began) * 60, ""

        return list(await asyncio.gather(*(worker(upstream) for upstream in upstreams)))


def _measured(name: str, asked: int, samples: Sequence[float]) -> Measured:
    p50, p95 = (percentile_of(samples, share) for share in (0.5, 0.95))
    return Measured(name, asked, len(samples), p50, p95, PUBLISHED.get(name))


def _stored(number: int) -> str:
    return f"What is the capital of {_PLACES[number % len(_PLACES)]}?"


def _reworded(number: int) -> str:
    return f"Which city is the capital of {_PLACES[number % len(_PLACES)]}?"


def _new(number: int) -> str:
    return f"Name one thing that people in {_PLACES[-1 - number % len(_PLACES)]} like to eat."
