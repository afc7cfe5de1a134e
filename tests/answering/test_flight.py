"""One answer for all who ask the same at once: in this process, and in others on the same Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from doubles.answering_house import ASKED, DONE, House
from doubles.scripted_pool import ScriptedEngine
from doubles.waiting import LONGEST, until
from plugins.cache import MakeCache
from redis.asyncio import Redis

from llmhost.answering.answerer import Answerer
from llmhost.answering.question import Event, Question, Reply, Started, Text
from llmhost.config.models import RedisConfig
from llmhost.engines.engine import Done, Sampling
from llmhost.errors import EngineUnavailable, NoWorkerError, StreamBroken
from llmhost.ledger.events import Outcome
from llmhost.store.client import connect
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from plugins.redis_servers import RedisServer


OtherHouse = Callable[[], House]


@pytest.fixture
async def other_house(
    redis_server: RedisServer, make_cache: MakeCache, keys: NamespaceKeys
) -> AsyncIterator[OtherHouse]:
    """Another process on the same Redis."""
    clients = []

    def build() -> House:
        clients.append(connect(RedisConfig(), socket=redis_server.socket))
        return House(clients[-1], make_cache(client=clients[-1]), keys)

    yield build
    for client in clients:
        await client.aclose()


class Asker:
    """Somebody who asks, and what they have got so far."""

    def __init__(self, answerer: Answerer, question: Question = ASKED) -> None:
        self.events: list[Event] = []
        self.task = asyncio.create_task(self._ask(answerer, question))

    async def _ask(self, answerer: Answerer, question: Question) -> None:
        async with aclosing(answerer.answer(question)) as events:
            async for event in events:
                self.events.append(event)

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Text))

    @property
    def source(self) -> str:
        started = self.events[0]
        assert isinstance(started, Started)
        return started.source

    async def until_text(self, text: str) -> None:
        async def has_it() -> bool:
            return self.text == text

        await until(has_it)

    async def reply(self) -> Reply:
        await asyncio.wait_for(self.task, LONGEST)
        last = self.events[-1]
        assert isinstance(last, Reply)
        return last

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


class Paced:
    """An engine that gives `one `, and the rest when it is told to."""

    def __init__(self, rest: Any = "two", done: Done = DONE) -> None:
        self.go_on = asyncio.Event()
        self.engine = ScriptedEngine("one ", self.go_on, rest, done)


async def two_askers(answerer: Answerer) -> tuple[Asker, Asker]:
    """The second asks when the first has a part of its answer."""
    first = Asker(answerer)
    await first.until_text("one ")
    second = Asker(answerer)
    await second.until_text("one ")
    return first, second


async def until_asked(engine: ScriptedEngine) -> None:
    async def is_asked() -> bool:
        return bool(engine.requests)

    await until(is_asked)


async def test_one_that_asks_the_same_meanwhile_gets_the_answer_as_it_comes(house: House) -> None:
    worker = Paced()
    answerer = house.answerer(worker.engine)
    first, second = await two_askers(answerer)
    worker.go_on.set()
    replies = [await first.reply(), await second.reply()]
    assert [(asker.source, reply.source) for asker, reply in zip((first, second), replies, strict=True)] == [
        ("engine", "engine"), ("exact", "exact"),
    ]  # fmt: skip
    assert (first.text, second.text, len(worker.engine.requests)) == ("one two", "one two", 1)


async def test_each_of_them_is_counted_once_and_the_engine_is_paid_once(house: House) -> None:
    worker = Paced()
    answerer = house.answerer(worker.engine)
    askers = [Asker(answerer) for _ in range(3)]
    await until_asked(worker.engine)
    worker.go_on.set()
    replies = [await asker.reply() for asker in askers]
    totals = await house.totals()
    assert totals.outcomes == {Outcome.MISS: 1, Outcome.EXACT: 2}
    assert sorted(reply.cost_usd > 0 for reply in replies) == [False, False, True]


async def test_when_the_first_leaves_the_others_get_the_whole_answer(house: House) -> None:
    worker = Paced()
    answerer = house.answerer(worker.engine)
    first, second = await two_askers(answerer)
    await first.leave()
    worker.go_on.set()
    assert (await second.reply()).answer.text == "one two"
    await answerer.aclose()
    assert (await house.totals()).outcomes == {Outcome.MISS: 1, Outcome.EXACT: 1}


async def test_when_all_have_left_the_engine_stops(house: House, redis_client: Redis) -> None:
    worker = Paced()
    answerer = house.answerer(worker.engine)
    for asker in await two_askers(answerer):
        await asker.leave()
    worker.go_on.set()
    assert await redis_client.keys("test:*") == []
    again = ScriptedEngine("again", DONE)
    assert (await house.ask(ASKED, again)).answer.text == "again"


async def test_a_failure_is_everyones_and_no_worker_is_asked_once_more_for_each(house: House) -> None:
    go_on = asyncio.Event()
    broken = ScriptedEngine(go_on, EngineUnavailable("down"))
    answerer = house.answerer(broken)
    askers = [Asker(answerer) for _ in range(5)]
    await until_asked(broken)
    go_on.set()
    await asyncio.wait([asker.task for asker in askers])
    assert {type(asker.task.exception()) for asker in askers} == {EngineUnavailable}
    assert len(broken.requests) == 1


async def test_an_incomplete_answer_is_shared_and_not_stored(house: House) -> None:
    worker = Paced(done=Done("length", 1, 1))
    answerer = house.answerer(worker.engine)
    askers = [Asker(answerer) for _ in range(2)]
    await until_asked(worker.engine)
    worker.go_on.set()
    replies = [await asker.reply() for asker in askers]
    assert [(reply.answer.finish_reason, reply.entry) for reply in replies] == [("length", None)] * 2


@pytest.mark.parametrize("changes", [{"use_cache": False}, {"refresh": True}], ids=["no cache", "refresh"])
async def test_who_wants_an_answer_of_their_own_follows_nobody(house: House, changes: dict[str, Any]) -> None:
    workers = [Paced(), Paced()]
    askers = [
        Asker(house.answerer(worker.engine), question)
        for worker, question in zip(workers, (ASKED, replace(ASKED, **changes)), strict=True)
    ]
    for asker, worker in zip(askers, workers, strict=True):
        await asker.until_text("one ")
        worker.go_on.set()
        assert (await asker.reply()).source == "engine"
    assert [len(worker.engine.requests) for worker in workers] == [1, 1]


async def test_one_with_another_limit_of_tokens_follows_nobody_in_no_process(
    house: House, other_house: OtherHouse
) -> None:
    longer, shorter = [replace(ASKED, sampling=Sampling(max_tokens=most)) for most in (900, 9)]
    worker, own = Paced(), ScriptedEngine("short", DONE)
    first = Asker(house.answerer(worker.engine), longer)
    await first.until_text("one ")
    others = [Asker(one.answerer(own), shorter) for one in (house, other_house())]
    replies = [await other.reply() for other in others]
    worker.go_on.set()
    assert (await first.reply()).answer.text == "one two"
    assert {reply.answer.text for reply in replies} == {"short"}


async def test_without_redis_those_of_one_process_still_share_an_answer(house: House) -> None:
    house.sessions.lost()
    worker = Paced()
    answerer = house.answerer(worker.engine)
    askers = [Asker(answerer) for _ in range(3)]
    await until_asked(worker.engine)
    worker.go_on.set()
    assert {(await asker.reply()).answer.text for asker in askers} == {"one two"}
    assert len(worker.engine.requests) == 1


async def test_an_answer_under_way_is_given_up_when_the_process_ends(house: House) -> None:
    worker = Paced()
    answerer = house.answerer(worker.engine)
    asker = Asker(answerer)
    await asker.until_text("one ")
    await answerer.aclose()
    with pytest.raises(EngineUnavailable):
        await asker.reply()


# Other processes


async def test_another_process_gets_the_answer_as_it_comes(house: House, other_house: OtherHouse) -> None:
    worker, idle = Paced(), ScriptedEngine()
    first = Asker(house.answerer(worker.engine))
    await first.until_text("one ")
    second = Asker(other_house().answerer(idle))
    await second.until_text("one ")
    worker.go_on.set()
    reply = await second.reply()
    assert (second.text, second.source, reply.source, idle.requests) == ("one two", "exact", "exact", [])
    assert reply.entry == (await first.reply()).entry


async def test_an_engine_goes_on_for_another_process_after_its_own_asker_has_left(
    house: House, other_house: OtherHouse
) -> None:
    worker = Paced()
    answerer = house.answerer(worker.engine)
    first = Asker(answerer)
    await first.until_text("one ")
    second = Asker(other_house().answerer(ScriptedEngine()))
    await second.until_text("one ")
    await first.leave()
    worker.go_on.set()
    assert (await second.reply()).answer.text == "one two"
    await answerer.aclose()


async def test_an_engine_stops_when_the_last_other_process_has_left(
    house: House, other_house: OtherHouse, redis_client: Redis
) -> None:
    worker = Paced()
    first = Asker(house.answerer(worker.engine))
    await first.until_text("one ")
    second = Asker(other_house().answerer(ScriptedEngine()))
    await second.until_text("one ")
    await first.leave()
    await second.leave()

    async def is_over() -> bool:
        return await redis_client.keys("test:flight:*") == []

    await until(is_over)
    assert await redis_client.keys("test:*") == []


async def test_where_the_process_that_leads_fails_before_its_first_text_another_asks(
    house: House, other_house: OtherHouse, redis_client: Redis
) -> None:
    go_on = asyncio.Event()
    broken, working = ScriptedEngine(go_on, EngineUnavailable("down")), ScriptedEngine("an answer", DONE)
    first = Asker(house.answerer(broken))
    await until_asked(broken)
    second = Asker(other_house().answerer(working))

    async def follows() -> bool:
        return bool(await redis_client.pubsub_channels())

    await until(follows)
    go_on.set()
    assert ((await second.reply()).source, second.text) == ("engine", "an answer")
    with pytest.raises(EngineUnavailable):
        await first.reply()


async def test_where_it_fails_later_all_that_follow_get_an_error_and_nothing_is_pasted_together(
    house: House, other_house: OtherHouse
) -> None:
    worker = Paced(rest=StreamBroken("broke"))
    first = Asker(house.answerer(worker.engine))
    await first.until_text("one ")
    second = Asker(other_house().answerer(ScriptedEngine("another one", DONE)))
    await second.until_text("one ")
    worker.go_on.set()
    for asker in (first, second):
        with pytest.raises(StreamBroken):
            await asker.reply()
    assert second.text == "one "


async def test_without_a_worker_each_process_says_so_itself(house: House, other_house: OtherHouse) -> None:
    askers = [Asker(house.answerer()), Asker(other_house().answerer())]
    await asyncio.wait([asker.task for asker in askers])
    assert [type(asker.task.exception()) for asker in askers] == [NoWorkerError] * 2


async def test_500_that_follow_cost_redis_no_polling(
    house: House, other_house: OtherHouse, redis_client: Redis
) -> None:
    questions = [replace(ASKED, prompt=f"{number} apples cost how much") for number in range(5)]
    workers = [Paced() for _ in questions]
    leaders = [
        Asker(house.answerer(worker.engine), question)
        for worker, question in zip(workers, questions, strict=True)
    ]
    for leader in leaders:
        await leader.until_text("one ")
    others = other_house().answerer(ScriptedEngine())
    waiting = [Asker(others, questions[number % 5]) for number in range(500)]
    for asker in waiting:
        await asker.until_text("one ")
    for worker in workers:
        worker.go_on.set()
    assert {(await asker.reply()).answer.text for asker in waiting} == {"one two"}
    stats: dict[str, dict[str, int]] = await redis_client.info("commandstats")
    asked = ("subscribe", "append")  # the second at each look at a lease
    assert sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in asked) < 60
