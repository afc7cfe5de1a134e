"""What only the flat index does: its log, an older llmhost's, and what happens to a damaged one."""

from __future__ import annotations

import asyncio
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
    length = await redis_client.strlen("test:flat:e:s")
    await index.add("s", ENTRY, VECTOR)
    assert await redis_client.strlen("test:flat:e:s") == length


@pytest.mark.parametrize("damage", [b"something else", b"LLMHOST1" + bytes(20), b"LLMHOST1"])
async def test_a_log_with_a_wrong_header_is_refused(
    index: FlatIndex, redis_client: Redis, damage: bytes
) -> None:
    await redis_client.set("test:flat:e:s", damage)
    with pytest.raises(StoreRefused, match="damaged"):
        await index.prepare("s")


async def write_old_log(client: Redis, vectors: dict[str, NDArray[np.float32]]) -> None:
    """As the first llmhost did: four bytes a number, under another name."""
    records = b"".join(bytes.fromhex(entry) + vector.tobytes() for entry, vector in vectors.items())
    await client.set("test:index:e:s", b"LLMHOST1" + (4).to_bytes(4, "little") + b"r" * 16 + records)


async def test_the_log_of_an_older_llmhost_is_searched(index: FlatIndex, redis_client: Redis) -> None:
    await write_old_log(redis_client, {ENTRY: VECTOR})
    await index.prepare("s")
    assert [near.entry for near in await index.search("s", VECTOR, 3)] == [ENTRY]


async def test_the_first_addition_takes_over_the_log_of_an_older_llmhost(
    index: FlatIndex, redis_client: Redis, keys: NamespaceKeys
) -> None:
    other = np.eye(4, dtype=np.float32)[1]
    await write_old_log(redis_client, {ENTRY: VECTOR, "c" * 32: VECTOR, "d" * 32: np.zeros(4, np.float32)})
    await index.add("s", "b" * 32, other)
    reader = FlatIndex(redis_client, keys, embedder="e", dimensions=4, lifetime=60.0)
    await reader.prepare("s")
    found = {near.entry for near in await reader.search("s", VECTOR, 9)}
    assert found == {ENTRY, "b" * 32, "c" * 32}
    assert not await redis_client.exists("test:index:e:s")


async def test_an_entry_of_an_older_llmhost_can_be_removed(index: FlatIndex, redis_client: Redis) -> None:
    await write_old_log(redis_client, {ENTRY: VECTOR})
    await index.remove("s", [ENTRY])
    await index.prepare("s")
    assert list(await index.search("s", VECTOR, 3)) == []


async def test_a_log_whose_records_are_mostly_out_of_date_is_written_anew(
    index: FlatIndex, redis_client: Redis
) -> None:
    for number in range(300):
        await index.add("s", ENTRY, unit_rows(np.random.default_rng(number).standard_normal((1, 4)))[0])
    await index.add("s", ENTRY, VECTOR)
    assert await redis_client.strlen("test:flat:e:s") < 100 * 20
    assert await redis_client.keys("test:flat:*") == [b"test:flat:e:s"]
    assert 0 < await redis_client.pttl("test:flat:e:s") <= 60_000
    await index.prepare("s")
    assert [near.entry for near in await index.search("s", VECTOR, 3)] == [ENTRY]


async def test_what_another_process_adds_while_a_log_is_written_anew_is_kept(
    index: FlatIndex, redis_client: Redis, keys: NamespaceKeys
) -> None:
    other = FlatIndex(redis_client, keys, embedder="e", dimensions=4, lifetime=60.0)
    for number in range(70):
        await index.add("s", ENTRY, unit_rows(np.random.default_rng(number).standard_normal((1, 4)))[0])
    names = [f"{number:032x}" for number in range(20)]
    await asyncio.gather(
        *(one.add("s", name, VECTOR) for one, name in zip([index, other] * 10, names, strict=True))
    )
    await index.prepare("s")
    assert {near.entry for near in await index.search("s", VECTOR, 50)} == {ENTRY, *names}


