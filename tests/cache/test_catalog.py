"""The cache for people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest

from llmhost.cache import walk
from llmhost.cache.calibration import Label
from llmhost.cache.catalog import Catalog, Filter, cache_usage
from llmhost.cache.contracts import Index
from llmhost.cache.keys import CacheKey
from llmhost.cache.models import Answer, Asker, Candidate, Hit, Objection, Served, Verdict
from llmhost.cache.service import SemanticCache
from llmhost.cache.stored import encode_answer
from llmhost.errors import UsageError
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from plugins.cache import MakeIndex
    from redis.asyncio import Redis

MakeKey = Callable[..., CacheKey]
MakeAnswer = Callable[..., Answer]


@pytest.fixture
def catalog(redis_client: Redis, keys: NamespaceKeys, make_index: MakeIndex) -> Catalog:
    async def index(embedder: str, dimensions: int) -> Index:
        return make_index(redis_client, keys, embedder=embedder, dimensions=dimensions, lifetime=60.0)

    return Catalog(redis_client, keys, index)


@pytest.fixture
async def filled(cache: SemanticCache, key: MakeKey, answer: MakeAnswer) -> list[str]:
    """Three entries, the last used one first."""
    stored = [key(question) for question in ("first question", "second question", "third question")]
    for number, each in enumerate(stored):
        await cache.store(each, answer(f"answer {number}"), await cache.embed(each))
        await cache.touch(Hit(each.entry, 1_800_000_000.0 + number))
    return [each.entry for each in reversed(stored)]


async def test_entries_and_nothing_else_are_listed_last_used_first(
    catalog: Catalog, filled: list[str], redis_client: Redis
) -> None:
    await redis_client.set("test:embedding:not-one-of-ours", 1)
    assert [entry.entry for entry in await catalog.entries()] == filled


async def test_an_entry_says_what_is_known_of_it(catalog: Catalog, filled: list[str]) -> None:
    entry = await catalog.find(filled[0])
    assert entry.answer is not None
    facts = (entry.question, entry.answer.text, entry.hit_count, entry.last_accessed, entry.embedder)
    assert facts == ("third question", "answer 2", 1, 1_800_000_002.0, "words")


async def test_the_beginning_of_a_name_is_enough(catalog: Catalog, filled: list[str]) -> None:
    assert (await catalog.find(filled[1][:12].upper())).entry == filled[1]


@pytest.mark.parametrize(("prefix", "words"), [("xyz", "no entry begins"), ("", "3 entries begin")])
async def test_a_beginning_of_no_name_or_of_several_is_refused(
    catalog: Catalog, filled: list[str], prefix: str, words: str
) -> None:
    with pytest.raises(UsageError, match=f"{words} with '{prefix}'"):
        await catalog.find(prefix)


async def test_a_forgotten_entry_is_gone_everywhere(
    catalog: Catalog, filled: list[str], cache: SemanticCache, key: MakeKey, redis_client: Redis
) -> None:
    await catalog.forget(await catalog.find(filled[0]))
    assert await redis_client.keys(f"test:*:{filled[0]}") == []
    assert await cache.exact(key("third question")) is None
    nearest = (await cache.semantic(key("third question"))).nearest
    assert nearest is not None
    assert nearest.question != "third question"


async def test_what_an_older_llmhost_stored_is_listed_and_can_be_forgotten(
    catalog: Catalog, filled: list[str], redis_client: Redis, answer: MakeAnswer
) -> None:
    await redis_client.set(f"test:response:{filled[0]}", encode_answer(answer("old")), ex=60)
    older: Any = {"question": "old?", "scope": "s", "embedder": "e", "vector": b"1234" * 64}
    await redis_client.hset(f"test:embedding:{filled[0]}", mapping=older)
    entry = await catalog.find(filled[0])
    assert (entry.question, entry.dimensions, entry.answer.text) == ("old?", 64, "old")
    await catalog.forget(entry)
    assert not await redis_client.exists(f"test:embedding:{filled[0]}", f"test:response:{filled[0]}")


@pytest.mark.as_admin
async def test_clearing_removes_this_namespace_and_nothing_else(
    catalog: Catalog, filled: list[str], redis_client: Redis
) -> None:
    others = {b"testing:response:x", b"llmhost:local:ledger:rentals", b"test:other:x"}
    for name in others:
        await redis_client.set(name, 1)
    assert await catalog.clear() == 3
    assert set(await redis_client.keys("*")) == others


async def test_a_forgotten_entry_says_once_how_it_came_to_be_served(
    catalog: Catalog, filled: list[str], cache: SemanticCache, answer: MakeAnswer
) -> None:
    entry = await catalog.find(filled[0])
    candidate = Candidate(entry.entry, "third question", 0.9, answer())
    verdict = Verdict(candidate, True, "", raw=0.93, objections=(Objection("order", "", refuses=False),))
    await cache.touch(Hit(entry.entry, 1_800_000_000.0, Served(verdict, "asked", Asker("local", "t"))))
    assert await catalog.forget(entry) == Label("forget", False, 0.93, ("order",))
    assert await catalog.forget(entry) is None


@pytest.mark.parametrize("raw", ["", "sure", "-1", "2", "nan"])
async def test_what_is_no_probability_teaches_nothing(
    catalog: Catalog, filled: list[str], redis_client: Redis, keys: NamespaceKeys, raw: str
) -> None:
    await redis_client.hset(keys.metadata(filled[0]), mapping={"served_raw": raw, "served_doubts": ""})
    assert await catalog.forget(await catalog.find(filled[0])) is None


# What the cache takes of its Redis.


@pytest.mark.as_admin
async def test_an_empty_cache_has_no_size_of_an_entry(redis_client: Redis, keys: NamespaceKeys) -> None:
    await redis_client.set("testing:response:x", 1)  # another program's
    usage = await cache_usage(redis_client, keys)
    assert (usage.entries, usage.bytes_per_entry) == (0, None)
    assert (usage.used_memory_bytes or 0) > 100_000


async def test_an_entry_is_as_large_as_its_two_keys_and_its_vector(
    redis_client: Redis, keys: NamespaceKeys, cache: SemanticCache, key: MakeKey, answer: MakeAnswer
) -> None:
    stored = key("what is redis")
    await cache.store(stored, answer("x" * 5_000), await cache.embed(stored))
    await cache.touch(Hit(stored.entry, 1.0))
    names = [keys.response(stored.entry), keys.metadata(stored.entry)]
    expected = sum([await redis_client.memory_usage(name) for name in names]) + 512
    usage = await cache_usage(redis_client, keys)
    assert (usage.entries, usage.bytes_per_entry) == (1, expected)


@pytest.mark.parametrize(("name", "left"), [("vast-1", {"c"}), ("m7", {"b"}), ("vast", {"a", "b", "c"})])
async def test_what_one_worker_or_one_machine_answered_is_forgotten(
    catalog: Catalog, cache: SemanticCache, key: MakeKey, answer: MakeAnswer, name: str, left: set[str]
) -> None:
    for question, worker, machine in (("a", "vast-1", "m7"), ("b", "vast-1", "m8"), ("c", "vast-2", "m7")):
        stored = key(question)
        await cache.store(stored, answer(worker=worker, machine=machine), await cache.embed(stored))
    forgotten = await catalog.forget_of(name)
    assert {entry.question for entry in await catalog.entries()} == left
    assert len(forgotten) == 3 - len(left)


# Which entries.


@pytest.mark.parametrize(
    ("wanted", "fitting"),
    [
        (Filter(), {"red one", "red two", "blue three"}),
        (Filter(model="large"), {"red two"}),
        (Filter(text="RED"), {"red one", "red two"}),
        (Filter(text="red", model="m"), {"red one"}),
        (Filter(worker="m7"), {"blue three"}),
        (Filter(worker="m"), set()),
    ],
)
async def test_entries_are_listed_and_forgotten_by_model_words_and_worker(
    catalog: Catalog,
    cache: SemanticCache,
    key: MakeKey,
    answer: MakeAnswer,
    wanted: Filter,
    fitting: set[str],
) -> None:
    for question, options in (
        ("red one", {}),
        ("red two", {"model": "large"}),
        ("blue three", {"machine": "m7"}),
    ):
        stored = key(question)
        await cache.store(stored, answer(**options), await cache.embed(stored))
    assert {entry.question for entry in await catalog.entries(wanted)} == fitting
    assert len(await catalog.forget_matching(wanted)) == len(fitting)
    assert {entry.question for entry in await catalog.entries()} == {
        "red one",
        "red two",
        "blue three",
    } - fitting


async def test_entries_of_a_scope_are_found_by_the_beginning_of_its_name(
    catalog: Catalog, cache: SemanticCache, key: MakeKey, answer: MakeAnswer
) -> None:
    for person in ("ann", "bob"):
        stored = key("how old is she", person=person)
        await cache.store(stored, answer(person), await cache.embed(stored))
    scope = key("how old is she", person="bob").scope
    (entry,) = await catalog.entries(Filter(scope=scope[:10].upper()))
    assert entry.answer.text == "bob"


async def test_the_last_used_of_many_are_listed_with_the_number_of_all(
    catalog: Catalog, filled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "BATCH", 1)
    entries, total = await catalog.last_used(Filter(), 2)
    assert ([entry.entry for entry in entries], total) == (filled[:2], 3)
    assert await catalog.count() == 3


async def test_an_entry_that_a_scan_names_twice_is_counted_once(
    catalog: Catalog, filled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def twice(*_: object) -> AsyncIterator[list[str]]:
        for name in (filled[2], filled[0], filled[2]):
            yield [name]

    monkeypatch.setattr(walk, "names", twice)
    entries, total = await catalog.last_used(Filter(), 1)
    assert ([entry.entry for entry in entries], total) == (filled[:1], 2)


async def test_an_entry_has_the_size_of_its_keys_and_its_vector(
    catalog: Catalog, filled: list[str], redis_client: Redis, keys: NamespaceKeys
) -> None:
    entry = await catalog.find(filled[0])
    taken = [
        await redis_client.memory_usage(name) for name in (keys.response(filled[0]), keys.metadata(filled[0]))
    ]
    assert await catalog.sizes([entry]) == [sum(taken) + 512]


async def test_those_that_were_served_most_come_first_and_those_that_never_were_do_not(
    catalog: Catalog, cache: SemanticCache, key: MakeKey, answer: MakeAnswer
) -> None:
    for question, hits in (("once", 1), ("never", 0), ("often", 5), ("twice", 2)):
        each = key(question)
        await cache.store(each, answer("yes"), await cache.embed(each))
        for number in range(hits):
            await cache.touch(Hit(each.entry, 1_800_000_000.0 + number))
    assert [entry.question for entry in await catalog.most_used(2, 1000)] == ["often", "twice"]
    assert [entry.question for entry in await catalog.most_used(9, 1000)] == ["often", "twice", "once"]
