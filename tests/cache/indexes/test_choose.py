"""Which index is in force, on each kind of server, whoever asks first and whatever lies there already."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from plugins.redis_servers import ClientOf, PortServer, RedisServer

from llmhost.cache.indexes.choose import IndexChoice, IndexKind, index_in_force, server_indexes
from llmhost.config.models import RedisConfig
from llmhost.errors import StoreUnavailable
from llmhost.store.client import connect
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

#: what each server can do, best first
POSSIBLE: dict[str, list[IndexKind]] = {
    "redis-6.2": ["flat"],
    "valkey-9.1": ["flat"],
    "redis-8.2": ["vector_set", "flat"],
    "redis-8.2-search": ["vector_set", "query_engine", "flat"],
}

#: docs/redis.md names these rights: for all servers, for vector sets, for the query engine
RIGHTS = (
    "~llmhost:* ~test:* &test:* +@read +@write +@connection +@transaction +@scripting +@pubsub +info +time"
)
VECTOR_SETS = "+vadd +vsim +vrem +vemb"
QUERY_ENGINE = "+ft.create +ft.search +ft.info +ft.dropindex"


def user_of(server: RedisServer, rights: str) -> Redis:
    """Connected as a user with these rights alone."""
    import redis

    with redis.Redis(port=server.port) as owner:
        owner.execute_command("ACL", "SETUSER", "ops", "reset", "on", ">secret", *rights.split())
    login = {"host": "127.0.0.1", "port": server.port, "username": "ops", "password": "secret"}
    return connect(RedisConfig.model_validate(login))


@pytest.mark.parametrize("name", POSSIBLE)
async def test_a_first_process_takes_and_records_the_best_that_the_server_has(
    client_of: ClientOf, keys: NamespaceKeys, name: str
) -> None:
    client = client_of(name)
    assert (await server_indexes(client, keys)).possible == POSSIBLE[name]
    best = POSSIBLE[name][0]
    assert await index_in_force(client, keys, "auto") == IndexChoice(best, "best")
    assert await client.hgetall(keys.layout) == {b"index": best.encode()}
    assert await index_in_force(client, keys, "auto") == IndexChoice(best, "recorded")


@pytest.mark.as_admin
async def test_asking_writes_nothing_but_the_record_which_never_expires(
    client_of: ClientOf, keys: NamespaceKeys
) -> None:
    client = client_of("redis-8.2-search")
    await index_in_force(client, keys, "auto", record=False)
    assert await client.keys() == []
    await index_in_force(client, keys, "auto")
    assert await client.keys() == [b"test:layout"]
    assert await client.ttl("test:layout") == -1
    assert await client.execute_command("FT._LIST") == []


async def test_what_is_on_record_goes_before_what_is_better(client_of: ClientOf, keys: NamespaceKeys) -> None:
    client = client_of("redis-8.2-search")
    await client.hset(keys.layout, "index", "query_engine")
    assert await index_in_force(client, keys, "auto") == IndexChoice("query_engine", "recorded")


@pytest.mark.parametrize("recorded", ["vector_set", "query_engine", "of a later llmhost", ""])
async def test_what_is_on_record_and_not_possible_is_left_there_and_not_used(
    client_of: ClientOf, keys: NamespaceKeys, recorded: str
) -> None:
    client = client_of("redis-6.2")
    await client.hset(keys.layout, "index", recorded)
    assert await index_in_force(client, keys, "auto") == IndexChoice("flat", "best")
    assert await client.hget(keys.layout, "index") == recorded.encode()


async def test_the_configuration_goes_before_all_and_is_not_recorded(
    client_of: ClientOf, keys: NamespaceKeys
) -> None:
    client = client_of("redis-8.2")
    await client.hset(keys.layout, "index", "vector_set")
    assert await index_in_force(client, keys, "flat") == IndexChoice("flat", "configured")
    assert await client.hget(keys.layout, "index") == b"vector_set"


@pytest.mark.parametrize(
    ("existing", "kind"),
    [
        (["test:index:m:s"], "flat"),
        (["test:flat:m:s"], "flat"),
        (["test:vector:m:e"], "query_engine"),
        (["test:flat:m:s", "test:flat:m:t", "test:vectors:m:u"], "vector_set"),
        (["test:flat:m:s", "test:vector_log:m:u"], "vector_set"),
    ],
    ids=["of an older llmhost", "flat", "query_engine", "vector_set", "vector_set of small scopes"],
)
async def test_entries_that_lie_there_stay_in_their_index(
    client_of: ClientOf, keys: NamespaceKeys, existing: Sequence[str], kind: IndexKind
) -> None:
    client = client_of("redis-8.2-search")
    for key in existing:
        await client.set(key, "x", ex=600)
    assert await index_in_force(client, keys, "auto") == IndexChoice(kind, "data")
    assert await client.hget(keys.layout, "index") == kind.encode()


@pytest.mark.as_admin
async def test_entries_of_another_namespace_and_of_another_kind_do_not_count(
    client_of: ClientOf, keys: NamespaceKeys
) -> None:
    client = client_of("redis-8.2")
    for key in (
        "other:flat:m:s",
        "test:flight:e",
        "test:response:e",
        "test2:index:m:s",
        "test:embedding:flat:",
    ):
        await client.set(key, "x", ex=600)
    assert await index_in_force(client, keys, "auto") == IndexChoice("vector_set", "best")


async def test_entries_in_an_index_that_the_server_does_not_have_any_more_do_not_count(
    client_of: ClientOf, keys: NamespaceKeys
) -> None:
    client = client_of("redis-8.2")
    await client.hset("test:vector:m:e", "s", "x")
    assert await index_in_force(client, keys, "auto") == IndexChoice("vector_set", "best")


async def test_processes_that_come_at_once_agree(client_of: ClientOf, keys: NamespaceKeys) -> None:
    clients = [client_of("redis-8.2") for _ in range(16)]
    choices = await asyncio.gather(*(index_in_force(client, keys, "auto") for client in clients))
    assert {choice.kind for choice in choices} == {"vector_set"}


async def test_of_two_with_different_rights_the_first_decides_where_the_other_can_follow(
    redis_port_server: PortServer, keys: NamespaceKeys
) -> None:
    server = redis_port_server(name="redis-8.2")
    async with user_of(server, RIGHTS) as client:
        assert await index_in_force(client, keys, "auto") == IndexChoice("flat", "best")
    async with connect(RedisConfig(host="127.0.0.1", port=server.port)) as client:
        assert await index_in_force(client, keys, "auto") == IndexChoice("flat", "recorded")


@pytest.mark.parametrize(
    ("rights", "possible"),
    [
        (f"{RIGHTS}", ["flat"]),
        (f"{RIGHTS} {VECTOR_SETS}", ["vector_set", "flat"]),
        (f"{RIGHTS} {QUERY_ENGINE}", ["query_engine", "flat"]),
        (f"{RIGHTS} {VECTOR_SETS} {QUERY_ENGINE}", ["vector_set", "query_engine", "flat"]),
        (f"{RIGHTS} {VECTOR_SETS} -vsim", ["flat"]),
        (f"{RIGHTS} {QUERY_ENGINE} -ft.create", ["flat"]),
    ],
    ids=["no commands", "vector sets", "query engine", "both", "no search", "no index"],
)
async def test_a_restricted_user_gets_what_its_rights_allow(
    redis_port_server: PortServer, keys: NamespaceKeys, rights: str, possible: Sequence[IndexKind]
) -> None:
    async with user_of(redis_port_server(name="redis-8.2-search"), rights) as client:
        assert (await server_indexes(client, keys)).possible == possible
        assert await index_in_force(client, keys, "auto") == IndexChoice(possible[0], "best")


@pytest.mark.parametrize(
    "rights", ["+@all -hget ~test:*", "+@all -scan ~test:*", "+ping ~test:*", "+@all ~other:*"]
)
async def test_a_server_that_refuses_to_tell_gets_the_flat_index(
    redis_port_server: PortServer, keys: NamespaceKeys, rights: str
) -> None:
    async with user_of(redis_port_server(name="redis-8.2"), rights) as client:
        assert await index_in_force(client, keys, "auto") == IndexChoice("flat", "refused")


async def test_a_key_of_another_program_in_place_of_the_record_is_left_alone(
    client_of: ClientOf, keys: NamespaceKeys
) -> None:
    client = client_of("redis-8.2")
    await client.set(keys.layout, "theirs")
    assert await index_in_force(client, keys, "auto") == IndexChoice("flat", "refused")
    assert await client.get(keys.layout) == b"theirs"


@pytest.mark.parametrize("option", [("--maxmemory", "1"), ("--replicaof", "127.0.0.1 1")])
async def test_a_server_that_takes_no_writes_now_is_asked_for_its_best_and_records_nothing(
    redis_port_server: PortServer, keys: NamespaceKeys, option: Sequence[str]
) -> None:
    server = redis_port_server(*option, name="redis-8.2")
    async with connect(RedisConfig(host="127.0.0.1", port=server.port)) as client:
        assert await index_in_force(client, keys, "auto") == IndexChoice("vector_set", "best")
        assert await client.exists(keys.layout) == 0


async def test_a_server_that_is_away_is_an_error(refusing_port: int, keys: NamespaceKeys) -> None:
    async with connect(RedisConfig(host="127.0.0.1", port=refusing_port)) as client:
        with pytest.raises(StoreUnavailable):
            await index_in_force(client, keys, "auto")
