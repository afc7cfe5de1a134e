"""Follow-up questions that are looked up as what they ask by themselves, on a real Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from doubles.answering_house import ASKED, DONE, House
from doubles.scripted_pool import ScriptedEngine

from llmhost.answering.admission import Admitted
from llmhost.answering.audits import AuditQueue, AuditSampler
from llmhost.answering.document import reply_document
from llmhost.answering.question import Question, Reply, look_again
from llmhost.config.models import Config
from llmhost.engines.engine import Message
from llmhost.errors import NotCachedError, StoreUnavailable

if TYPE_CHECKING:
    from plugins.cache import MakeCache
    from redis.asyncio import Redis

    from llmhost.cache.service import SemanticCache
    from llmhost.store.keys import NamespaceKeys


class Condenser:
    """Says that every last turn asks this."""

    def __init__(self, *alone: Question | Exception | None) -> None:
        self.alone = list(alone)
        self.asked: list[Question] = []

    async def condense(self, question: Question) -> Question | None:
        self.asked.append(question)
        said = self.alone[min(len(self.asked), len(self.alone)) - 1]
        if isinstance(said, Exception):
            raise said
        return said


ALONE = replace(ASKED, prompt="how much does the pro plan of nimbus cost")
OTHER_WORDS = replace(ASKED, prompt="how much does the pro plan of nimbus cost please")


def after(topic: str, **changes: Any) -> Question:
    history = (Message("user", topic), Message("assistant", "So and so."))
    return replace(ASKED, prompt="how much does it cost", history=history, **changes)


def says(text: str) -> ScriptedEngine:
    return ScriptedEngine(text, DONE)


@pytest.fixture
def house(redis_client: Redis, cache: SemanticCache, keys: NamespaceKeys) -> House:
    made = House(redis_client, cache, keys)
    made.sessions.condenser = Condenser(ALONE, OTHER_WORDS)
    return made


def condenser(house: House) -> Condenser:
    found = house.sessions.condenser
    assert isinstance(found, Condenser)
    return found


async def test_a_conversation_gets_what_others_have_asked_outright(house: House) -> None:
    await house.ask(ALONE, says("20 euros"))
    reply = await house.ask(after("what is the pro plan"))
    assert (reply.source, reply.answer.text, reply.condensed) == ("semantic", "20 euros", ALONE.prompt)
    assert reply.lookup.served is not None
    assert reply.lookup.served.question == ALONE.prompt


async def test_no_other_conversation_and_nobody_who_asks_outright_gets_what_a_conversation_was_told(
    house: House,
) -> None:
    await house.ask(after("what is the pro plan"), says("Pay at evil.example"))
    for question in (after("tell me about pro"), ALONE):
        assert (await house.ask(question, says("20 euros"))).source == "engine"


async def test_a_conversation_that_is_refreshed_changes_no_answer_of_others(house: House) -> None:
    await house.ask(ALONE, says("20 euros"))
    await house.ask(after("what is the pro plan", refresh=True), says("Pay at evil.example"))
    assert (await house.ask(ALONE)).answer.text == "20 euros"


async def test_where_its_hit_is_too_old_the_own_answer_is_kept_for_the_conversation_alone(
    house: House,
) -> None:
    await house.ask(ALONE, says("20 euros"))
    house.now += 60
    topic = "what is the pro plan"
    assert (await house.ask(after(topic, max_age=30.0), says("21 euros"))).answer.text == "21 euros"
    assert (await house.ask(after(topic))).answer.text == "21 euros"
    assert (await house.ask(ALONE)).answer.text == "20 euros"


async def test_the_same_conversation_is_an_exact_hit_that_is_not_condensed(house: House) -> None:
    first = await house.ask(after("what is the pro plan"), says("20 euros"))
    again = await house.ask(after("what is the pro plan"))
    assert (again.source, again.entry, again.condensed) == ("exact", first.entry, "")
    assert len(condenser(house).asked) == 1


async def test_what_is_not_condensed_is_looked_up_with_all_turns_as_before(house: House) -> None:
    house.sessions.condenser = Condenser(None)
    await house.ask(after("what is the pro plan"), says("20 euros"))
    assert (await house.ask(after("tell me about pro"), says("30 euros"))).source == "engine"
    reworded = replace(after("what is the pro plan"), prompt="and how much does it cost")
    assert (await house.ask(reworded)).answer.text == "20 euros"


@pytest.mark.parametrize(
    "question",
    [
        ASKED,
        after("x y", exact_only=True),
        after("x y", store=False),
        after("x y", refresh=True),
        after("x y", use_cache=False),
    ],
    ids=["no turns before", "exact tier only", "not stored", "refreshed", "no cache"],
)
async def test_what_is_not_to_be_embedded_stored_or_looked_up_is_not_condensed(
    house: House, question: Question
) -> None:
    await house.ask(question, says("20 euros"))
    assert condenser(house).asked == []


async def test_who_wants_a_cached_answer_alone_has_no_engine_asked(house: House) -> None:
    with pytest.raises(NotCachedError):
        await house.ask(after("x y", only_cached=True))
    assert condenser(house).asked == []


async def test_the_hit_is_remembered_with_the_question_that_was_judged(
    house: House, redis_client: Redis, keys: NamespaceKeys
) -> None:
    house.sessions.condenser = Condenser(OTHER_WORDS)
    await house.ask(ALONE, says("20 euros"))
    reply = await house.ask(after("tell me about pro"))
    assert reply.entry is not None
    served = await redis_client.hget(keys.metadata(reply.entry), "served_question")
    assert served == OTHER_WORDS.prompt.encode()


async def test_on_trial_it_is_looked_up_and_not_served(house: House) -> None:
    compared: list[tuple[Question, Reply, Reply]] = []

    async def shadow(*args: Any) -> None:
        compared.append(args)

    await house.ask(ALONE, says("20 euros"))
    answerer = house.answerer(says("21 euros"), shadow=shadow)
    *_, reply = [event async for event in answerer.answer(after("tell me about pro"))]
    await answerer.aclose()
    assert isinstance(reply, Reply)
    assert reply.answer.text == "21 euros"
    ((_, hit, _),) = compared
    assert (hit.source, hit.answer.text, hit.condensed) == ("semantic", "20 euros", ALONE.prompt)
    assert (await house.ask(ALONE)).answer.text == "20 euros"


async def test_a_stale_answer_of_others_is_neither_served_to_a_conversation_nor_renewed_by_it(
    redis_client: Redis, make_cache: MakeCache, keys: NamespaceKeys
) -> None:
    house = House(redis_client, make_cache(stale_for=600.0), keys)
    house.sessions.condenser = Condenser(ALONE)
    await house.ask(ALONE, says("20 euros"))
    house.now += 3700
    reply = await house.ask(after("tell me about pro"), says("22 euros"))
    assert (reply.source, reply.answer.text) == ("engine", "22 euros")
    stale = await house.ask(replace(ALONE, only_cached=True))
    assert (stale.stale, stale.answer.text) == (True, "20 euros")


async def test_the_audit_of_its_hit_says_that_it_was_condensed(house: House, redis_client: Redis) -> None:
    queue = AuditQueue(redis_client, "f")
    await house.ask(ALONE, says("20 euros"))
    answerer = house.answerer()
    answerer.audits = lambda: AuditSampler(queue, 1.0, house.warn_once)
    for question in (after("tell me about pro"), OTHER_WORDS):
        assert [event async for event in answerer.answer(question)]
    audits = [await queue.take(house.now) for _ in range(2)]
    assert [audit and audit.condensed for audit in audits] == [True, False]


async def test_it_is_told_what_it_was_looked_up_as_and_how_long_that_took(house: House) -> None:
    reply = await house.ask(after("what is the pro plan"), says("20 euros"))
    document = reply_document(reply, after("what is the pro plan"), explain=False)
    assert document["condensed"] == ALONE.prompt
    assert document["latency_ms"]["condense"] > 0
    assert set((await house.totals()).steps) >= {"condense"}
    assert (await house.ask(ASKED, says("a field"))).latency.condense == 0


async def test_where_what_it_asks_has_an_answer_that_changes_its_own_is_kept_as_short(
    house: House, redis_client: Redis, keys: NamespaceKeys
) -> None:
    config = Config.model_validate({"cache": {"lifetimes": {"changing": "10m"}}}).cache
    changing = Admitted("changing", "right now")
    await house.ask(ASKED, says("a field"))  # else the scope is empty, and no vector is looked at
    house.sessions.second_look = lambda question, _: look_again(config, question, changing)
    house.sessions.condenser = Condenser(replace(ALONE, settled=False))
    reply = await house.ask(after("what is the pro plan"), says("20 euros"))
    assert reply.entry is not None
    assert 500_000 < await redis_client.pttl(keys.response(reply.entry)) <= 600_000


async def test_whose_limit_is_reached_has_nothing_condensed_and_still_gets_hits(house: House) -> None:
    async def refuse() -> None:
        raise RuntimeError("the limit is reached")

    await house.ask(after("what is the pro plan"), says("20 euros"))
    house.sessions.condenser = Condenser(ALONE)
    hit = house.answerer().answer(after("what is the pro plan"), on_miss=refuse)
    assert [event async for event in hit]
    with pytest.raises(RuntimeError, match="limit"):
        assert [event async for event in house.answerer().answer(after("tell me"), on_miss=refuse)]
    assert condenser(house).asked == []


async def test_where_redis_is_away_an_engine_answers_as_always(house: House) -> None:
    house.sessions.condenser = Condenser(StoreUnavailable("away"))
    reply = await house.ask(after("what is the pro plan"), says("20 euros"))
    assert (reply.source, reply.entry) == ("engine", None)
    assert len(house.told) == 1
