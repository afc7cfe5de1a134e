"""Follow-up questions of different conversations, with the embedding model that comes with llmhost: each
conversation is a scope of its own, whose index is small.

The policy is the one that serves whatever is near.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from doubles.answering_house import DONE, House
from doubles.scripted_pool import ScriptedEngine

from llmhost.answering.question import Question
from llmhost.cache.indexes.flat import ENTRY_BYTES, FlatIndex
from llmhost.cache.indexes.query_engine import QueryEngineIndex
from llmhost.cache.indexes.vector_set import VectorSetIndex
from llmhost.cache.policy import ThresholdPolicy
from llmhost.engines.engine import Message

if TYPE_CHECKING:
    from plugins.cache import MakeCache, MakeIndex
    from plugins.redis_servers import ClientOf
    from redis.asyncio import Redis

    from llmhost.cache.embedders.onnx import OnnxEmbedder
    from llmhost.store.keys import NamespaceKeys

KINDS: dict[str, tuple[str, MakeIndex]] = {
    "flat": ("redis-8.2", FlatIndex),
    "vector_set": ("redis-8.2", VectorSetIndex),
    "vector_set, large": ("redis-8.2", partial(VectorSetIndex, most_in_log=0)),
    "query_engine": ("redis-8.2-search", QueryEngineIndex),
}

#: How old is he?, in words that mean the same, and are near to each other
FOLLOW_UPS = ["How old is he?", "how old is he", "What is his age?", "And how old is he now?"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def redis_client(client_of: ClientOf, kind: str) -> Redis:
    return client_of(KINDS[kind][0])


@pytest.fixture
def make_index(kind: str) -> MakeIndex:
    return KINDS[kind][1]


@pytest.fixture
def house(redis_client: Redis, make_cache: MakeCache, minilm: OnnxEmbedder, keys: NamespaceKeys) -> House:
    embedder: Any = minilm
    return House(redis_client, make_cache(embedder=embedder, policy=ThresholdPolicy(0.3)), keys)


def about(person: str, follow_up: str) -> Question:
    """The second question of a conversation whose first one was about this person."""
    asked, answered = Message("user", f"Who is {person}?"), Message("assistant", f"{person} is well known.")
    return Question(prompt=follow_up, model="m", tenant="t", history=(asked, answered))


async def ask(house: House, question: Question, answer: str) -> str:
    return (await house.ask(question, ScriptedEngine(answer, DONE))).answer.text


async def test_how_old_is_he_after_two_people_is_never_answered_with_the_age_of_the_other(
    house: House,
) -> None:
    for follow_up in FOLLOW_UPS:
        for person, age in (("Barack Obama", "64"), ("Keanu Reeves", "61"), ("Barack Obama Sr.", "46")):
            assert await ask(house, about(person, follow_up), age) == age
    without_conversation = replace(about("nobody", FOLLOW_UPS[0]), history=())
    assert await ask(house, without_conversation, "Who?") == "Who?"


async def test_within_a_conversation_the_same_follow_up_is_a_hit(house: House) -> None:
    first, *others = (about("Barack Obama", follow_up) for follow_up in FOLLOW_UPS)
    await ask(house, first, "64")
    assert (await house.ask(first)).source == "exact"
    assert {(await house.ask(other)).source for other in others} == {"semantic"}


@pytest.mark.parametrize("kind", ["flat", "vector_set"], indirect=True)
@pytest.mark.parametrize("count", [1, 8, 20])
async def test_beside_its_vectors_the_index_of_a_conversation_takes_less_than_a_kilobyte(
    redis_client: Redis,
    make_index: MakeIndex,
    minilm: OnnxEmbedder,
    keys: NamespaceKeys,
    count: int,
) -> None:
    index = make_index(redis_client, keys, embedder=minilm.id, dimensions=minilm.dimensions, lifetime=600.0)
    random = np.random.default_rng(count)
    for number in range(count):
        vector = random.standard_normal(minilm.dimensions).astype(np.float32)
        await index.add("a" * 32, f"{number:032x}", vector / np.linalg.norm(vector))
    names = [name async for name in redis_client.scan_iter(match="test:*")]
    sizes = [await redis_client.memory_usage(name) for name in names]
    assert len(names) == 1
    vectors = count * (ENTRY_BYTES + minilm.dimensions)
    print(count, sizes, sizes[0] - vectors)
    assert sizes[0] - vectors < 1024
