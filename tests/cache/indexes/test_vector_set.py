"""What only the vector sets do: a small scope has none, and moves to one without a loss."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from plugins.redis_servers import ClientOf

from llmhost.cache.indexes.flat import FlatIndex
from llmhost.cache.indexes.vector_set import VectorSetIndex
from llmhost.errors import StoreRefused, StoreUnavailable
from llmhost.store.client import execute
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from redis.asyncio import Redis

DIMENSIONS = 16
#: entries of a scope without a set
MOST = 32
LOG, SET = "test:vector_log:e:s", "test:vectors:e:s"


@pytest.fixture
def client(client_of: ClientOf) -> Redis:
    return client_of("redis-8.2")


def new_index(client: Redis, most_in_log: int = MOST) -> VectorSetIndex:
    """As a new process has it."""
    return VectorSetIndex(
        client,
        NamespaceKeys("test"),
        embedder="e",
        dimensions=DIMENSIONS,
        lifetime=60.0,
        most_in_log=most_in_log,
    )


@pytest.fixture
def index(client: Redis) -> VectorSetIndex:
    return new_index(client)


VECTORS = np.random.default_rng(7).standard_normal((100, DIMENSIONS)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def entry(number: int) -> str:
    return f"{number:032x}"


async def fill(index: VectorSetIndex, numbers: range) -> None:
    for number in numbers:
        await index.add("s", entry(number), VECTORS[number])


async def found(index: VectorSetIndex, vector: NDArray[np.float32] = VECTORS[0]) -> list[int]:
    await index.prepare("s")
    return [int(near.entry, 16) for near in await index.search("s", vector, 200)]


async def test_a_small_scope_has_no_set(index: VectorSetIndex, client: Redis) -> None:
    await fill(index, range(MOST))
    assert await client.exists(SET) == 0


@pytest.mark.as_admin
async def test_one_entry_too_many_moves_the_scope_to_a_set(index: VectorSetIndex, client: Redis) -> None:
    await fill(index, range(MOST + 1))
    assert await client.exists(LOG) == 0
    assert await client.execute_command("VCARD", SET) == MOST + 1
    assert sorted(await found(index)) == sorted(await found(new_index(client))) == [*range(MOST + 1)]


async def test_a_large_scope_grows_in_its_set_alone(index: VectorSetIndex, client: Redis) -> None:
    await fill(index, range(MOST + 5))
    assert await client.exists(LOG) == 0
    assert sorted(await found(new_index(client))) == [*range(MOST + 5)]


@pytest.mark.parametrize("same_process", [True, False])
async def test_a_move_that_was_cut_off_names_each_entry_once_and_is_completed_by_the_next_addition(
    index: VectorSetIndex, client: Redis, monkeypatch: pytest.MonkeyPatch, same_process: bool
) -> None:
    async def crash(*_: object) -> bool:
        raise StoreUnavailable("the process was killed")

    with monkeypatch.context() as patch:
        patch.setattr(FlatIndex, "drop", crash)
        with pytest.raises(StoreUnavailable):
            await fill(index, range(MOST + 1))
    assert await client.exists(LOG, SET) == 2
    process = index if same_process else new_index(client)
    assert sorted(await found(process)) == [*range(MOST + 1)]
    await process.add("s", entry(MOST + 1), VECTORS[MOST + 1])
    assert await client.exists(LOG) == 0
    assert sorted(await found(new_index(client))) == [*range(MOST + 2)]


async def test_a_move_that_was_cut_off_before_the_last_entry_loses_none(
    index: VectorSetIndex, client: Redis
) -> None:
    await fill(index, range(MOST))
    other = new_index(client, most_in_log=0)
    await other.add("s", entry(0), VECTORS[0])  # the first of the entries that would be moved
    await client.delete(LOG)
    await fill(index, range(MOST))
    assert sorted(await found(new_index(client))) == [*range(MOST)]


async def test_an_entry_that_is_added_while_a_scope_moves_stays(
    index: VectorSetIndex, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = FlatIndex.drop

    async def drop_later(small: FlatIndex, *arguments: object) -> bool:
        # A process that has not seen the set yet.
        names = NamespaceKeys("test")
        late = FlatIndex(
            client, names, embedder="e", dimensions=DIMENSIONS, lifetime=60.0, logs=names.vector_log
        )
        await late.add("s", entry(99), VECTORS[99])
        return await drop(small, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(FlatIndex, "drop", drop_later)
        await fill(index, range(MOST + 1))
    assert sorted(await found(new_index(client))) == [*range(MOST + 1), 99]
    await index.add("s", entry(98), VECTORS[98])
    assert sorted(await found(new_index(client))) == [*range(MOST + 1), 98, 99]
    assert await client.exists(LOG) == 0


async def test_processes_that_cross_the_border_at_once_lose_and_double_nothing(client: Redis) -> None:
    processes = [new_index(client) for _ in range(5)]
    for process in processes:
        await process.prepare("s")
    await asyncio.gather(*(fill(process, range(at, 100, 5)) for at, process in enumerate(processes)))
    assert sorted(await found(new_index(client))) == [*range(100)]


async def test_a_set_that_is_evicted_is_a_miss_and_grows_again(index: VectorSetIndex, client: Redis) -> None:
    await fill(index, range(40))
    await index.prepare("s")
    await client.unlink(SET)
    assert list(await index.search("s", VECTORS[0], 3)) == []
    await fill(index, range(3))
    assert sorted(await found(index)) == [0, 1, 2]
    assert 0 < await client.pttl(SET if await client.exists(SET) else LOG) <= 60_000


@pytest.mark.parametrize(
    "other",
    [("FP32", bytes(4 * 3), "Q8", "M", 16), ("FP32", bytes(4 * DIMENSIONS), "NOQUANT", "M", 32)],
    ids=["dimensions", "numbers"],
)
async def test_a_set_of_another_program_is_refused_with_a_hint(
    index: VectorSetIndex, client: Redis, other: tuple[object, ...]
) -> None:
    vectors, rest = other[:2], other[2:]
    await client.execute_command("VADD", SET, *vectors, "theirs", *rest)
    await index.prepare("s")
    with pytest.raises(StoreRefused, match="damaged") as refused:
        await index.add("s", entry(0), VECTORS[0])
    assert "cache clear" in refused.value.hint


async def test_a_name_in_a_set_that_is_no_entrys_is_not_found(index: VectorSetIndex, client: Redis) -> None:
    await fill(index, range(40))
    await client.execute_command("VADD", SET, "FP32", VECTORS[0].tobytes(), "theirs", "Q8", "M", 16)
    assert sorted(await found(index)) == [*range(40)]


async def nearest(client: Redis, vector: NDArray[np.float32]) -> int:
    index = new_index(client)
    await index.prepare("s")
    near, *_ = await index.search("s", vector, 100)
    return int(near.entry, 16) if near.similarity > 0.99 else -1


async def test_the_newer_vector_counts_where_a_process_did_not_know_of_the_set(
    index: VectorSetIndex, client: Redis
) -> None:
    unaware = new_index(client)
    await fill(index, range(40))
    await unaware.add("s", entry(0), VECTORS[50])
    assert await nearest(client, VECTORS[50]) == 0
    await index.add("s", entry(0), VECTORS[60])
    assert await nearest(client, VECTORS[60]) == 0
    assert await nearest(client, VECTORS[50]) == -1
    assert sorted(await found(new_index(client))) == [*range(40)]


async def test_what_a_process_reads_while_it_moves_a_scope_is_not_lost(
    index: VectorSetIndex, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = NamespaceKeys("test")
    late = FlatIndex(client, names, embedder="e", dimensions=DIMENSIONS, lifetime=60.0, logs=names.vector_log)
    drop = FlatIndex.drop

    async def drop_after_reading(small: FlatIndex, *arguments: object) -> bool:
        await late.add("s", entry(99), VECTORS[99])
        await small.prepare("s")  # of another question
        return await drop(small, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(FlatIndex, "drop", drop_after_reading)
        await fill(index, range(MOST + 1))
    assert sorted(await found(new_index(client))) == [*range(MOST + 1), 99]


async def test_questions_of_one_process_at_once_lose_and_double_nothing(
    index: VectorSetIndex, client: Redis
) -> None:
    await asyncio.gather(*(index.add("s", entry(number), VECTORS[number]) for number in range(100)))
    assert sorted(await found(new_index(client))) == sorted(await found(index)) == [*range(100)]


async def test_a_process_that_only_adds_moves_a_scope_as_soon_as_it_is_large(client: Redis) -> None:
    first, second = new_index(client), new_index(client)
    for number in range(0, 60, 2):
        await first.add("s", entry(number), VECTORS[number])
        await second.add("s", entry(number + 1), VECTORS[number + 1])
    assert await client.exists(SET) == 1
    assert sorted(await found(new_index(client))) == [*range(60)]


# A scope on several keys


def spread(client: Redis, shards: int) -> VectorSetIndex:
    return VectorSetIndex(
        client,
        NamespaceKeys("test"),
        embedder="e",
        dimensions=DIMENSIONS,
        lifetime=60.0,
        most_in_log=0,
        shards=shards,
    )


def named(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


async def first_of(index: VectorSetIndex, number: int) -> str | None:
    await index.prepare("s")
    found = await index.search("s", VECTORS[number], 3)
    return found[0].entry if found else None


@pytest.mark.as_admin
async def test_a_scope_is_spread_evenly_and_searched_as_one(client: Redis) -> None:
    index = spread(client, 3)
    for number in range(60):
        await index.add("s", named(number), VECTORS[number])
    sizes = [await execute(client, "VCARD", name) for name in (SET, f"{SET}.1", f"{SET}.2")]
    assert sum(sizes) == 60
    assert min(sizes) > 10
    assert [await first_of(spread(client, 3), number) for number in range(60)] == [*map(named, range(60))]
    assert set(await index.members("s")) == {*map(named, range(60))}


async def test_what_was_stored_on_fewer_keys_is_found_and_removed(client: Redis) -> None:
    before = spread(client, 1)
    for number in range(20):
        await before.add("s", named(number), VECTORS[number])
    index = spread(client, 4)
    for number in range(20, 40):
        await index.add("s", named(number), VECTORS[number])
    assert [await first_of(index, number) for number in range(40)] == [*map(named, range(40))]
    assert all(vector is not None for vector in await index.vectors("s", [*map(named, range(40))]))
    await index.remove("s", [*map(named, range(40))])
    assert await index.members("s") == []


async def test_a_key_that_was_evicted_takes_only_its_own_entries_with_it(client: Redis) -> None:
    index = spread(client, 3)
    for number in range(30):
        await index.add("s", named(number), VECTORS[number])
    await client.unlink(f"{SET}.1")
    found = [await first_of(index, number) == named(number) for number in range(30)]
    assert found == [int(named(number)[:8], 16) % 3 != 1 for number in range(30)]
