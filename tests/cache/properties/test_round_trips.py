"""How often a question waits for Redis, on each kind of index."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest
from doubles.redis_waits import RedisWaits

from llmhost.cache.indexes.flat import FlatIndex
from llmhost.cache.indexes.query_engine import QueryEngineIndex
from llmhost.cache.indexes.vector_set import VectorSetIndex
from llmhost.cache.limits import CacheLimits

if TYPE_CHECKING:
    from plugins.cache import MakeCache, MakeIndex
    from plugins.redis_servers import ClientOf
    from redis.asyncio import Redis

    from llmhost.cache.keys import CacheKey
    from llmhost.cache.models import Answer
    from llmhost.store.keys import NamespaceKeys

#: Each index, a server that has it, and how often a search waits after the question was embedded.
KINDS: dict[str, tuple[str, MakeIndex, int]] = {
    "flat": ("default", FlatIndex, 1),
    "vector_set, small": ("redis-8.2", VectorSetIndex, 1),
    "vector_set, large": ("redis-8.2", partial(VectorSetIndex, most_in_log=0), 2),
    "query_engine": ("redis-8.2-search", QueryEngineIndex, 2),
}


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


@pytest.mark.parametrize("limited", [False, True], ids=["", "limited"])
async def test_an_exact_hit_and_a_store_wait_once_and_a_semantic_hit_twice_after_the_embedding(
    make_cache: MakeCache,
    redis_client: Redis,
    keys: NamespaceKeys,
    key: Callable[..., CacheKey],
    answer: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    limited: bool,
) -> None:
    limits = CacheLimits(redis_client, keys, 1000, 0, lifetime=60.0) if limited else None
    cache = make_cache(limits=limits)
    stored, other = key("what is artificial intelligence in simple words"), key("how is a cake baked")
    reworded = key("what is artificial intelligence in plain simple words")
    for one in (stored, other):
        await cache.store(one, answer(), await cache.embed(one))
    await cache.exact(stored)
    await cache.semantic(reworded)
    await asyncio.gather(*(redis_client.ping() for _ in range(4)))  # connections for what is asked at once
    waits = RedisWaits(monkeypatch)
    assert await waits.of(cache.exact(stored)) == 1
    before = 0 if kind == "query_engine" else 1  # while the question is embedded
    found = await cache.semantic(reworded)
    assert found.served is not None
    assert await waits.of(cache.semantic(reworded)) <= before + KINDS[kind][2]
    new = key("which wine goes with fish")
    vector = await cache.embed(new)
    assert await waits.of(cache.store(new, answer(), vector)) == 1
