"""llmhost on a real Redis Cluster of three masters and three replicas."""

from __future__ import annotations

from typing import Any

import pytest
from doubles.openai_server import OpenAIServer
from plugins.commands import House, HouseMaker
from plugins.redis_clusters import RedisCluster
from redis.crc import key_slot

QUESTION, REWORDED = "Explain machine learning briefly", "What is machine learning in simple terms?"


@pytest.fixture
async def cluster_house(
    house: House, static: HouseMaker, openai_server: OpenAIServer, redis_cluster: RedisCluster
) -> House:
    """A static worker that is up, and a Redis Cluster."""
    port = redis_cluster.nodes[0].port
    redis = {"host": "127.0.0.1", "port": port, "cluster": True, "timeout": "10s"}
    static(house, openai_server, redis=redis, cache={"index_shards": 3})
    await house.ok("up")
    return house


async def test_a_question_is_asked_stored_and_served_to_other_wordings_and_all_of_it_is_counted(
    cluster_house: House, redis_cluster: RedisCluster
) -> None:
    house = cluster_house
    stored = await house.ok("ask", QUESTION)
    again = await house.ok("ask", QUESTION)
    reworded = await house.ok("ask", REWORDED, "--threshold", "0")

    assert [each["source"] for each in (stored, again, reworded)] == ["engine", "exact", "semantic"]
    assert (reworded["answer"], reworded["matched_question"]) == (stored["answer"], QUESTION)
    stats = await house.ok("stats")
    assert (stats["requests"], stats["hits"], stats["misses"]) == (3, {"exact": 1, "semantic": 1}, 1)
    assert stats["redis"]["entries"] == 1
    (entry,) = (await house.ok("cache", "ls"))["entries"]
    assert (entry["entry"], entry["hit_count"]) == (stored["entry"], 2)
    assert len((await house.ok("status"))["workers"]) == 1
    names = [name for node in range(3) for name in redis_cluster.ask(node, "KEYS", "*")]
    assert len({key_slot(name) for name in names if name.startswith(b"llmhost:{test}:")}) == 1
    assert len({key_slot(name) for name in names if stored["entry"].encode() in name}) == 1


async def test_entries_are_exported_moved_to_another_index_swept_and_cleared(cluster_house: House) -> None:
    house = cluster_house
    await house.ok("ask", QUESTION)
    await house.ok("cache", "export", "--vectors", "all.jsonl")
    moved = await house.ok("cache", "reindex", "--index", "flat")
    assert (moved["index"], moved["entries"]) == ("flat", 1)
    assert (await house.ok("ask", REWORDED, "--threshold", "0"))["source"] == "semantic"
    await house.ok("cache", "sweep")
    await house.ok("cache", "clear", "--yes")
    assert (await house.ok("cache", "ls"))["entries"] == []
    assert (await house.ok("cache", "import", "all.jsonl"))["imported"] == 1
    assert (await house.ok("ask", QUESTION))["source"] == "exact"


async def checks(house: House) -> dict[str, dict[str, Any]]:
    done = await house.run("doctor", "--json", "--verbose")
    return {check["name"]: check for check in done.json["checks"]}


async def test_doctor_shows_that_the_cluster_is_well(cluster_house: House) -> None:
    found = await checks(cluster_house)
    assert found["redis cluster"]["detail"] == "3 masters, 3 other nodes, all slots are served"
    for name in ("redis", "redis cluster", "redis use", "index"):
        assert found[name]["level"] == "ok", found[name]
