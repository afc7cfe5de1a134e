"""Entries move from any index to any other, and from one embedding model to another, while others serve."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from doubles.embedders import WordEmbedder
from plugins.redis_servers import ClientOf

from llmhost.cache.contracts import Index
from llmhost.cache.indexes import in_force
from llmhost.cache.indexes.choose import IndexKind, make_index, read_layout
from llmhost.cache.indexes.in_force import IndexInForce
from llmhost.cache.keys import CacheKey
from llmhost.cache.models import Answer
from llmhost.cache.policy import ThresholdPolicy
from llmhost.cache.reindex import Reindexed, Reindexer
from llmhost.cache.service import SemanticCache
from llmhost.cache.stored import StoredEntry, decode_entry, encode_answer, pack_entry, read_entries
from llmhost.errors import StateError, UsageError
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

MakeKey = Callable[..., CacheKey]
MakeAnswer = Callable[..., Answer]

KINDS: list[IndexKind] = ["vector_set", "query_engine", "flat"]
#: more than a scope of vector sets has in its log
MANY = 140


class Process:
    """A process that serves; it looks at once at what is on record."""

    def __init__(self, client: Redis, keys: NamespaceKeys, kind: IndexKind, id: str = "words") -> None:
        self.embedder = WordEmbedder(id)
        self.index = IndexInForce(
            client, keys, partial(kind_of, client, keys, self.embedder), kind, configured=False
        )

        async def source() -> tuple[WordEmbedder, Index]:
            return self.embedder, self.index

        async def policy() -> ThresholdPolicy:
            return ThresholdPolicy(0.8)

        self.cache = SemanticCache(
            client,
            keys,
            embedder_source=source,
            policy_source=policy,
            candidates=3,
            response_ttl=3600.0,
            embedding_ttl=7200.0,
        )

    async def store(self, key: CacheKey, answer: Answer) -> None:
        await self.cache.store(key, answer, await self.cache.embed(key))

    async def nearest(self, key: CacheKey) -> str | None:
        nearest = (await self.cache.semantic(key)).nearest
        return None if nearest is None else nearest.question


def kind_of(client: Redis, keys: NamespaceKeys, embedder: WordEmbedder, kind: IndexKind) -> Index:
    return make_index(
        kind, client, keys, embedder=embedder.id, dimensions=embedder.dimensions, lifetime=7200.0
    )


def reindexer(client: Redis, keys: NamespaceKeys, id: str = "words", **options: Any) -> Reindexer:
    embedder = WordEmbedder(id)

    async def source() -> WordEmbedder:
        return embedder

    def make(kind: IndexKind, name: str, dimensions: int) -> Index:
        return make_index(kind, client, keys, embedder=name, dimensions=dimensions, lifetime=7200.0)

    return Reindexer(
        client, keys, make=make, embedder_source=source, embedder_id=id, **({"period": 0.0} | options)
    )


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_force, "LAYOUT_PERIOD", -1.0)


@pytest.fixture
def client(client_of: ClientOf) -> Redis:
    return client_of("redis-8.2-search")


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(KINDS, 2)))
async def test_entries_move_from_any_index_to_any_other_and_none_is_embedded_for_it(
    client: Redis, keys: NamespaceKeys, key: MakeKey, answer: MakeAnswer, before: IndexKind, after: IndexKind
) -> None:
    await client.hset(keys.layout, "index", before)
    process = Process(client, keys, before)
    for number in range(MANY):
        await process.store(key(f"question number {number}"), answer())
    for person in ("ann", "bob"):
        await process.store(key("how old is she", person=person), answer())
    done = await reindexer(client, keys).run(after)
    assert (done.before, done.index, done.entries, done.added, done.embedded) == (
        before,
        after,
        MANY + 2,
        MANY + 2,
        0,
    )
    assert (await read_layout(client, keys)).index == after
    for known in (process, Process(client, keys, after)):
        assert await known.nearest(key("question number 77 please")) is not None
        # All are as far from each other, so that an approximate search may miss one.
        kept = await known.index.vectors(
            key("x").scope, [key(f"question number {number}").entry for number in range(MANY)]
        )
        assert all(vector is not None for vector in kept)
        assert await known.nearest(key("how old is she then", person="bob")) == "how old is she"
    old = await kind_of(client, keys, process.embedder, before).vectors(
        key("x").scope, [key("question number 1").entry]
    )
    assert list(old) == [None]


async def test_what_others_store_forget_and_ask_meanwhile_is_right_before_and_after(
    client: Redis, keys: NamespaceKeys, key: MakeKey, answer: MakeAnswer
) -> None:
    await client.hset(keys.layout, "index", "flat")
    process = Process(client, keys, "flat")
    for number in range(10):
        await process.store(key(f"question number {number}"), answer())
    moved, go_on = asyncio.Event(), asyncio.Event()
    steps: list[str] = []

    def tell(done: Reindexed) -> None:
        steps.append(done.step)
        moved.set()

    run = reindexer(client, keys, tell=tell, period=0.0)
    wait = run._wait

    async def wait_for_others(*args: Any) -> None:
        await go_on.wait()
        await wait(*args)

    run._wait = wait_for_others  # type: ignore[method-assign, assignment]
    running = asyncio.create_task(run.run("vector_set"))
    await moved.wait()
    await process.store(key("stored by one who knows"), answer())
    late = kind_of(client, keys, process.embedder, "flat")
    packed = process.cache._packed(key("stored by one who does not"), answer(), "words", 512, None)
    await process.cache._write(key("stored by one who does not"), packed, None)
    vector = process.embedder.embed("stored by one who does not")
    assert vector is not None
    await late.add(key("x").scope, key("stored by one who does not").entry, vector)
    await process.index.remove(key("x").scope, [key("question number 3").entry])
    await client.delete(keys.response(key("question number 3").entry))
    assert await process.nearest(key("question number 4 please")) == "question number 4"
    go_on.set()
    await running
    fresh = Process(client, keys, "vector_set")
    for question in ("stored by one who knows", "stored by one who does not", "question number 9"):
        assert await fresh.nearest(key(f"{question} now")) == question
    kept = await fresh.index.vectors(key("x").scope, [key("question number 3").entry])
    assert list(kept) == [None]
    assert steps[-1] == "removing the old index"


async def test_a_run_that_was_cut_off_is_continued_by_the_next(
    client: Redis, keys: NamespaceKeys, key: MakeKey, answer: MakeAnswer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmhost.cache import walk

    await client.hset(keys.layout, "index", "flat")
    process = Process(client, keys, "flat")
    for number in range(30):
        await process.store(key(f"question number {number}"), answer())
    monkeypatch.setattr(walk, "BATCH", 10)

    def interrupted(_: Reindexed) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await reindexer(client, keys, tell=interrupted).run("vector_set")
    layout = await read_layout(client, keys)
    assert (layout.index, layout.building) == ("flat", "vector_set")
    assert await process.nearest(key("question number 20 please")) == "question number 20"
    done = await reindexer(client, keys).run(None)
    assert (done.index, done.entries, done.added) == ("vector_set", 30, 20)
    assert await process.nearest(key("question number 20 please")) == "question number 20"


async def test_another_embedding_model_finds_all_entries_after_they_were_embedded_again(
    client: Redis, keys: NamespaceKeys, key: MakeKey, answer: MakeAnswer
) -> None:
    await client.hset(keys.layout, "index", "vector_set")
    process = Process(client, keys, "vector_set", "old")
    for number in range(5):
        await process.store(key(f"question number {number}"), answer())
    other = Process(client, keys, "vector_set", "new")
    assert await other.nearest(key("question number 2 please")) is None
    left = await reindexer(client, keys, "new").run(None)
    assert (left.other_embedder, left.embedded) == (5, 0)
    done = await reindexer(client, keys, "new", re_embed=True).run(None)
    assert (done.embedded, done.other_embedder, done.removed_keys) == (5, 0, 1)
    assert await other.nearest(key("question number 2 please")) == "question number 2"
    (entry,) = await read_entries(client, keys, [key("question number 2").entry])
    assert entry is not None
    assert (entry.embedder, entry.dimensions) == ("new", 512)
    assert 3590 < await client.ttl(keys.response(key("question number 2").entry)) <= 3600


async def test_entries_of_an_older_llmhost_get_the_present_layout_and_keep_their_counts(
    client: Redis, keys: NamespaceKeys, key: MakeKey, answer: MakeAnswer
) -> None:
    process = Process(client, keys, "flat")
    old = key("question of old")
    await process.store(old, answer())
    await client.set(keys.response(old.entry), encode_answer(answer()), ex=600)
    facts: dict[Any, Any] = {"question": old.question, "scope": old.scope, "embedder": "words"}
    await client.hset(keys.embedding(old.entry), mapping=facts | {"vector": bytes(4 * 512)})
    await client.hset(keys.metadata(old.entry), "hit_count", 41)
    done = await reindexer(client, keys).run("vector_set")
    assert (done.updated, done.added, done.embedded) == (1, 1, 0)
    entry = decode_entry(await client.get(keys.response(old.entry)))
    assert entry == StoredEntry(old.question, old.scope, "words", 512, answer())
    assert await client.hget(keys.metadata(old.entry), "hit_count") == b"41"
    assert await client.exists(keys.embedding(old.entry)) == 0
    assert 590 < await client.ttl(keys.response(old.entry)) <= 600
    assert await process.nearest(key("question of old please")) == "question of old"


async def test_an_entry_that_no_index_finds_is_found_again(
    client: Redis, keys: NamespaceKeys, key: MakeKey, answer: MakeAnswer
) -> None:
    await client.hset(keys.layout, "index", "vector_set")
    process = Process(client, keys, "vector_set")
    lost = key("question that was lost")
    await process.store(lost, answer())
    await process.index.remove(lost.scope, [lost.entry])
    assert await process.nearest(lost) is None
    done = await reindexer(client, keys).run(None)
    assert (done.before, done.added, done.embedded) == ("vector_set", 1, 1)
    assert await process.nearest(lost) == "question that was lost"


async def test_garbage_in_a_key_stops_nothing(
    client: Redis, keys: NamespaceKeys, key: MakeKey, answer: MakeAnswer
) -> None:
    process = Process(client, keys, "flat")
    await process.store(key("a question"), answer())
    await client.set(keys.response("a" * 32), "garbage")
    await client.hset(keys.response("c" * 32), "gar", "bage")
    await client.set(keys.response("b" * 32), pack_entry(StoredEntry("q", "x*y", "words", 512, answer())))
    done = await reindexer(client, keys).run("vector_set")
    assert (done.entries, done.added) == (1, 1)


async def test_an_index_that_the_server_does_not_have_is_refused(
    client_of: ClientOf, keys: NamespaceKeys
) -> None:
    with pytest.raises(UsageError, match="does not have the index vector_set"):
        await reindexer(client_of("redis-6.2"), keys).run("vector_set")


async def test_a_run_whose_index_is_built_no_more_does_not_put_it_in_force(
    client: Redis, keys: NamespaceKeys
) -> None:
    await client.hset(keys.layout, "index", "flat")
    run = reindexer(client, keys)
    begin = run._begin

    async def cleared(*args: Any) -> Reindexed:
        done = await begin(*args)
        await client.delete(keys.layout)
        return done

    run._begin = cleared  # type: ignore[method-assign, assignment]
    with pytest.raises(StateError, match="is being built no more"):
        await run.run("vector_set")
