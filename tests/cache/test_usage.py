"""What the cache takes of its Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmhost.cache.catalog import cache_usage
from llmhost.cache.keys import CacheKey
from llmhost.cache.models import Answer
from llmhost.cache.service import SemanticCache
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_an_empty_cache_has_no_size_of_an_entry(redis_client: Redis, keys: NamespaceKeys) -> None:
    usage = await cache_usage(redis_client, keys)
    assert (usage.entries, usage.bytes_per_entry) == (0, None)
    assert (usage.used_memory_bytes or 0) > 100_000


async def test_an_entry_is_as_large_as_its_three_keys_and_its_vector(
    redis_client: Redis,
    keys: NamespaceKeys,
    cache: SemanticCache,
    key: Callable[..., CacheKey],
    answer: Callable[..., Answer],
) -> None:
    stored = key("what is redis")
    await cache.store(stored, answer("x" * 5_000), await cache.embed(stored))
    names = [keys.response(stored.entry), keys.embedding(stored.entry), keys.metadata(stored.entry)]
    expected = sum([await redis_client.memory_usage(name) for name in names]) + 4 * 512
    usage = await cache_usage(redis_client, keys)
    assert (usage.entries, usage.bytes_per_entry) == (1, expected)


async def test_what_other_programs_keep_there_is_not_counted(
    redis_client: Redis, keys: NamespaceKeys
) -> None:
    await redis_client.set("testing:response:x", 1)
    assert (await cache_usage(redis_client, keys)).entries == 0
