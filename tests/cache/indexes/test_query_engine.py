"""What only the query engine's index does: it is made by whoever comes first, and remade."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from doubles.waiting import until
from plugins.redis_servers import ClientOf

from llmhost.cache.indexes.query_engine import QueryEngineIndex
from llmhost.errors import StoreRefused
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

A, B = "a" * 32, "b" * 32
VECTOR = np.eye(4, dtype=np.float32)[0]
INDEX = "test:vector:e"


@pytest.fixture
def client(client_of: ClientOf) -> Redis:
    return client_of("redis-8.2-search")


def new_index(client: Redis, dimensions: int = 4, namespace: str = "test") -> QueryEngineIndex:
    """As a new process has it."""
    return QueryEngineIndex(
        client, NamespaceKeys(namespace), embedder="e", dimensions=dimensions, lifetime=60.0
    )


async def found(index: QueryEngineIndex, scope: str = "s") -> list[str]:
    await index.prepare(scope)
    return [near.entry for near in await index.search(scope, VECTOR, 3)]


async def names(client: Redis) -> list[bytes]:
    return await client.execute_command("FT._LIST")


@pytest.mark.as_admin
async def test_processes_that_come_first_at_once_make_one_index(client: Redis) -> None:
    processes = [new_index(client) for _ in range(4)]
    await asyncio.gather(*(process.add("s", A, VECTOR) for process in processes))
    assert await names(client) == [INDEX.encode()]
    assert [await found(process) for process in processes] == 4 * [[A]]


@pytest.mark.parametrize("first", ["search", "add"])
async def test_an_index_that_was_dropped_while_serving_is_made_again(client: Redis, first: str) -> None:
    index = new_index(client)
    await index.add("s", A, VECTOR)
    await client.execute_command("FT.DROPINDEX", INDEX)
    if first == "add":
        await index.add("s", A, VECTOR)
    assert set(await found(index)) <= {A}  # Redis reads what is there in its own time
    assert await until(lambda: found(index)) == [A]


COSINE = ("DISTANCE_METRIC", "COSINE")
HNSW = ("v", "VECTOR", "HNSW", 6)
SCHEMAS: dict[str, tuple[object, ...]] = {
    "other numbers": ("s", "TAG", *HNSW, "TYPE", "FLOAT32", "DIM", 4, *COSINE),
    "other dimensions": ("s", "TAG", *HNSW, "TYPE", "FLOAT16", "DIM", 8, *COSINE),
    "another distance": ("s", "TAG", *HNSW, "TYPE", "FLOAT16", "DIM", 4, "DISTANCE_METRIC", "L2"),
    "another algorithm": ("s", "TAG", "v", "VECTOR", "FLAT", 6, "TYPE", "FLOAT16", "DIM", 4, *COSINE),
    "no scopes": (*HNSW, "TYPE", "FLOAT16", "DIM", 4, *COSINE),
    "no vectors": ("s", "TEXT"),
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
async def test_an_index_of_another_schema_is_made_again(client: Redis, schema: tuple[object, ...]) -> None:
    await new_index(client).add("s", A, VECTOR)
    await make_another(client, *schema)
    index = new_index(client)
    await found(index)
    assert await until(lambda: found(index)) == [A]


async def test_an_index_that_cannot_be_searched_is_made_again_while_serving(client: Redis) -> None:
    index = new_index(client)
    await index.add("s", A, VECTOR)
    await make_another(client, *SCHEMAS["no vectors"])
    await found(index)
    assert await until(lambda: found(index)) == [A]


async def make_another(client: Redis, *schema: object) -> None:
    await client.execute_command("FT.DROPINDEX", INDEX)
    await client.execute_command("FT.CREATE", INDEX, "PREFIX", 1, INDEX + ":", "SCHEMA", *schema)


@pytest.mark.as_admin
async def test_the_index_that_is_there_is_left_as_it_is(client: Redis) -> None:
    await new_index(client).add("s", A, VECTOR)
    await client.config_resetstat()
    index = new_index(client)
    await index.add("s", B, VECTOR)
    assert sorted(await found(index)) == [A, B]
    assert not {"cmdstat_FT.CREATE", "cmdstat_FT.DROPINDEX"} & set(await client.info("commandstats"))


@pytest.mark.as_admin
@pytest.mark.parametrize("namespace", ["{cache}", "with*star", "a:b", "two words"])
async def test_a_namespace_may_have_any_characters(client: Redis, namespace: str) -> None:
    index = new_index(client, namespace=namespace)
    await index.add("s", A, VECTOR)
    assert await found(index) == [A]
    assert await found(new_index(client, namespace="other")) == []


GARBAGE = {
    "a vector that is too short": {"s": "s", "v": b"abc"},
    "a vector of zeros": {"s": "s", "v": bytes(8)},
    "a vector with NaN": {"s": "s", "v": np.array([np.nan, 1, 0, 0], dtype="<f2").tobytes()},
    "no vector": {"s": "s"},
    "no scope": {"v": VECTOR.astype("<f2").tobytes()},
}


@pytest.mark.parametrize("fields", GARBAGE.values(), ids=GARBAGE)
async def test_an_entry_that_is_half_there_is_not_found(client: Redis, fields: dict[Any, Any]) -> None:
    index = new_index(client)
    await index.add("s", A, VECTOR)
    await client.hset(f"{INDEX}:{B}", mapping=fields)
    assert await found(index) == [A]
    assert await index.vectors("s", [B]) == [None]


async def test_a_name_that_is_no_entrys_is_not_found(client: Redis) -> None:
    index = new_index(client)
    await index.add("s", A, VECTOR)
    await client.hset(f"{INDEX}:theirs", mapping={"s": "s", "v": VECTOR.astype("<f2").tobytes()})
    assert await found(index) == [A]


async def test_an_entry_expires_by_itself(client: Redis) -> None:
    index = new_index(client)
    await index.add("s", A, VECTOR)
    await client.pexpire(f"{INDEX}:{A}", 1)
    assert await until(lambda: _is_gone(index))


async def _is_gone(index: QueryEngineIndex) -> bool:
    return await found(index) == []


async def test_a_server_without_the_module_refuses_with_a_hint(client_of: ClientOf) -> None:
    index = new_index(client_of("redis-8.2"))
    with pytest.raises(StoreRefused) as refused:
        await found(index)
    assert refused.value.hint
