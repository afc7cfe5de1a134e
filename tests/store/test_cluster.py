"""The client of a Redis Cluster, on a real one."""

from __future__ import annotations

import asyncio
import errno
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugins.redis_clusters import RedisCluster, start_cluster
from plugins.redis_servers import PortServer
from redis.crc import key_slot

from llmhost.cache.indexes.choose import index_in_force, make_index
from llmhost.config.redis import RedisConfig
from llmhost.errors import StoreRefused, StoreUnavailable
from llmhost.store.client import connect, is_sharded, translate_errors
from llmhost.store.cluster import ClusterClient
from llmhost.store.connections import Client
from llmhost.store.keys import NamespaceKeys

NAMES = [f"key:{number}" for number in range(20)]


async def test_commands_on_several_keys_reach_all_nodes(cluster_client: ClusterClient) -> None:
    for name in NAMES:
        await cluster_client.set(name, name)

    assert await cluster_client.mget([*NAMES, "none"]) == [*(name.encode() for name in NAMES), None]
    assert await cluster_client.exists(*NAMES, "none") == len(NAMES)
    assert await cluster_client.unlink(*NAMES, "none") == len(NAMES)
    assert await cluster_client.mget(NAMES) == [None] * len(NAMES)


async def test_a_pipeline_gives_the_answers_of_all_nodes_in_its_order(cluster_client: ClusterClient) -> None:
    pipeline = cluster_client.pipeline(transaction=False)
    for name in NAMES:
        pipeline.set(name, name)
        pipeline.hset(name, "a", "b")
        pipeline.get(name)

    answers = await pipeline.execute(raise_on_error=False)

    assert answers[2::3] == [name.encode() for name in NAMES]
    assert all("WRONGTYPE" in str(error) for error in answers[1::3])


async def test_a_transaction_on_several_slots_is_refused_as_a_whole(cluster_client: ClusterClient) -> None:
    pipeline = cluster_client.pipeline(transaction=True)
    pipeline.set("a", 1)
    pipeline.set("b", 1)

    with pytest.raises(StoreRefused), translate_errors():
        await pipeline.execute()

    assert await cluster_client.mget(["a", "b"]) == [None, None]


async def test_a_script_runs_where_its_key_is_although_no_node_knows_it(
    cluster_client: ClusterClient,
) -> None:
    script = cluster_client.register_script("return redis.call('SET', KEYS[1], ARGV[1])")

    for name in NAMES:
        await script(keys=[name], args=[name])
    pipeline = cluster_client.pipeline(transaction=False)
    other = cluster_client.register_script("return redis.call('GET', KEYS[1])")
    for name in NAMES:
        await other(keys=[name], client=pipeline)

    assert await pipeline.execute() == [name.encode() for name in NAMES]


async def test_a_scan_and_info_are_of_all_masters(
    cluster_client: ClusterClient, redis_cluster: RedisCluster
) -> None:
    for name in NAMES:
        await cluster_client.set(name, 1)

    found = [name.decode() async for name in cluster_client.scan_iter(match="key:*")]

    assert sorted(found) == sorted(NAMES)
    before = (await cluster_client.info())["keyspace_hits"]
    await cluster_client.mget(NAMES)
    assert (await cluster_client.info())["keyspace_hits"] == before + len(NAMES)
    assert len(await cluster_client.masters()) == 3


async def test_what_is_published_on_one_node_is_heard_on_another(redis_cluster: RedisCluster) -> None:
    async with connect(redis_cluster.config()) as client, client.pubsub() as messages:
        await messages.subscribe("channel")
        assert await messages.get_message(timeout=30)
        for node in range(3):
            redis_cluster.ask(node, "PUBLISH", "channel", str(node))
        heard = [(await messages.get_message(timeout=30))["data"] for _ in range(3)]

    assert sorted(heard) == [b"0", b"1", b"2"]


async def test_keys_of_a_slot_that_moves_are_read_and_written(own_redis_cluster: RedisCluster) -> None:
    cluster, name, other = own_redis_cluster, "{moves}:old", "{moves}:new"
    slot = key_slot(b"moves")
    source = cluster.owner(slot)
    target = (source + 1) % 3
    async with connect(cluster.config()) as client:
        await client.set(name, "old")
        await asyncio.gather(*(client.get(name) for _ in range(20)))  # as many connections
        cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.ask(source, "CLUSTER", "MYID"))
        cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.ask(target, "CLUSTER", "MYID"))

        assert await asyncio.gather(*(client.get(name) for _ in range(20))) == [b"old"] * 20
        await asyncio.gather(*(client.set(f"{other}{number}", number) for number in range(20)))
        pipeline = client.pipeline(transaction=True)
        pipeline.hset(f"{other}:hash", "a", "b")
        pipeline.hgetall(f"{other}:hash")
        assert await pipeline.execute() == [1, {b"a": b"b"}]
        assert cluster.ask(target, "DBSIZE") == 21
        script = client.register_script("return redis.call('INCR', KEYS[1])")
        pipeline = client.pipeline(transaction=False)
        await script(keys=[f"{other}:count"], client=pipeline)
        assert await pipeline.execute() == [1]

        cluster.ask(source, "MIGRATE", "127.0.0.1", cluster.nodes[target].port, name, 0, 5000)
        for node in (target, source):
            cluster.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", cluster.ask(target, "CLUSTER", "MYID"))
        assert await client.get(name) == b"old"
        assert await client.mget([f"{other}{number}" for number in range(20)]) == [
            str(number).encode() for number in range(20)
        ]


