"""A cache that is to keep so much and no more takes out what was used the longest time ago."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from llmhost.cache.contracts import Embedder, Index
from llmhost.cache.keys import CacheKey
from llmhost.cache.limits import CacheLimits
from llmhost.cache.models import Answer, Hit
from llmhost.cache.service import SemanticCache
from llmhost.errors import StoreRefused
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

MakeKey = Callable[..., CacheKey]
NOW = 1_700_000_000.0


class Kept:
    """A cache with limits, whose clock is the time of what is stored."""

    def __init__(self, cache: SemanticCache, key: MakeKey, answer: Callable[..., Answer]) -> None:
        self.cache, self.key, self._answer, self.now = cache, key, answer, NOW

    async def store(self, question: str) -> None:
        self.now += 1
        stored = self.key(question)
        answer = replace(self._answer(question), timestamp=self.now)
        await self.cache.store(stored, answer, await self.cache.embed(stored))

    async def use(self, question: str) -> None:
        self.now += 1
        await self.cache.touch(Hit(self.key(question).entry, self.now))

    async def among(self, *questions: str) -> list[str]:
        return [question for question in questions if await self.cache.exact(self.key(question))]


@pytest.fixture
def kept(
    cache: SemanticCache,
    key: MakeKey,
    answer: Callable[..., Answer],
    redis_client: Redis,
    keys: NamespaceKeys,
) -> Callable[..., Kept]:
    def make(max_entries: int = 0, max_bytes: int = 0) -> Kept:
        cache.limits = CacheLimits(redis_client, keys, max_entries, max_bytes, lifetime=3600.0)
        return Kept(cache, key, answer)

    return make


async def test_the_entry_that_was_used_the_longest_time_ago_goes_first(kept: Callable[..., Kept]) -> None:
    house = kept(max_entries=2)
    await house.store("first")
    await house.store("second")
    await house.use("first")
    await house.store("third")
    assert await house.among("first", "second", "third") == ["first", "third"]


async def test_what_goes_leaves_the_index_and_the_counts_too(
    kept: Callable[..., Kept], redis_client: Redis
) -> None:
    house = kept(max_entries=1)
    await house.store("first")
    await house.use("first")
    await house.store("second")
    gone, (_, index) = house.key("first"), await house.cache.embedder_source()
    assert list(await index.vectors(gone.scope, [gone.entry])) == [None]
    assert not await redis_client.exists(f"test:metadata:{gone.entry}")


async def test_storing_an_entry_anew_does_not_count_it_twice(kept: Callable[..., Kept]) -> None:
    house = kept(max_entries=2)
    for question in ("first", "second", "second", "second"):
        await house.store(question)
    assert await house.among("first", "second") == ["first", "second"]


async def test_a_limit_that_was_lowered_is_reached_in_steps(kept: Callable[..., Kept]) -> None:
    house = kept(max_entries=100)
    questions = [f"question {number}" for number in range(30)]
    for question in questions:
        await house.store(question)
    house = kept(max_entries=5)
    house.now = NOW + 100
    await house.store("one more")
    assert len(await house.among(*questions)) == 20
    await house.store("another")
    await house.store("a third")
    assert len(await house.among(*questions, "one more", "another", "a third")) == 5


async def test_bytes_are_limited_by_how_large_entries_were_lately(kept: Callable[..., Kept]) -> None:
    house = kept(max_bytes=8_000)
    questions = [f"question {number}" for number in range(60)]
    for question in questions:
        await house.store(question)
    left = await house.among(*questions)
    assert left == questions[-len(left) :]
    assert 3 < len(left) < 30


async def test_answers_that_have_expired_are_not_counted(kept: Callable[..., Kept]) -> None:
    house = kept(max_entries=2)
    await house.store("first")
    await house.store("second")
    house.now += 3600
    await house.store("third")
    assert await house.among("first", "second", "third") == ["first", "second", "third"]


async def test_where_the_index_takes_no_more_the_limit_holds_all_the_same(kept: Callable[..., Kept]) -> None:
    house = kept(max_entries=1)
    await house.store("first")
    embedder, index = await house.cache.embedder_source()

    class FullIndex:
        bytes_per_entry = 1
        remove = index.remove

        async def add(self, *_: object) -> None:
            raise StoreRefused("the index is full")

    async def full() -> tuple[Embedder, Index]:
        return embedder, cast("Index", FullIndex())

    house.cache.embedder_source = full
    with pytest.raises(StoreRefused):
        await house.store("second")
    assert await house.among("first", "second") == ["second"]


async def test_without_limits_nothing_is_noted(kept: Callable[..., Kept], redis_client: Redis) -> None:
    house = kept()
    house.cache.limits = None
    await house.store("first")
    await house.use("first")
    assert not await redis_client.exists("test:recent", "test:volume")


async def test_a_hit_on_what_was_taken_out_does_not_bring_it_back(
    kept: Callable[..., Kept], redis_client: Redis
) -> None:
    house = kept(max_entries=1)
    await house.store("first")
    await house.store("second")
    await house.use("first")
    assert await redis_client.zcard("test:recent") == 1
