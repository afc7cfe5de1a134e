"""What only the flat index does: its log, and what happens to a damaged one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmhost.cache.indexes.flat import FlatIndex
from llmhost.cache.keys import Keys
from llmhost.errors import StoreRefused

if TYPE_CHECKING:
    from redis.asyncio import Redis

ENTRY = "a" * 32
VECTOR = np.eye(4, dtype=np.float32)[0]


@pytest.fixture
def index(redis_client: Redis, keys: Keys) -> FlatIndex:
    return FlatIndex(redis_client, keys, embedder="e", dimensions=4, lifetime=60.0)


async def test_adding_the_same_again_does_not_make_the_log_longer(
    index: FlatIndex, redis_client: Redis
) -> None:
    await index.add("s", ENTRY, VECTOR)
    length = await redis_client.strlen("test:index:e:s")
    await index.add("s", ENTRY, VECTOR)
    assert await redis_client.strlen("test:index:e:s") == length


@pytest.mark.parametrize("damage", [b"something else", b"LLMHOST1" + bytes(20), b"LLMHOST1"])
async def test_a_log_with_a_wrong_header_is_refused(
    index: FlatIndex, redis_client: Redis, damage: bytes
) -> None:
    await redis_client.set("test:index:e:s", damage)
    with pytest.raises(StoreRefused, match="damaged"):
        await index.prepare("s")


async def test_a_log_that_ends_within_a_record_is_refused(index: FlatIndex, redis_client: Redis) -> None:
    await index.add("s", ENTRY, VECTOR)
    await redis_client.append("test:index:e:s", b"half a record")
    with pytest.raises(StoreRefused, match="damaged"):
        await index.prepare("s")


async def test_a_key_of_another_type_is_refused(index: FlatIndex, redis_client: Redis) -> None:
    await redis_client.hset("test:index:e:s", "a", "b")
    with pytest.raises(StoreRefused):
        await index.prepare("s")


async def test_thousands_of_rows_are_searched_exactly(index: FlatIndex) -> None:
    vectors = np.random.default_rng(7).standard_normal((3000, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for number, vector in enumerate(vectors[:300]):
        await index.add("s", f"{number:032x}", vector)
    await index.prepare("s")
    found = await index.search("s", vectors[5], 4)
    order = np.argsort(-(vectors[:300] @ vectors[5]))[:4]
    assert [near.entry for near in found] == [f"{row:032x}" for row in order]
