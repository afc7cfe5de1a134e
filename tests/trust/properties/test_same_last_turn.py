"""A last turn that means another thing in another conversation: is it answered with what somebody else has
asked outright?

By the code that serves, with the embedding model and the verifier that come with llmhost, on a real Redis;
only the engines play a part. What a model condenses wrongly must not be served to others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from doubles import condensing
from doubles.answering_house import DONE, NOW, House
from doubles.condensing import CondensingEngine, Said, history
from doubles.scripted_pool import ScriptedEngine, pool_of

from llmhost.answering.question import make_question, standing_alone
from llmhost.config.models import CacheConfig, Config
from llmhost.engines.engine import Message
from llmhost.trust.condense import (
    Condensations,
    CondenserEvaluation,
    CondenserEvaluationStore,
    FleetCondenser,
    LlmCondenser,
)
from llmhost.wiring.questions import make_policy

if TYPE_CHECKING:
    from plugins.cache import MakeCache
    from redis.asyncio import Redis

    from llmhost.cache.embedders.onnx import OnnxEmbedder
    from llmhost.cache.policy import CachePolicy
    from llmhost.store.keys import NamespaceKeys

CONFIG = Config.model_validate(
    {
        "fleet": {"provider": "static", "workers": [{"url": "http://127.0.0.1:1"}]},
        "engine": {"kind": "openai", "model": "m"},
        "cache": {"conversations": "condense"},
    }
)
GOOD = CondenserEvaluation("m", 160, 120, 1.0, 0.97, 50.0, 90.0, NOW)
ROWS = condensing.rows("follow_ups.jsonl")
#: share of the conversations that ask something else
MOST_WRONG = 0.03


@pytest.fixture(scope="session")
def verified() -> CachePolicy:
    return make_policy(CacheConfig(), lambda _: None)


class Pairs:
    """What one of two conversations with one last turn asks is asked outright, and then the last turn in the
    other conversation, each pair in a cache of its own."""

    def __init__(self, house: House, engine: CondensingEngine) -> None:
        self.house, self.engine = house, engine

    async def reply(self, row: Mapping[str, Any], side: str, tenant: str, says: Said | None) -> str:
        self.engine.says = says(row, side) if says else ""
        messages = [*history(row[side]), Message("user", row["last"])]
        return await self._ask(messages, tenant, "Answer of the conversation.")

    async def outright(self, question: str, tenant: str) -> str:
        """Somebody asks this without any conversation."""
        return await self._ask([Message("user", question)], tenant, "Answer of others.")

    async def _ask(self, messages: list[Message], tenant: str, answer: str) -> str:
        question = make_question(CONFIG, messages, tenant=tenant)
        reply = await self.house.ask(question, ScriptedEngine(answer, DONE))
        return reply.source


@pytest.fixture
async def pairs(
    redis_client: Redis,
    make_cache: MakeCache,
    minilm: OnnxEmbedder,
    verified: CachePolicy,
    keys: NamespaceKeys,
) -> Pairs:
    embedder: Any = minilm
    house = House(redis_client, make_cache(embedder=embedder, policy=verified, candidates=8), keys)
    book = CondenserEvaluationStore(redis_client, "f")
    await book.write(GOOD)
    engine = CondensingEngine()
    asked = LlmCondenser(pool_of(engine), "m", 60.0, 1, None, house.warn_once)
    memory = Condensations(redis_client, keys, 3600.0)
    house.sessions.condenser = FleetCondenser(asked, memory, book, partial(standing_alone, CONFIG))
    return Pairs(house, engine)


async def crossed(
    pairs: Pairs, says: Said | None, rows: Sequence[Mapping[str, Any]] = ROWS
) -> tuple[list[str], Counter[bool]]:
    """The last turns that were answered with what the other conversation asks, and how many pairs of each
    kind were."""
    wrong, hits = [], Counter[bool]()
    for number, row in enumerate(rows):
        tenant = f"p{number}"
        for question in condensing.outright(row):
            await pairs.outright(question, tenant)
        if await pairs.reply(row, "b", tenant, says) != "engine":
            hits[row["same"]] += 1
            if not row["same"]:
                wrong.append(f"{row['last']} | {row['a'][-2:]} | {row['b'][-2:]}")
    print(says and says.__name__, len(pairs.engine.requests), dict(hits), *wrong, sep="\n  ")
    return wrong, hits


async def test_without_condensing_no_last_turn_is_answered_from_another_conversation(pairs: Pairs) -> None:
    pairs.house.sessions.condenser = None
    wrong, hits = await crossed(pairs, None)
    assert (wrong, hits[True]) == ([], 0)


async def test_condensed_rightly_what_means_the_same_can_hit_and_few_others(pairs: Pairs) -> None:
    wrong, hits = await crossed(pairs, condensing.rightly)
    different = sum(not row["same"] for row in ROWS)
    assert len(wrong) <= MOST_WRONG * different
    assert hits[True] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "says",
    [
        condensing.echoes,
        condensing.drops_the_referent,
        condensing.names_it_in_general,
        condensing.takes_an_earlier_one,
        condensing.answers,
        condensing.answers_after_asking,
        condensing.invents_a_name,
        condensing.puts_the_topic_in,
        condensing.takes_the_other_conversation,
    ],
)
async def test_what_is_condensed_wrongly_is_not_served_to_another_conversation(
    pairs: Pairs, says: Said
) -> None:
    wrong, _ = await crossed(pairs, says)
    assert len(wrong) <= MOST_WRONG * sum(not row["same"] for row in ROWS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "says",
    [
        None,
        condensing.echoes,
        condensing.answers,
        condensing.answers_after_asking,
        condensing.invents_a_name,
        condensing.puts_the_topic_in,
    ],
)
async def test_of_conversations_that_the_rules_have_not_seen_as_few_cross(
    pairs: Pairs, says: Said | None
) -> None:
    if says is None:
        pairs.house.sessions.condenser = None
    rows = condensing.kept_apart()
    wrong, _ = await crossed(pairs, says, rows)
    assert len(wrong) <= (0 if says is None else MOST_WRONG * len(rows))


async def test_who_asks_outright_is_not_answered_with_what_a_conversation_was_told(
    pairs: Pairs,
) -> None:
    served = []
    for number, row in enumerate(row for row in ROWS if "earlier" in row):
        await pairs.reply(row, "a", f"e{number}", condensing.takes_an_earlier_one)
        if await pairs.outright(row["earlier"], f"e{number}") != "engine":
            served.append(row["earlier"])
    assert served == []
