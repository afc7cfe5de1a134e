"""The bench of a set-up."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from doubles.scripted_pool import ScriptedEngine

from llmhost.answering.question import Event, Latency, Question, Reply, Text
from llmhost.cache.models import Answer
from llmhost.engines.engine import ChatRequest, Done, Message
from llmhost.engines.pool import Upstream
from llmhost.errors import EngineRefused, EngineUnavailable, LlmhostError, StoreUnavailable
from llmhost.lab.bench import Bench, Workload, percentile_of

WORK = Workload(hits=4, trips=3, misses=2, alone=3, rounds=2)
DONE = Done("stop", prompt_tokens=7, completion_tokens=3)
ANSWER = Answer("yes", "m", 0.0, 7, 3, "stop", 1.0, 0.0)


class House:
    """A cache that knows one wording of every other capital, and engines; its clock goes on by 1 ms with each
    look at it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stored: set[str] = set()
        self.told: list[tuple[str, float]] = []
        self.fails = False
        self.open = 0  #: answers that were begun and have not ended

    def clock(self) -> float:
        self.now += 0.001
        return self.now

    async def store(self, question: Question, text: str) -> None:
        if self.fails:
            raise StoreUnavailable("Redis is away")
        self.stored.add(question.prompt)

    async def ask(self, question: Question) -> AsyncGenerator[Event, None]:
        stored = question.prompt.replace("Which city is", "What is")
        semantic = stored in self.stored and len(stored) % 2 == 0
        source = "exact" if question.prompt in self.stored else "semantic" if semantic else "engine"
        self.open += 1
        try:
            yield Text("yes")
            yield Reply(ANSWER, source, Latency(1.0))  # type: ignore[arg-type]  # it is one of the three
        finally:
            self.open -= 1

    async def nothing(self, *_: object) -> None:
        pass

    def bench(self, slots: int = 1) -> Bench:
        return Bench(
            workload=WORK,
            make=lambda text: Question(prompt=text, model="m", tenant="t"),
            ask=self.ask,
            store=self.store,
            embed=self.nothing,
            ping=self.nothing,
            request=ChatRequest("m", (Message("user", "hi"),)),
            slots=slots,
            tell=lambda name, share: self.told.append((name, share)),
            clock=self.clock,
        )


def upstream(name: str, *steps: object) -> Upstream:
    return Upstream(name, ScriptedEngine(*steps), 0.5, "RTX 4090")  # type: ignore[arg-type]  # as it takes them


@pytest.fixture
def house() -> House:
    return House()


async def test_each_tier_is_measured_by_what_came_from_it(house: House) -> None:
    report = await house.bench().run([upstream("w", "a", "b", DONE)], cached=True)
    counted = {row.name: (row.count, row.asked) for row in report.rows}
    assert counted["embedding"] == counted["exact hit"] == (4, 4)
    assert counted["Redis"] == (3, 3)
    assert counted["miss"] == (2, 2)
    found, asked = counted["semantic hit"]
    assert 0 < found < asked == 4  # the cache does not take every wording
    assert [row.p50_ms for row in report.rows] == pytest.approx([1.0] * 5)


async def test_an_answer_has_ended_before_the_next_thing_is_measured(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_after: list[int] = []
    asked = Bench._asked

    async def ask_and_look(bench: Bench, question: Question) -> tuple[str, float]:
        measured = await asked(bench, question)
        open_after.append(house.open)
        return measured

    monkeypatch.setattr(Bench, "_asked", ask_and_look)
    await house.bench().run([], cached=True)
    assert open_after
    assert set(open_after) == {0}


async def test_a_worker_is_measured_alone_and_with_all_its_slots(house: House) -> None:
    first, second = upstream("a", "x", "y", "z", DONE), upstream("b", "x", "y", "z", DONE)
    report = await house.bench(slots=3).run([first, second], cached=True)
    a, b = report.workers
    # The clock is looked at when it begins, with the first token and at the end: 2 of 3 tokens in 1 ms.
    assert (a.first_token_ms, a.tokens_per_s) == (pytest.approx(1.0), pytest.approx(2000.0))
    assert len(first.engine.requests) == 4 + 3 * 2  # type: ignore[attr-defined]  # it is a ScriptedEngine
    assert a.queries_per_minute is not None
    assert b.queries_per_minute is not None
    assert report.queries_per_minute == pytest.approx(a.queries_per_minute + b.queries_per_minute)


@pytest.mark.parametrize(
    "error", [EngineUnavailable("connection refused"), EngineRefused("the engine refuses this request")]
)
async def test_a_worker_that_fails_is_named_and_the_others_are_measured(
    house: House, error: LlmhostError
) -> None:
    report = await house.bench().run([upstream("broken", error), upstream("w", "a", DONE)], cached=True)
    failed, works = report.workers
    assert (failed.failure, failed.queries_per_minute) == (error.message, None)
    assert (works.failure, report.queries_per_minute) == ("", works.queries_per_minute)


async def test_without_a_worker_and_without_redis_the_rest_is_measured(house: House) -> None:
    house.fails = True
    report = await house.bench().run([], cached=True)
    assert [row.name for row in report.rows] == ["embedding", "Redis"]
    assert report.notes == ["hits: Redis is away", "no worker answers: run `llmhost up`"]
    assert (report.workers, report.queries_per_minute) == ([], None)


async def test_it_tells_how_far_it_is(house: House) -> None:
    await house.bench().run([upstream("w", "a", DONE)], cached=True)
    names = list(dict.fromkeys(name for name, _ in house.told))
    assert names == ["embedding", "Redis", "exact hit", "semantic hit", "miss", "workers", "fleet"]
    assert all(0 <= share <= 1 for _, share in house.told)


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [([], 0.5, None), ([3.0], 0.95, 3.0), ([3.0, 1.0, 2.0], 0.5, 2.0), (list(range(1, 101)), 0.95, 95)],
)
def test_a_percentile_is_the_nearest_rank(samples: list[float], share: float, expected: float | None) -> None:
    assert percentile_of(samples, share) == expected
