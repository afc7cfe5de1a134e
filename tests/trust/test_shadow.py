"""A cache on trial: what it would have answered is compared, and not served."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doubles.answering_house import ASKED, DONE, NOW, House
from doubles.embedders import WordEmbedder
from doubles.scripted_pool import ScriptedEngine
from redis.asyncio import Redis

from llmhost.answering.question import Question, Reply, Started
from llmhost.cache.contracts import Embedder
from llmhost.cache.service import SemanticCache
from llmhost.errors import ModelError
from llmhost.ledger.events import Outcome
from llmhost.store.keys import NamespaceKeys
from llmhost.trust.shadow import ShadowComparison

REWORDED = replace(ASKED, prompt="what is artificial intelligence in plain simple words")


@pytest.fixture
def house(redis_client: Redis, cache: SemanticCache, keys: NamespaceKeys) -> House:
    return House(redis_client, cache, keys)


async def ask(house: House, question: Question, answer: str) -> tuple[Started, Reply]:
    """In the shadow of the cache."""

    async def embedder() -> Embedder:
        return WordEmbedder()

    answerer = house.answerer(
        ScriptedEngine(answer, DONE), shadow=ShadowComparison(embedder, house.ledger, lambda: NOW)
    )
    started, *_, reply = [event async for event in answerer.answer(question)]
    await answerer.aclose()
    assert isinstance(started, Started)
    assert isinstance(reply, Reply)
    return started, reply


@pytest.mark.parametrize(("question", "tier"), [(ASKED, "exact"), (REWORDED, "semantic")])
async def test_a_hit_is_decided_and_an_engine_answers(house: House, question: Question, tier: str) -> None:
    await ask(house, ASKED, "an answer")
    started, reply = await ask(house, question, "another answer")
    assert (reply.source, reply.answer.text) == ("engine", "another answer")
    assert reply.shadow is not None
    assert (reply.shadow.source, reply.shadow.answer.text, started.shadow) == (
        tier,
        "an answer",
        reply.shadow,
    )


async def test_the_engine_s_answer_to_another_wording_is_stored(house: House) -> None:
    await ask(house, ASKED, "an answer")
    await ask(house, REWORDED, "another answer")
    assert (await house.ask(REWORDED)).answer.text == "another answer"


async def test_an_answer_that_would_have_been_served_stays_and_expires_in_its_time(house: House) -> None:
    await ask(house, ASKED, "an answer")
    await ask(house, ASKED, "another answer")
    assert (await house.ask(ASKED)).answer.text == "an answer"


@pytest.mark.parametrize(
    ("answer", "found"),
    [("It takes 5 days.", "right"), ("It takes 9 days.", "wrong"), ("Certainly!", "unclear")],
)
async def test_what_would_have_been_served_is_compared_with_the_engine_s_answer(
    house: House, answer: str, found: str
) -> None:
    await ask(house, ASKED, "It takes 5 days.")
    await ask(house, REWORDED, answer)
    assert (await house.totals()).shadow == {"semantic": 1, f"semantic:{found}": 1}


async def test_what_was_not_served_is_a_miss(house: House) -> None:
    for _ in range(3):
        await ask(house, ASKED, "an answer")
    totals = await house.totals()
    assert (totals.outcomes, totals.shadow["exact"]) == ({Outcome.MISS: 3}, 2)
    assert totals.shadow_saved_usd > 0


async def test_a_comparison_that_fails_is_a_warning_and_no_error(house: House) -> None:
    async def no_embedder() -> Embedder:
        raise ModelError("no model")

    await house.ask(ASKED, ScriptedEngine("an answer", DONE))
    shadow = ShadowComparison(no_embedder, house.ledger)
    answerer = house.answerer(ScriptedEngine("another", DONE), shadow=shadow)
    *_, reply = [event async for event in answerer.answer(ASKED)]
    await answerer.aclose()
    assert isinstance(reply, Reply)
    assert house.told == ["a hit that was not served is not compared: no model"]
