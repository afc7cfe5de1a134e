"""Vectors by an engine, on a real Redis; only the engines play a part."""

from __future__ import annotations

import pytest
from doubles.answering_house import House
from doubles.scripted_pool import ScriptedEngine

from llmhost.answering.embedding import embed_by_engine
from llmhost.engines.engine import EmbedRequest
from llmhost.errors import EngineRefused, EngineUnavailable, NoWorkerError
from llmhost.ledger.events import Outcome

TEXTS = tuple("x" * length for length in range(1, 41))


async def test_many_texts_are_embedded_in_several_turns_and_counted_together(house: House) -> None:
    engine, charged = ScriptedEngine(), list[int]()
    vectors, reply = await embed_by_engine(
        house.answerer(engine), EmbedRequest("m", TEXTS), "t", lambda tokens, _usd: charged.append(tokens)
    )
    assert vectors == [[float(length)] for length in range(1, 41)]
    assert [len(request.texts) for request in engine.embedded] == [32, 8]
    assert (reply.worker, reply.answer.prompt_tokens, charged) == ("w0", 80, [64, 16])
    assert reply.cost_usd > 0
    totals = await house.totals()
    assert (totals.outcomes, totals.requests) == ({Outcome.EMBEDDING: 1}, 0)
    assert totals.prompt_tokens == 80
    assert totals.cost_usd == pytest.approx(reply.cost_usd)


async def test_another_worker_embeds_where_one_fails(house: House) -> None:
    engines = ScriptedEngine(EngineUnavailable("away")), ScriptedEngine()
    _, reply = await embed_by_engine(house.answerer(*engines), EmbedRequest("m", ("x",)), "t")
    assert reply.worker == "w1"


@pytest.mark.parametrize(
    ("engines", "error"), [((ScriptedEngine(EngineRefused("no")),), EngineRefused), ((), NoWorkerError)]
)
async def test_what_is_not_embedded_is_not_counted(
    house: House, engines: tuple[ScriptedEngine, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await embed_by_engine(house.answerer(*engines), EmbedRequest("m", ("x",)), "t")
    assert (await house.totals()).outcomes == {}