async def test_two_processes_that_begin_a_log_at_once_lose_nothing(
    index: FlatIndex, redis_client: Redis, keys: NamespaceKeys
) -> None:
    other = FlatIndex(redis_client, keys, embedder="e", dimensions=4, lifetime=60.0)
    await asyncio.gather(index.prepare("s"), other.prepare("s"))
    await asyncio.gather(index.add("s", ENTRY, VECTOR), other.add("s", "b" * 32, VECTOR))
    await index.prepare("s")
    assert {near.entry for near in await index.search("s", VECTOR, 3)} == {ENTRY, "b" * 32}


async def test_a_log_that_ends_within_a_record_is_refused(index: FlatIndex, redis_client: Redis) -> None:
    await index.add("s", ENTRY, VECTOR)
    await redis_client.append("test:flat:e:s", b"half a record")
    with pytest.raises(StoreRefused, match="damaged"):
        await index.prepare("s")


async def test_a_key_of_another_type_is_refused(index: FlatIndex, redis_client: Redis) -> None:
    await redis_client.hset("test:flat:e:s", "a", "b")
    with pytest.raises(StoreRefused):
        await index.prepare("s")


def mirror_of(vectors: NDArray[np.float32]) -> Mirror:
    mirror = Mirror(vectors.shape[1])
    mirror.replay(b"".join(encode_record(f"{row:032x}", vector) for row, vector in enumerate(vectors)))
    return mirror


def unit_rows(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("dimensions", [384, 100])
def test_among_thousands_the_nearest_are_found_in_order_with_their_cosine(dimensions: int) -> None:
    random = np.random.default_rng(7)
    rows = random.standard_normal((5000, dimensions))
    question = unit_rows(rows[:1])[0]
    distances = np.linspace(0.1, 1.0, 20)[:, np.newaxis]
    rows[4000:4020] = rows[0] + distances * random.standard_normal((20, dimensions))
    vectors = unit_rows(rows)
    found = mirror_of(vectors).search(question, 8)
    cosines = vectors @ question
    assert [int(near.entry, 16) for near in found] == np.argsort(-cosines)[:8].tolist()
    assert [near.similarity for near in found] == pytest.approx(np.sort(cosines)[:-9:-1].tolist(), abs=2e-3)


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


async def test_the_log_of_a_small_scope_has_no_room_to_spare(
    redis_client: Redis, keys: NamespaceKeys
) -> None:
    index = FlatIndex(redis_client, keys, embedder="e", dimensions=384, lifetime=60.0)
    for row, vector in enumerate(unit_rows(np.random.default_rng(7).standard_normal((32, 384)))):
        await index.add("s", f"{row:032x}", vector)
    records = 32 * (16 + 384)
    assert await redis_client.memory_usage("test:flat:e:s") < 1.25 * records


async def test_a_log_is_dropped_only_as_it_was_read(index: FlatIndex, redis_client: Redis) -> None:
    await index.add("s", ENTRY, VECTOR)
    await index.prepare("s")
    mirror = index.mirror("s")
    header, position = mirror.header, mirror.position
    await index.add("s", "b" * 32, VECTOR)
    assert not await index.drop("s", header, position)
    assert await index.drop("s", header, mirror.position)
    assert await redis_client.exists("test:flat:e:s") == 0


async def test_processes_that_only_add_keep_a_log_short(redis_client: Redis, keys: NamespaceKeys) -> None:
    first, second = (
        FlatIndex(redis_client, keys, embedder="e", dimensions=4, lifetime=60.0) for _ in range(2)
    )
    vectors = unit_rows(np.random.default_rng(7).standard_normal((400, 4)))
    for number in range(0, 400, 2):
        await first.add("s", ENTRY, vectors[number])
        await second.add("s", ENTRY, vectors[number + 1])
    assert await redis_client.strlen("test:flat:e:s") < 150 * (16 + 4)
