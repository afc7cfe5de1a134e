"""What expired entries have left is removed, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugins.redis_servers import ClientOf

from llmhost.cache.contracts import Index
from llmhost.cache.indexes import vector_set
from llmhost.cache.indexes.choose import IndexKind, make_index
from llmhost.cache.keys import CacheKey
from llmhost.cache.models import Answer
from llmhost.cache.stored import StoredEntry, pack_entry
from llmhost.cache.sweep import Sweeper
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

MakeKey = Callable[..., CacheKey]
MakeAnswer = Callable[..., Answer]

DIMENSIONS = 8
#: more than a scope of vector sets has in its log
MANY = 140
VECTORS = np.random.default_rng(5).standard_normal((MANY, DIMENSIONS)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def index_of(client: Redis, keys: NamespaceKeys, kind: IndexKind, embedder: str, dimensions: int) -> Index:
    return make_index(kind, client, keys, embedder=embedder, dimensions=dimensions, lifetime=600.0)


def sweeper(client: Redis, keys: NamespaceKeys, **options: Any) -> Sweeper:
    return Sweeper(client, keys, make=partial(index_of, client, keys), **options)


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        ("redis-6.2", "flat"),
        ("valkey-9.1", "flat"),
        ("redis-8.2", "vector_set"),
        ("redis-8.2-search", "query_engine"),
    ],
)
async def test_vectors_of_expired_entries_go_and_the_others_stay(
    client_of: ClientOf,
    keys: NamespaceKeys,
    key: MakeKey,
    answer: MakeAnswer,
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    kind: IndexKind,
) -> None:
    monkeypatch.setattr(vector_set, "MOST_LISTED", 50)
    client = client_of(server)
    await client.hset(keys.layout, "index", kind)
    index = index_of(client, keys, kind, "e:1", DIMENSIONS)
    large = [key(f"question {number}") for number in range(MANY)]
    small = [key(f"question {number}", conversation=1) for number in range(4)]
    for number, one in enumerate((*large, *small)):
        await index.add(one.scope, one.entry, VECTORS[number % MANY])
        if number % 2:
            stored = pack_entry(StoredEntry(one.question, one.scope, "e:1", DIMENSIONS, answer()))
            await client.set(keys.response(one.entry), stored, ex=600)
    done = await sweeper(client, keys).run()
    assert done.refused == ""
    left = await index.vectors(large[0].scope, [one.entry for one in large])
    assert [vector is not None for vector in left[1::2]] == [True] * (MANY // 2)
    # Of a large vector set, a sample of 50 has no expired entry any more. Redis draws it unevenly, so that a
    # tenth of all was once found to be left.
    assert sum(vector is not None for vector in left[::2]) <= (MANY // 4 if kind == "vector_set" else 0)
    kept = await index.vectors(small[0].scope, [one.entry for one in small])
    assert [vector is not None for vector in kept] == [False, True, False, True]
    assert done.vectors == sum(vector is None for vector in (*left, *kept))


@pytest.mark.as_admin
async def test_keys_of_expired_entries_and_of_unused_indexes_go(
    client_of: ClientOf, keys: NamespaceKeys, answer: MakeAnswer
) -> None:
    client, here, gone, scope = client_of("redis-8.2"), "a" * 32, "b" * 32, "c" * 32
    await client.hset(keys.layout, "index", "vector_set")
    await client.set(keys.response(here), pack_entry(StoredEntry("q", scope, "e", 8, answer())))
    for entry in (here, gone):
        await client.hset(keys.embedding(entry), "question", "q")
        await client.hset(keys.metadata(entry), "hit_count", 1)
    await client.set(keys.index("e", scope), "of an older llmhost")
    await client.set(keys.flat("e", scope), "of another server")
    others = ["testing:flat:e:s", "llmhost:local:workers", f"test:flight:{gone}", f"test:judged:{gone}"]
    for name in others:
        await client.set(name, 1)
    done = await sweeper(client, keys).run()
    assert (done.vectors, done.records, done.index_keys) == (0, 2, 2)
    mine = [keys.layout, keys.response(here), keys.embedding(here), keys.metadata(here)]
    assert set(await client.keys("*")) == {name.encode() for name in (*mine, *others)}


async def test_an_index_that_is_configured_or_being_built_is_kept(
    client_of: ClientOf, keys: NamespaceKeys
) -> None:
    client = client_of("redis-8.2-search")
    await client.hset(keys.layout, mapping={"index": "vector_set", "building": "query_engine"})
    await client.set(keys.flat("e", "s"), "x")
    await client.hset(keys.vector("e", "x"), "s", "s")
    done = await sweeper(client, keys, configured="flat").run()
    assert done.index_keys == 0
    assert await client.exists(keys.flat("e", "s"), keys.vector("e", "x")) == 2


async def test_what_is_stored_anew_at_the_same_moment_stays_in_the_index(
    client_of: ClientOf, keys: NamespaceKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, entry, scope = client_of("redis-6.2"), "a" * 32, "b" * 32
    index = index_of(client, keys, "flat", "e", DIMENSIONS)
    await index.add(scope, entry, VECTORS[0])
    made = index_of(client, keys, "flat", "e", DIMENSIONS)
    remove = made.remove

    async def store_and_remove(scope: str, entries: list[str]) -> None:
        await client.set(keys.response(entry), "stored anew")
        await remove(scope, entries)

    monkeypatch.setattr(made, "remove", store_and_remove)
    done = await Sweeper(client, keys, make=lambda *_: made, configured="flat").run()
    assert done.vectors == 0
    assert [one is not None for one in await index.vectors(scope, [entry])] == [True]


async def test_what_is_stored_while_the_query_engine_is_swept_stays_in_its_index(
    client_of: ClientOf, keys: NamespaceKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, entry, scope = client_of("redis-8.2-search"), "a" * 32, "b" * 32
    await client.hset(keys.layout, "index", "query_engine")
    index = index_of(client, keys, "query_engine", "e", DIMENSIONS)
    await index.add(scope, entry, VECTORS[0])
    unlink = type(client).unlink

    async def store_and_unlink(self: Redis, *names: str) -> Any:
        await client.set(keys.response(entry), "stored anew")
        await index.add(scope, entry, VECTORS[0])
        return await unlink(self, *names)

    monkeypatch.setattr(type(client), "unlink", store_and_unlink)
    await sweeper(client, keys).run()
    is_stored = bool(await client.exists(keys.response(entry)))
    assert [one is not None for one in await index.vectors(scope, [entry])] == [is_stored]
