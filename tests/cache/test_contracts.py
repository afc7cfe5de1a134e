"""What every index must do. A backend joins by adding itself to `backend`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmhost.cache.contracts import Index
from llmhost.cache.indexes.flat import FlatIndex
from llmhost.cache.models import Neighbour
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

DIMENSIONS = 8
A, B, C = ("a" * 32, "b" * 32, "c" * 32)

MakeIndex = Callable[..., Index]


async def search(index: Index, vector: NDArray[np.float32], k: int = 3, scope: str = "s") -> list[Neighbour]:
    """A lookup as the cache does it."""
    await index.prepare(scope)
    return list(await index.search(scope, vector, k))


def unit(*numbers: float) -> NDArray[np.float32]:
    vector = np.zeros(DIMENSIONS, dtype=np.float32)
    vector[: len(numbers)] = numbers
    return vector / np.linalg.norm(vector)


@pytest.fixture(params=["flat"])
def backend(request: pytest.FixtureRequest, redis_client: Redis, keys: NamespaceKeys) -> MakeIndex:
    """Makes an index as a new process would."""
    made = {"flat": FlatIndex}[request.param]
    return lambda embedder="e", dimensions=DIMENSIONS: made(
        redis_client, keys, embedder=embedder, dimensions=dimensions, lifetime=60.0
    )


@pytest.fixture
def index(backend: MakeIndex) -> Index:
    return backend()


async def test_the_k_nearest_come_first_with_their_cosine(index: Index) -> None:
    await index.add("s", A, unit(1, 0))
    await index.add("s", B, unit(1, 1))
    await index.add("s", C, unit(0, 1))
    found = await search(index, unit(1, 0), 2)
    assert [(near.entry, round(near.similarity, 4)) for near in found] == [(A, 1.0), (B, 0.7071)]


async def test_scopes_never_see_each_other(index: Index) -> None:
    await index.add("one", A, unit(1))
    assert await search(index, unit(1), scope="other") == []


async def test_embedders_never_see_each_other(backend: MakeIndex) -> None:
    await backend("old").add("s", A, unit(1))
    assert await search(backend("new"), unit(1)) == []


async def test_an_index_expires(backend: MakeIndex, redis_client: Redis) -> None:
    await backend().add("s", A, unit(1))
    for key in await redis_client.keys("test:index:*"):
        assert 0 < await redis_client.pttl(key) <= 60_000


async def test_an_index_that_vanished_is_empty_and_can_be_filled_anew(
    index: Index, redis_client: Redis
) -> None:
    await index.add("s", A, unit(1))
    await index.prepare("s")
    await redis_client.flushdb()
    assert await search(index, unit(1)) == []
    await index.add("s", B, unit(1))
    assert [near.entry for near in await search(index, unit(1))] == [B]


ENTRIES = st.sampled_from([A, B, C])
STEPS = st.lists(st.tuples(st.sampled_from(["add", "remove"]), ENTRIES, st.integers(0, 7)), max_size=12)


@settings(max_examples=25)
@given(steps=STEPS)
async def test_whatever_was_done_only_what_is_left_is_found(
    backend: MakeIndex, redis_client: Redis, steps: list[tuple[str, str, int]]
) -> None:
    await redis_client.flushdb()
    writer, reader, expected = backend(), backend(), {}
    for action, entry, axis in steps:
        if action == "add":
            await writer.add("s", entry, np.eye(DIMENSIONS, dtype=np.float32)[axis])
            expected[entry] = axis
        else:
            await writer.remove("s", [entry])
            expected.pop(entry, None)
        await reader.prepare("s")
    for process in (writer, reader, backend()):
        for axis in range(DIMENSIONS):
            found = await search(process, np.eye(DIMENSIONS, dtype=np.float32)[axis])
            same = {near.entry for near in found if near.similarity > 0.5}
            assert same == {entry for entry, at in expected.items() if at == axis}
