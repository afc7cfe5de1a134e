"""llmhost on a real Redis Cluster of three masters and three replicas."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from doubles.fleet_values import ORIGIN, make_worker
from doubles.openai_server import OpenAIServer
from doubles.waiting import until
from plugins.commands import House, HouseMaker
from plugins.redis_clusters import RedisCluster
from redis.asyncio import Redis
from redis.crc import key_slot

from llmhost.cache.models import Answer
from llmhost.cache.single_flight import Follow, Lead, SingleFlight
from llmhost.engines.redis_traffic import RedisLoad, RedisTraffic
from llmhost.fleet.registry import FleetRegistry
from llmhost.gateway.api_keys import ApiKey, Booking, Limits, Use, make_key
from llmhost.gateway.key_store import KeyStore
from llmhost.ledger.events import Outcome, QuestionEvent
from llmhost.ledger.ledger import Ledger
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys, NamespaceKeys
from llmhost.store.lease import Lease

ROOT = Path(__file__).parents[2]
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


async def test_entries_are_exported_swept_cleared_and_imported(cluster_house: House) -> None:
    house = cluster_house
    await house.ok("ask", QUESTION)
    await house.ok("cache", "export", "--vectors", "all.jsonl")
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


async def test_doctor_names_the_master_that_is_down_and_the_slots_that_nobody_serves(
    house: House, static: HouseMaker, openai_server: OpenAIServer, own_redis_cluster: RedisCluster
) -> None:
    cluster = own_redis_cluster
    port = cluster.nodes[1].port
    redis = {"host": "127.0.0.1", "port": port, "cluster": True, "timeout": "10s"}
    static(house, openai_server, redis=redis)
    await house.ok("up")
    for node in (3, 0):  # the replica first: nothing takes over
        cluster.nodes[node].kill()
    await until(lambda: b"cluster_state:fail" in cluster.ask(1, "CLUSTER", "INFO"))

    found = (await checks(house))["redis cluster"]

    assert found["level"] == "fail"
    assert f"127.0.0.1:{cluster.nodes[0].port}" in found["detail"]
    assert "5,461 of 16,384 slots are served by no node" in found["detail"]
    done = await house.run("ask", QUESTION)
    assert (done.code, done.out) == (0, "Hello, Wörld!\n")


# What processes share


@pytest.fixture
async def others(redis_cluster: RedisCluster) -> AsyncIterator[list[Redis]]:
    """Three processes' clients."""
    clients = [connect(redis_cluster.config()) for _ in range(3)]
    yield clients
    for client in clients:
        await client.aclose()


async def test_of_many_processes_one_gets_the_lease_and_its_fence_grows(others: list[Redis]) -> None:
    key = FleetKeys("test", sharded=True).scale
    leases = [Lease(client, key) for client in others]
    first = [fence for fence in await asyncio.gather(*(lease.take() for lease in leases)) if fence]
    assert len(first) == 1
    (holder,) = (lease for lease in leases if lease.fence)
    assert await holder.renew()
    await holder.give_back()
    again = [fence for fence in await asyncio.gather(*(lease.take() for lease in leases)) if fence]
    assert len(again) == 1
    assert again > first


