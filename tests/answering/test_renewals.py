"""An answer that has outlived its time is served while another one is asked for, where that is configured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from doubles.answering_house import ASKED, DONE, NOW, House
from doubles.clock import ManualClock
from doubles.scripted_pool import ScriptedEngine
from doubles.waiting import LONGEST

from llmhost.answering.answerer import Answerer
from llmhost.answering.document import reply_document
from llmhost.answering.question import Question, Reply, Started
from llmhost.engines.engine import Sampling
from llmhost.errors import EngineUnavailable, NotCachedError, NoWorkerError
from llmhost.ledger.events import Outcome
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from plugins.cache import MakeCache
    from redis.asyncio import Redis

REWORDED = replace(ASKED, prompt="what is artificial intelligence in plain simple words")
#: seconds that an answer lives, and is served beyond
LIFE, STALE_FOR = 3600.0, 600.0


@pytest.fixture
def make_house(redis_client: Redis, make_cache: MakeCache, keys: NamespaceKeys) -> Callable[..., House]:
    """A process that serves stale answers, or not."""
    return lambda stale_for=STALE_FOR: House(
        redis_client, make_cache(response_ttl=LIFE, stale_for=stale_for), keys
    )


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    return make_house()


async def reply_of(answerer: Answerer, question: Question) -> Reply:
    reply = [event async for event in answerer.answer(question)][-1]
    assert isinstance(reply, Reply)
    return reply


async def ask(house: House, question: Question, *steps: Any) -> Reply:
    """The reply, after all that the process has begun is done; without steps, there is no worker."""
    answerer = house.answerer(*([ScriptedEngine(*steps)] if steps else []))
    reply = await reply_of(answerer, question)
    await answerer.aclose()
    return reply


async def test_a_fresh_answer_is_not_stale(house: House) -> None:
    assert not (await ask(house, ASKED, "old", DONE)).stale
    house.now = NOW + LIFE - 1
    assert not (await ask(house, ASKED)).stale


@pytest.mark.parametrize("question", [ASKED, REWORDED], ids=["exact", "semantic"])
async def test_a_stale_answer_is_served_at_once_and_replaced(house: House, question: Question) -> None:
    await ask(house, ASKED, "old", DONE)
    house.now = NOW + LIFE + 1
    answerer = house.answerer(engine := ScriptedEngine("new", DONE))
    reply = await reply_of(answerer, question)
    assert (reply.answer.text, reply.stale) == ("old", True)
    assert reply_document(reply, question, explain=False)["stale"] is True
    await answerer.aclose()
    assert [request.messages[-1].content for request in engine.requests] == [ASKED.prompt]
    renewed = await ask(house, question)
    assert (renewed.answer.text, renewed.stale) == ("new", False)
    assert (await ask(house, ASKED)).source == "exact"


@pytest.mark.parametrize(("asked", "wanted"), [(5, 1024), (2000, 2000), (None, 1024)])
async def test_a_new_answer_may_be_as_long_as_is_configured_however_short_the_old_one_had_to_be(
    house: House, asked: int | None, wanted: int
) -> None:
    house.max_tokens = 1024
    await ask(house, ASKED, "old", DONE)
    house.now = NOW + LIFE + 1
    answerer = house.answerer(engine := ScriptedEngine("new", DONE))
    await reply_of(answerer, replace(ASKED, sampling=Sampling(max_tokens=asked)))
    await answerer.aclose()
    assert [request.sampling.max_tokens for request in engine.requests] == [wanted]


async def test_clients_are_told_before_the_answer_begins(house: House) -> None:
    await ask(house, ASKED, "old", DONE)
    house.now = NOW + LIFE + 1
    answerer = house.answerer(ScriptedEngine("new", DONE))
    started, *_ = [event async for event in answerer.answer(ASKED)]
    assert isinstance(started, Started)
    assert started.reply is not None
    assert started.reply.stale
    await answerer.aclose()


async def test_a_process_that_serves_none_asks_an_engine(
    house: House, make_house: Callable[..., House]
) -> None:
    await ask(house, ASKED, "old", DONE)
    other = make_house(stale_for=0.0)
    other.now = NOW + LIFE + 1
    for question in (ASKED, REWORDED):
        with pytest.raises(NoWorkerError):
            await ask(other, question)


async def test_it_is_kept_for_no_longer_than_that(
    house: House, redis_client: Redis, keys: NamespaceKeys
) -> None:
    entry = (await ask(house, ASKED, "old", DONE)).entry
    assert entry is not None
    assert LIFE < await redis_client.ttl(keys.response(entry)) <= LIFE + STALE_FOR
    house.now = NOW + LIFE + STALE_FOR + 1
    with pytest.raises(NoWorkerError):
        await ask(house, ASKED)


@pytest.mark.parametrize("question", [ASKED, REWORDED], ids=["exact", "semantic"])
async def test_a_client_that_wants_no_older_answer_gets_none(house: House, question: Question) -> None:
    await ask(house, ASKED, "old", DONE)
    house.now = NOW + 100
    assert (await ask(house, replace(question, max_age=100))).answer.text == "old"
    with pytest.raises(NoWorkerError):
        await ask(house, replace(question, max_age=99))


async def test_an_answer_that_is_too_old_does_not_hide_a_younger_one(house: House) -> None:
    await ask(house, replace(ASKED, prompt=REWORDED.prompt + " please"), "old", DONE)
    house.now = NOW + 100
    assert (await ask(house, replace(ASKED, max_age=10), "young", DONE)).source == "engine"
    reply = await ask(house, replace(REWORDED, max_age=10))
    assert (reply.source, reply.answer.text) == ("semantic", "young")


async def test_of_many_that_get_it_one_renews_it(house: House, make_house: Callable[..., House]) -> None:
    await ask(house, ASKED, "old", DONE)
    wait = asyncio.Event()
    engines = [ScriptedEngine(wait, "new", DONE) for _ in range(2)]
    houses = [house, make_house()]
    answerers = []
    for each, engine in zip(houses, engines, strict=True):
        each.now = NOW + LIFE + 1
        answerers.append(each.answerer(engine))
    replies = await asyncio.gather(*(reply_of(each, ASKED) for each in answerers for _ in range(20)))
    assert {reply.answer.text for reply in replies} == {"old"}
    wait.set()
    await asyncio.gather(*(each.aclose() for each in answerers))
    assert sum(len(engine.requests) for engine in engines) == 1
    assert (await ask(house, ASKED)).answer.text == "new"


async def test_one_that_may_not_have_it_waits_for_the_new_one(house: House) -> None:
    await ask(house, ASKED, "old", DONE)
    house.now = NOW + LIFE + 1
    wait = asyncio.Event()
    answerer = house.answerer(engine := ScriptedEngine(wait, "new", DONE))
    assert (await reply_of(answerer, ASKED)).stale
    waiting = asyncio.create_task(reply_of(answerer, replace(ASKED, max_age=10)))
    await asyncio.sleep(0)
    wait.set()
    assert (await waiting).answer.text == "new"
    assert len(engine.requests) == 1
    await answerer.aclose()


async def test_where_it_cannot_be_renewed_it_is_served_on_and_asked_for_again_after_a_while(
    house: House,
) -> None:
    await ask(house, ASKED, "old", DONE)
    house.now = NOW + LIFE + 1
    clock = ManualClock()
    answerer = house.answerer(engine := ScriptedEngine(EngineUnavailable("it is broken")))

    async def asked() -> int:
        assert (await reply_of(answerer, ASKED)).answer.text == "old"
        await asyncio.gather(*answerer._finishing)
        return len(engine.requests)

    answerer.renewals.clock = clock.monotonic
    first = await asked()
    assert [await asked(), await asked()] == [first, first]
    assert [line.partition(":")[0] for line in house.told] == ["a stale answer is not renewed"]
    await clock.sleep(11)
    assert await asked() > first
    await answerer.aclose()


async def test_no_more_than_a_few_are_renewed_at_once(house: House) -> None:
    questions = [replace(ASKED, prompt=f"{number} apples and {number * 7} pears") for number in range(9)]
    for question in questions:
        await ask(house, question, "old", DONE)
    house.now = NOW + LIFE + 1
    wait = asyncio.Event()
    answerer = house.answerer(engine := ScriptedEngine(wait, "new", DONE))
    for question in questions:
        assert (await reply_of(answerer, question)).answer.text == "old"
    wait.set()
    await answerer.aclose()
    assert 1 <= len(engine.requests) <= 4


@pytest.mark.parametrize(
    "changes", [{"only_cached": True}, {"store": False}], ids=lambda one: next(iter(one))
)
async def test_a_client_that_wants_no_engine_or_no_stored_answer_has_none_renewed(
    house: House, changes: dict[str, Any]
) -> None:
    await ask(house, ASKED, "old", DONE)
    house.now = NOW + LIFE + 1
    answerer = house.answerer(engine := ScriptedEngine("new", DONE))
    assert (await reply_of(answerer, replace(ASKED, **changes))).stale
    await answerer.aclose()
    assert engine.requests == []


async def test_what_renewals_cost_is_counted_and_is_no_question(house: House) -> None:
    await ask(house, ASKED, "old", DONE)
    house.now = NOW + LIFE + 1
    await ask(house, ASKED, "new", DONE)
    totals = await house.ledger.totals(NOW - 60, house.now + 1)
    assert totals.outcomes == {Outcome.MISS: 1, Outcome.EXACT: 1, Outcome.RENEWAL: 1}
    assert (totals.requests, totals.prompt_tokens) == (2, 14)


async def test_a_process_that_ends_gives_up_what_it_renews(house: House) -> None:
    await ask(house, ASKED, "old", DONE)
    house.now = NOW + LIFE + 1
    answerer = house.answerer(ScriptedEngine(asyncio.Event(), "new", DONE))
    answerer.counts_later = True
    assert (await reply_of(answerer, ASKED)).stale
    await asyncio.wait_for(answerer.aclose(), LONGEST)
    assert house.told == []
    with pytest.raises(NotCachedError):
        await ask(house, replace(ASKED, only_cached=True, max_age=1))
