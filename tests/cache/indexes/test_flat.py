"""What only the flat index does: its log, and what happens to a damaged one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from llmhost.cache.indexes.flat import FlatIndex, Mirror, encode_record, encode_removal
from llmhost.errors import StoreRefused
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from redis.asyncio import Redis

ENTRY = "a" * 32
VECTOR = np.eye(4, dtype=np.float32)[0]


@pytest.fixture
def index(redis_client: Redis, keys: NamespaceKeys) -> FlatIndex:
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


def mirror_of(vectors: NDArray[np.float32]) -> Mirror:
    mirror = Mirror(vectors.shape[1])
    mirror.replay(b"".join(encode_record(f"{row:032x}", vector) for row, vector in enumerate(vectors)))
    return mirror


def unit_rows(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("dimensions", [384, 100])
def test_among_thousands_the_nearest_are_found_in_order_with_their_exact_cosine(dimensions: int) -> None:
    random = np.random.default_rng(7)
    rows = random.standard_normal((5000, dimensions))
    question = unit_rows(rows[:1])[0]
    distances = np.linspace(0.1, 1.0, 20)[:, np.newaxis]
    rows[4000:4020] = rows[0] + distances * random.standard_normal((20, dimensions))
    vectors = unit_rows(rows)
    found = mirror_of(vectors).search(question, 8)
    cosines = vectors @ question
    assert [int(near.entry, 16) for near in found] == np.argsort(-cosines)[:8].tolist()
    assert [near.similarity for near in found] == pytest.approx(np.sort(cosines)[:-9:-1].tolist(), abs=1e-6)


def test_rows_whose_signs_are_all_the_same_are_all_compared() -> None:
    rows = np.random.default_rng(7).uniform(0.1, 1.0, (3000, 4))
    vectors = unit_rows(rows)
    found = mirror_of(vectors).search(vectors[1234], 3)
    assert [int(near.entry, 16) for near in found] == np.argsort(-(vectors @ vectors[1234]))[:3].tolist()


def test_thousands_of_removed_rows_do_not_hide_what_is_left() -> None:
    vectors = unit_rows(np.random.default_rng(7).standard_normal((2000, 384)))
    mirror = mirror_of(vectors)
    mirror.replay(b"".join(encode_removal(f"{row:032x}", 384) for row in range(1, 2000)))
    assert [near.entry for near in mirror.search(vectors[0], 3)] == [f"{0:032x}"]