async def test_of_a_pipeline_only_the_commands_of_a_lost_node_fail(own_redis_cluster: RedisCluster) -> None:
    cluster = own_redis_cluster
    async with connect(cluster.config()) as client:
        await client.set("any", 1)  # it knows which node has what
        owners = {name: cluster.owner(key_slot(name.encode())) for name in NAMES}
        lost = owners[NAMES[0]]
        cluster.nodes[lost].kill()
        pipeline = client.pipeline(transaction=False)
        for name in NAMES:
            pipeline.incr(name)
        answers = await pipeline.execute(raise_on_error=False)
        for name in NAMES:
            pipeline.incr(name)
        with pytest.raises(StoreUnavailable), translate_errors():
            await pipeline.execute()

    failed = [name for name, answer in zip(NAMES, answers, strict=True) if answer != 1]
    assert failed == [name for name in NAMES if owners[name] == lost]


async def test_where_no_node_can_be_asked_who_has_what_the_last_listing_serves(
    cluster_client: ClusterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster_client.set(NAMES[0], 1)
    monkeypatch.setattr("llmhost.store.cluster._READ_AGAIN", 0.0)
    run, refused = Client.execute_command, ["GET"]

    async def execute(client: Client, *args: Any, **options: Any) -> Any:
        if args[0] in refused:
            raise OSError(errno.EMFILE, "too many open files")
        return await run(client, *args, **options)

    monkeypatch.setattr(Client, "execute_command", execute)
    with pytest.raises(OSError, match="too many open files"):
        await cluster_client.get(NAMES[0])
    refused[:] = ["CLUSTER SLOTS"]
    assert [await cluster_client.get(NAMES[0]) for _ in range(2)] == [b"1", b"1"]


async def test_a_script_of_a_slot_that_moves_needs_no_third_node(own_redis_cluster: RedisCluster) -> None:
    cluster, slot = own_redis_cluster, key_slot(b"moves")
    source = cluster.owner(slot)
    target, third = (source + 1) % 3, (source + 2) % 3
    async with connect(cluster.config()) as client:
        script = client.register_script("return redis.call('INCR', KEYS[1])")
        await client.set("any", 1)
        cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.ask(source, "CLUSTER", "MYID"))
        cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.ask(target, "CLUSTER", "MYID"))
        cluster.nodes[third].kill()
        pipeline = client.pipeline(transaction=False)
        await script(keys=["{moves}:count"], client=pipeline)
        assert await pipeline.execute() == [1]


async def test_a_server_that_is_no_cluster_and_a_node_that_is_taken_for_one_say_what_to_set(
    redis_port_server: PortServer, redis_cluster: RedisCluster
) -> None:
    alone = RedisConfig(host="127.0.0.1", port=redis_port_server().port, cluster=True)
    node = redis_cluster.config().model_copy(update={"cluster": False})
    assert "`redis.cluster: false`" in await hint_of_sets(alone)
    assert "`redis.cluster: true`" in await hint_of_sets(node)


async def hint_of_sets(config: RedisConfig) -> str:
    """What is said of the first key that cannot be set."""
    async with connect(config) as client:
        for name in NAMES:
            try:
                with translate_errors():
                    await client.set(name, 1)
            except StoreRefused as error:
                return error.hint or ""
    return ""


async def test_a_cluster_of_valkey_is_one_too(tmp_path: Path) -> None:
    with ExitStack() as stack:
        cluster = start_cluster(tmp_path, stack, replicas=False, name="valkey-9.1")
        async with connect(cluster.config()) as client:
            keys = NamespaceKeys("test", is_sharded(client))
            assert (await index_in_force(client, keys, "auto")).kind == "flat"
            index = make_index("flat", client, keys, embedder="e", dimensions=4, lifetime=60.0)
            vectors = np.eye(4, dtype=np.float32)
            for number, scope in enumerate("stuv"):
                await index.add(scope, f"{number:032x}", vectors[number])
            for number, scope in enumerate("stuv"):
                await index.prepare(scope)
                assert [near.entry for near in await index.search(scope, vectors[number], 3)] == [
                    f"{number:032x}"
                ]
