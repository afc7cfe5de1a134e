"""What the vector of a question says of its kind, on the one path of a question, on a real Redis."""

from __future__ import annotations

from dataclasses import replace

import pytest
from doubles.answering_house import ASKED, DONE, REWORDED, House
from doubles.scripted_pool import ScriptedEngine
from redis.asyncio import Redis

from llmhost.answering.admission import Admitted
from llmhost.answering.document import reply_document
from llmhost.answering.question import Question, Reply, Started, look_again
from llmhost.config.models import Config
from llmhost.ledger.events import Outcome
from llmhost.store.keys import NamespaceKeys


def engine(text: str = "an answer") -> ScriptedEngine:
    return ScriptedEngine(text, DONE)


def looking(house: House, admitted: Admitted, lifetime: str = "none") -> list[str]:
    """The house takes every question that is not settled for one of this kind; the list gets which ones."""
    config = Config.model_validate({"cache": {"lifetimes": {"changing": lifetime}}}).cache
    seen: list[str] = []

    def look(question: Question, vector: object) -> Question:
        seen.append(question.prompt)
        return look_again(config, question, admitted)

    house.sessions.second_look = look
    return seen


CHANGING = Admitted("changing", "right now")


def kind(event: Started | Reply) -> Admitted | None:
    return None if event.found is None else Admitted(event.found.kind, event.found.because)


async def test_a_question_whose_vector_says_that_its_answer_changes_gets_no_answer_of_another(
    house: House,
) -> None:
    await house.ask(ASKED, engine("yesterday's"))
    looking(house, CHANGING)
    reply = await house.ask(replace(REWORDED, settled=False), engine("today's"))
    assert (reply.answer.text, reply.entry, kind(reply)) == ("today's", None, CHANGING)
    assert reply.lookup.reason == "it reads like a question of the kind changing: “right now”"
    totals = await house.totals()
    assert (totals.outcomes, totals.kinds) == (
        {Outcome.MISS: 1, Outcome.BYPASS: 1},
        {"plain": 1, "changing": 1},
    )


async def test_the_answer_to_the_first_question_of_a_scope_is_not_stored_where_it_changes(
    house: House,
) -> None:
    looking(house, CHANGING)
    reply = await house.ask(replace(ASKED, settled=False), engine())
    assert (reply.entry, kind(reply)) == (None, CHANGING)
    assert (await house.ask(ASKED, engine("new"))).source == "engine"


async def test_a_question_is_told_to_be_changing_before_its_answer_begins(house: House) -> None:
    await house.ask(ASKED, engine())
    looking(house, CHANGING)
    events = house.answerer(engine()).answer(replace(REWORDED, settled=False))
    (started,) = [event async for event in events if isinstance(event, Started)]
    assert kind(started) == CHANGING
    assert started.found is not None
    assert started.found.bypasses


async def test_where_a_kind_has_a_lifetime_its_answer_is_kept_so_long(
    house: House, redis_client: Redis, keys: NamespaceKeys
) -> None:
    looking(house, CHANGING, lifetime="10m")
    reply = await house.ask(replace(ASKED, settled=False), engine())
    assert reply.found is not None
    assert (kind(reply), reply.found.bypasses) == (CHANGING, False)
    assert reply.entry is not None
    assert 500_000 < await redis_client.pttl(keys.response(reply.entry)) <= 600_000


async def test_a_hit_says_of_what_kind_its_question_is_by_its_vector(house: House) -> None:
    await house.ask(ASKED, engine())
    looking(house, CHANGING, lifetime="10m")
    events = house.answerer().answer(replace(REWORDED, settled=False))
    started, _, reply = [event async for event in events]
    assert isinstance(started, Started)
    assert isinstance(reply, Reply)
    assert (reply.source, kind(started), kind(reply)) == ("semantic", CHANGING, CHANGING)
    assert reply_document(reply, REWORDED, explain=False)["kind"] == "changing"


@pytest.mark.parametrize(("age", "source"), [(599, "semantic"), (601, "engine")])
async def test_a_kind_with_a_lifetime_gets_no_older_answer_that_was_stored_for_another_kind(
    house: House, age: int, source: str
) -> None:
    await house.ask(ASKED, engine())
    looking(house, CHANGING, lifetime="10m")
    house.now += age
    assert (await house.ask(replace(REWORDED, settled=False), engine("new"))).source == source


async def test_a_question_whose_kind_is_settled_is_not_looked_at_again(house: House) -> None:
    seen = looking(house, CHANGING)
    assert (await house.ask(ASKED, engine())).entry is not None
    assert (await house.ask(REWORDED)).source == "semantic"
    assert seen == []


async def test_the_same_question_is_not_looked_at_again(house: House) -> None:
    unsettled = replace(ASKED, settled=False)
    await house.ask(unsettled, engine())
    seen = looking(house, CHANGING)
    assert (await house.ask(unsettled)).source == "exact"
    assert seen == []
