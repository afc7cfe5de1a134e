"""The cache on a Redis Cluster that changes under load: an answer that a replica has is never lost, and no
question gets another's."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from doubles.embedders import WordEmbedder
from doubles.waiting import PAUSE, until
from numpy.typing import NDArray
from plugins.cache import MakeCache
from plugins.redis_clusters import RedisCluster
from redis.crc import key_slot

from llmhost.cache.catalog import Catalog
from llmhost.cache.contracts import Embedder, Index
from llmhost.cache.indexes.choose import IndexKind
from llmhost.cache.indexes.choose import make_index as index_of_kind
from llmhost.cache.indexes.vector_set import VectorSetIndex
from llmhost.cache.keys import CacheKey, cache_key, scope_id
from llmhost.cache.models import Answer
from llmhost.cache.reindex import Reindexer
from llmhost.cache.service import SemanticCache
from llmhost.cache.sweep import Sweeper
from llmhost.errors import StoreError
from llmhost.store.client import connect
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from plugins.cache import MakeIndex
    from redis.asyncio import Redis

SCOPE = scope_id({"tenant": "t"})


@pytest.fixture
def keys() -> NamespaceKeys:
    return NamespaceKeys("test", sharded=True)


@pytest.fixture
def make_index() -> MakeIndex:
    """Three sets from the first entry on: all of it moves and fails over."""
    return lambda *args, **options: VectorSetIndex(*args, **options, most_in_log=0, shards=3)


@pytest.fixture
async def client(own_redis_cluster: RedisCluster) -> AsyncIterator[Redis]:
    async with connect(own_redis_cluster.config()) as client:
        yield client


def question(number: int) -> CacheKey:
    return cache_key(SCOPE, f"What is {number}?")


class NumberEmbedder(WordEmbedder):
    """Questions about one number have the same vector, those about two have nothing in common."""

    dimensions = 64

    def embed(self, text: str) -> NDArray[np.float32]:
        vector = np.random.default_rng(int(re.sub(r"\D", "", text))).standard_normal(self.dimensions)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


class Load:
    """Stores answers and asks for them, at the same time, until it is stopped."""

    def __init__(self, cache: SemanticCache, answer: Callable[..., Answer]) -> None:
        self._cache = cache
        self._answer = answer
        self.stored: list[int] = []
        self.seen = Counter[str]()
        self.wrong: list[str] = []
        self._number = 0
        self._tasks = [asyncio.create_task(step()) for step in (self._store, self._ask, self._ask)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def has_stored(self, count: int) -> None:
        """Returns when so many more are stored."""
        goal = len(self.stored) + count
        await until(lambda: len(self.stored) >= goal)

    async def _store(self) -> None:
        while True:
            self._number += 1
            key = question(self._number)
            with self._counted("store"):
                vector = await self._cache.embed(key)
                await self._cache.store(key, self._answer(f"answer {self._number}"), vector)
                self.stored.append(self._number)
            await asyncio.sleep(0)

    async def _ask(self) -> None:
        turn = 0
        while True:
            turn += 1
            await asyncio.sleep(0)
            if self.stored:
                with self._counted("ask"):
                    await self.check(self.stored[turn % len(self.stored)])

    async def check(self, number: int) -> bool:
        """Whether the question gets its answer, by its own wording."""
        found = await self._cache.exact(question(number))
        if found is not None and found.text != f"answer {number}":
            self.wrong.append(f"{number}: {found.text}")
        other = cache_key(SCOPE, f"Tell me about {number}")
        served = (await self._cache.semantic(other)).served
        if served is not None and served.answer.text != f"answer {number}":
            self.wrong.append(f"{number}, reworded: {served.answer.text}")
        return found is not None

    async def lost(self, number: int) -> bool:
        """Whether the question has no answer, once this process knows of the change."""
        while True:
            try:
                return not await self.check(number)
            except StoreError:
                await asyncio.sleep(PAUSE)

    @contextmanager
    def _counted(self, what: str) -> Iterator[None]:
        """An error of Redis is one that a user of the cache bears: an engine answers."""
        try:
            yield
            self.seen[f"{what}: ok"] += 1
        except StoreError:
            self.seen[f"{what}: failed"] += 1


@pytest.fixture
async def load(client: Redis, make_cache: MakeCache, answer: Callable[..., Answer]) -> AsyncIterator[Load]:
    load = Load(make_cache(client=client, embedder=NumberEmbedder()), answer)
    yield load
    await load.stop()


async def test_slots_that_move_under_load_lose_no_answer_and_hold_no_question_up(
    own_redis_cluster: RedisCluster, load: Load
) -> None:
    cluster = own_redis_cluster
    await load.has_stored(20)
    slots = {key_slot(name) for node in range(3) for name in cluster.names(node) if b":recent" not in name}
    for slot in sorted(slots):
        await asyncio.to_thread(cluster.move, slot, (cluster.owner(slot) + 1) % 3)
    await load.has_stored(20)
    await load.stop()

    assert [number for number in load.stored if await load.lost(number)] == []
    assert load.wrong == []
    assert load.seen["ask: failed"] == 0, load.seen


async def test_a_master_that_fails_under_load_loses_no_answer_that_its_replica_has(
    own_redis_cluster: RedisCluster, load: Load, keys: NamespaceKeys
) -> None:
    cluster = own_redis_cluster
    await load.has_stored(40)
    before = [*load.stored]
    acknowledged = {name for node in (3, 4, 5) for name in cluster.names(node)}
    cluster.nodes[0].kill()
    await until(lambda: cluster.is_well() and cluster.owner(0) == 3)
    await load.has_stored(20)
    await load.stop()

    safe = [number for number in before if keys.response(question(number).entry).encode() in acknowledged]
    assert len(safe) > 20
    assert [number for number in safe if await load.lost(number)] == []
    assert load.wrong == []


async def test_entries_move_to_another_index_and_are_swept_and_cleared(
    cluster_client: Redis,
    redis_cluster: RedisCluster,
    keys: NamespaceKeys,
    make_cache: MakeCache,
    answer: Callable[..., Answer],
) -> None:
    embedder, client = NumberEmbedder(), cluster_client

    def make(kind: IndexKind, embedder: str, dimensions: int) -> Index:
        options = {"embedder": embedder, "dimensions": dimensions, "lifetime": 7200.0}
        return index_of_kind(kind, client, keys, **options, shards=2)  # type: ignore[arg-type]

    async def source() -> tuple[Embedder, Index]:
        return embedder, make("vector_set", embedder.id, embedder.dimensions)

    cache = make_cache(client=client, embedder_source=source)
    for number in range(30):
        await cache.store(question(number), answer(f"answer {number}"), embedder.embed(str(number)))
    await client.unlink(keys.response(question(0).entry))
    reindexer = Reindexer(
        client, keys, make=make, embedder_source=lambda: ready(embedder), embedder_id=embedder.id, period=0.0
    )

    moved = await reindexer.run("flat")
    assert (moved.entries, moved.added) == (29, 29)
    flat = make("flat", embedder.id, embedder.dimensions)
    await flat.prepare(SCOPE)
    (nearest, *_) = await flat.search(SCOPE, embedder.embed("7"), 1)
    assert nearest.entry == question(7).entry
    await client.unlink(keys.response(question(7).entry))
    swept = await Sweeper(client, keys, make=make).run()
    assert swept.vectors == 1

    async def no_index(embedder: str, dimensions: int) -> Index:
        return make("flat", embedder, dimensions)

    assert await Catalog(client, keys, no_index).clear() == 28
    assert all(redis_cluster.names(node) == frozenset() for node in range(3))


async def ready(embedder: NumberEmbedder) -> Embedder:
    return embedder