async def test_workers_their_load_and_what_they_cost_are_the_same_for_all_processes(
    others: list[Redis], redis_cluster: RedisCluster
) -> None:
    one, two, _ = others
    registry = FleetRegistry(one, "test", ORIGIN)
    for worker in (make_worker("a"), make_worker("b")):
        await registry.save(worker)
    slots = [await RedisLoad(one, "test", 60).acquire(["a", "b"]) for _ in range(2)]
    ledger = Ledger(one, "test")
    await ledger.observed("a", 0.5, 1_700_000_000.0, 1_700_003_600.0)
    await ledger.closed("a", 1_700_003_600.0)
    await ledger.record(QuestionEvent(1_700_000_000.0, Outcome.MISS, 3_000.0, 10, 20, 2.5, cost_usd=0.001))

    assert (await FleetRegistry(two, "test", ORIGIN).workers()).ids == {"a", "b"}
    assert sorted(slot.worker for slot in slots if slot) == ["a", "b"]
    assert await RedisTraffic(two, "test", 1).in_flight(["a", "b"]) == {"a": 1, "b": 1}
    assert set((await RedisTraffic(two, "test", 1).read(["a", "b"])).workers) == {"a", "b"}
    (rental,) = await Ledger(two, "test").rentals()
    assert (rental.worker, rental.ended) == ("a", 1_700_003_600.0)
    assert (await Ledger(two, "test").totals(1_700_000_000.0, 1_700_000_000.0)).cost_usd == 0.001
    names = [name for node in range(3) for name in redis_cluster.ask(node, "KEYS", "llmhost:*")]
    assert len(names) > 5
    assert len({key_slot(name) for name in names}) == 1


async def test_a_limit_of_an_api_key_holds_over_all_processes(others: list[Redis]) -> None:
    _, made = make_key()
    limits = Limits(requests_per_minute=5)
    await KeyStore(others[0]).add(ApiKey(made.id, "acme", limits, time.time(), made.digest))
    found = await asyncio.gather(*(KeyStore(others[n % 3]).admit(made, asks=True) for n in range(9)))
    assert Counter(each.verdict for each in found if each)["ok"] == 5
    await KeyStore(others[1]).book({made.id: Booking(Use(5, 100, 0.5))})
    (stored,) = await KeyStore(others[2]).keys(time.time())
    assert stored.today.tokens == 100


async def test_of_three_processes_one_asks_and_the_others_hear_its_answer(others: list[Redis]) -> None:
    keys = NamespaceKeys("test", sharded=True)
    leader, *followers = (SingleFlight(client, keys) for client in others)
    answer = Answer("one two", "m", 1_700_000_000.0, 3, 2, "stop", 0.5, 0.001)

    async def heard(flights: SingleFlight) -> tuple[list[str], Answer | None]:
        async with flights.join("e", "e") as place:
            assert isinstance(place, Follow)
            texts = [text async for _, text in place.pieces()]
            return texts, place.answer

    async with leader.join("e", "e") as lead:
        assert isinstance(lead, Lead)
        tasks = [asyncio.create_task(heard(flights)) for flights in followers]

        async def all_follow() -> bool:
            await lead.tell([("text", "one "), ("text", "two")])
            return lead.followers == len(tasks)

        await until(all_follow)
        await lead.tell([("text", "one "), ("text", "two")])
        lead.answer = answer
    assert await asyncio.gather(*tasks) == [(["one ", "two"], answer)] * 2


async def test_a_user_with_the_rights_of_the_docs_can_do_all_of_it(
    house: House, static: HouseMaker, openai_server: OpenAIServer, redis_cluster: RedisCluster
) -> None:
    text = (ROOT / "docs" / "redis.md").read_text()
    lines = re.findall(r"^ACL SETUSER llmhost (.*)$", text, re.MULTILINE)
    rights = " ".join(line.replace("on >SECRET", "") for line in lines if "ft." not in line).split()
    for node in range(6):
        more = ("+cluster|slots", "+cluster|nodes")
        redis_cluster.ask(node, "ACL", "SETUSER", "llmhost", "reset", "on", ">secret", *rights, *more)
    login = {"username": "llmhost", "password": "secret"}
    address = {"host": "127.0.0.1", "port": redis_cluster.nodes[2].port, "cluster": True, "timeout": "10s"}
    static(house, openai_server, redis=address | login)
    await house.ok("up")
    await house.ok("ask", QUESTION)

    assert (await house.ok("ask", REWORDED, "--threshold", "0"))["source"] == "semantic"
    found = await checks(house)
    for name in ("redis", "redis cluster", "redis use", "index"):
        assert found[name]["level"] == "ok", found[name]
