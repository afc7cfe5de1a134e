"""Requests in flight, counted in this process and in Redis: the same promises."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from doubles.clock import ManualClock

from llmhost.config.models import RedisConfig
from llmhost.engines.pool import LocalLoad
from llmhost.engines.redis_traffic import RedisLoad
from llmhost.engines.traffic import Work
from llmhost.store.client import connect


@pytest.fixture(params=["local", "redis"])
def load(request):
    if request.param == "local":
        return LocalLoad()
    return RedisLoad(request.getfixturevalue("redis_client"), "test", lifetime=60)


async def test_the_first_of_idle_workers_is_taken(load):
    assert (await load.acquire(["b", "a", "c"])).worker == "b"


async def test_the_least_loaded_worker_is_taken(load):
    for worker in ("a", "a", "b", "c", "c"):
        await load.acquire([worker])
    assert (await load.acquire(["a", "b", "c"])).worker == "b"


async def test_a_slot_given_back_no_longer_counts(load):
    slot = await load.acquire(["a"])
    await load.release(slot)
    assert (await load.acquire(["a"])).load == 1


async def test_giving_a_slot_back_twice_frees_only_that_one(load):
    first, _ = await load.acquire(["a"]), await load.acquire(["a"])
    await load.acquire(["b"])
    await load.release(first)
    await load.release(first)
    await load.acquire(["a"])
    assert (await load.acquire(["a", "b"])).worker == "b"


async def test_those_who_ask_at_once_are_spread_evenly(load):
    slots = await asyncio.gather(*(load.acquire(["a", "b", "c"]) for _ in range(12)))
    assert Counter(slot.worker for slot in slots) == {"a": 4, "b": 4, "c": 4}


async def test_a_slot_says_how_many_its_worker_has(load):
    slots = [await load.acquire(["a"]) for _ in range(3)]
    await load.release(slots[0])
    assert [slot.load for slot in [*slots, await load.acquire(["a"])]] == [1, 2, 3, 3]
    assert (await load.acquire(["b"])).load == 1


async def test_being_told_more_than_it_counts_is_fine(load):
    await load.record_rejected()
    slot = await load.acquire(["a"], again=True)
    await load.release(slot, Work(10, 1.0))
    assert (await load.acquire(["a"])).load == 1


async def test_fleets_do_not_count_each_others_requests(redis_client):
    await RedisLoad(redis_client, "one", lifetime=60).acquire(["a"])
    assert (await RedisLoad(redis_client, "two", lifetime=60).acquire(["a", "b"])).worker == "a"


async def test_the_slot_of_a_process_that_died_expires(redis_client):
    load = RedisLoad(redis_client, "test", lifetime=60)
    seconds, _ = await redis_client.time()
    await redis_client.zadd("llmhost:test:load:a", {"dead": seconds - 1})
    await redis_client.zadd("llmhost:test:load:b", {"alive": seconds + 60})
    assert (await load.acquire(["b", "a"])).worker == "a"
    assert await redis_client.zscore("llmhost:test:load:a", "dead") is None


async def test_a_slot_expires_after_its_lifetime_in_redis_own_time(redis_client):
    slot = await RedisLoad(redis_client, "test", lifetime=59.5).acquire(["a"])
    seconds, _ = await redis_client.time()
    assert seconds + 58 < await redis_client.zscore("llmhost:test:load:a", slot.request) <= seconds + 61


@pytest.fixture
async def absent_redis(refusing_port):
    client = connect(RedisConfig(host="127.0.0.1", port=refusing_port))
    yield client
    await client.aclose()


async def test_without_redis_this_process_counts_for_itself(absent_redis):
    load = RedisLoad(absent_redis, "test", lifetime=60)
    slots = [await load.acquire(["a", "b"]) for _ in range(2)]
    assert [slot.worker for slot in slots] == ["a", "b"]


async def test_a_slot_taken_without_redis_is_given_back(absent_redis):
    load = RedisLoad(absent_redis, "test", lifetime=60)
    await load.release(await load.acquire(["a"]), Work(10, 1.0))
    assert (await load.acquire(["a"])).load == 1


async def test_turning_somebody_away_without_redis_does_not_fail(absent_redis):
    await RedisLoad(absent_redis, "test", lifetime=60).record_rejected()


async def test_a_redis_that_hangs_is_not_waited_for_with_each_question():
    connections = []

    async def hang(reader, writer):
        connections.append(writer)
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = connect(RedisConfig(host="127.0.0.1", port=port, timeout=0.1))
        load = RedisLoad(client, "test", lifetime=60, clock=ManualClock().monotonic)
        for _ in range(5):
            await load.release(await load.acquire(["a"]))
            await load.record_rejected()
        await client.aclose()
    assert len(connections) == 1


async def test_a_redis_that_is_back_is_used_again(redis_client):
    """The first failure is a script that Redis refuses, so that one server serves for both."""
    clock = ManualClock()
    load = RedisLoad(redis_client, "test", lifetime=60, clock=clock.monotonic)
    await redis_client.set("llmhost:test:load:a", "not a sorted set")
    await load.acquire(["a"])
    await redis_client.delete("llmhost:test:load:a")
    await clock.sleep(9)
    await load.acquire(["a"])
    assert await redis_client.exists("llmhost:test:load:a") == 0
    await clock.sleep(2)
    await load.acquire(["a"])
    assert await redis_client.zcard("llmhost:test:load:a") == 1
