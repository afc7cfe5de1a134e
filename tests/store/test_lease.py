"""The fenced lock, on a real server: who has it, for how long, and who may still believe so."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from plugins.redis_servers import PortServer, RedisServer
from redis.asyncio import Redis

from llmhost.config.models import RedisConfig
from llmhost.errors import StoreError, StoreRefused, StoreUnavailable
from llmhost.store import connections
from llmhost.store.client import connect
from llmhost.store.lease import Lease

KEY = "llmhost:test:scale"


@pytest.fixture
def mine(redis_client: Redis) -> Lease:
    return Lease(redis_client, KEY, holder="me")


@pytest.fixture
def theirs(redis_client: Redis) -> Lease:
    return Lease(redis_client, KEY, holder="them")


async def now(client: Redis) -> float:
    seconds, micros = await client.time()
    return float(seconds) + micros / 1e6


async def end_in(client: Redis, seconds: float) -> None:
    """As if time had passed: the lease ends this many seconds from now."""
    await client.hset(KEY, "lock:until", repr(await now(client) + seconds))


async def left(client: Redis) -> float:
    """Seconds until the lease ends."""
    return float(await client.hget(KEY, "lock:until") or 0) - await now(client)


async def holder(client: Redis) -> Any:
    return await client.hget(KEY, "lock:holder")


async def test_of_many_at_once_one_gets_it(redis_client: Redis) -> None:
    takers = [Lease(redis_client, KEY) for _ in range(30)]
    fences = await asyncio.gather(*(taker.take() for taker in takers))
    assert sum(fence is not None for fence in fences) == 1


async def test_the_fence_grows_with_every_take(mine: Lease, theirs: Lease) -> None:
    fences = []
    for lease in (mine, theirs, mine, mine, theirs):
        fences.append(await lease.take())
        await lease.give_back()
    assert fences == sorted({fence for fence in fences if fence})


async def test_the_fence_grows_though_redis_lost_its_data(
    mine: Lease, theirs: Lease, redis_client: Redis
) -> None:
    first = await mine.take()
    await redis_client.flushall()
    second = await theirs.take()
    assert first is not None
    assert second is not None
    assert second > first


async def test_a_holder_that_died_loses_it(mine: Lease, theirs: Lease, redis_client: Redis) -> None:
    first = await mine.take()
    await end_in(redis_client, -0.001)
    second = await theirs.take()
    assert first is not None
    assert second is not None
    assert second > first
    assert await holder(redis_client) == b"them"


async def test_a_lost_one_is_neither_renewed_nor_given_back(
    mine: Lease, theirs: Lease, redis_client: Redis
) -> None:
    await mine.take()
    await end_in(redis_client, -1)
    await theirs.take()
    assert not await mine.renew()
    await mine.give_back()
    assert await holder(redis_client) == b"them"
    assert await theirs.renew()


async def test_given_back_it_is_free_at_once(mine: Lease, theirs: Lease) -> None:
    await mine.take()
    await mine.give_back()
    assert mine.fence is None
    assert await theirs.take() is not None


async def test_what_was_never_taken_is_neither_renewed_nor_given_back(
    mine: Lease, theirs: Lease, redis_client: Redis
) -> None:
    await theirs.take()
    assert not await mine.renew()
    await mine.give_back()
    assert await holder(redis_client) == b"them"


async def test_renewal_keeps_it_for_another_lifetime(mine: Lease, theirs: Lease, redis_client: Redis) -> None:
    fence = await mine.take()
    await end_in(redis_client, 1)
    assert await mine.renew()
    assert await left(redis_client) > 50
    assert mine.fence == fence
    assert await theirs.take() is None


async def test_one_that_has_ended_and_that_no_other_took_can_be_renewed(
    mine: Lease, redis_client: Redis
) -> None:
    await mine.take()
    await end_in(redis_client, -5)
    assert await mine.renew()
    assert await left(redis_client) > 50


async def test_the_same_name_takes_it_over_and_the_earlier_one_has_lost_it(
    mine: Lease, redis_client: Redis
) -> None:
    await mine.take()
    again = Lease(redis_client, KEY, holder="me")
    assert await again.take() is not None
    assert not await mine.renew()
    await mine.give_back()
    assert await again.renew()


@pytest.mark.parametrize("ahead", [130.0, 3600.0, 5 * 86_400.0])
async def test_a_clock_that_was_put_back_leaves_no_lease_for_days(
    mine: Lease, theirs: Lease, redis_client: Redis, ahead: float
) -> None:
    await mine.take()
    await end_in(redis_client, ahead)
    assert await theirs.take() is not None
    assert not await mine.renew()


async def test_the_longest_lease_is_not_taken_for_a_clock_that_was_put_back(redis_client: Redis) -> None:
    await Lease(redis_client, KEY, lifetime=120.0).take()
    await end_in(redis_client, 121.0)
    assert await Lease(redis_client, KEY, lifetime=0.1).take() is None


@pytest.mark.parametrize("end", ["nan", "-inf", "soon", "", "1e400"])
async def test_an_end_that_makes_no_sense_is_none(
    mine: Lease, theirs: Lease, redis_client: Redis, end: str
) -> None:
    await mine.take()
    await redis_client.hset(KEY, "lock:until", end)
    assert await theirs.take() is not None


@pytest.mark.parametrize("fence", ["nan", "inf", "-7", "x", "", "1e300", "9" * 40, "2.5"])
async def test_a_fence_that_makes_no_sense_is_replaced(mine: Lease, redis_client: Redis, fence: str) -> None:
    await redis_client.hset(KEY, "lock:fence", fence)
    first = await mine.take()
    assert first is not None
    assert first > 0
    assert await mine.renew()
    second = await mine.take()
    assert second is not None
    assert second > first


async def test_a_redis_that_was_restarted_with_its_data_has_it_still(
    mine: Lease, theirs: Lease, redis_client: Redis, redis_server: RedisServer
) -> None:
    await mine.take()
    async with connect(RedisConfig(), socket=redis_server.socket) as other:
        await other.script_flush()
        await other.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert await theirs.take() is None
    assert await mine.renew()


async def test_it_is_never_evicted_and_leaves_its_neighbours_alone(mine: Lease, redis_client: Redis) -> None:
    await redis_client.hset(KEY, "price", "0.5")
    await mine.take()
    assert await redis_client.ttl(KEY) == -1
    await mine.give_back()
    assert set(await redis_client.hkeys(KEY)) == {b"price", b"lock:fence"}


@pytest.mark.parametrize("turns", range(1, 12))
async def test_a_take_that_is_cut_off_at_any_step_leaves_nothing_held(
    mine: Lease, redis_client: Redis, turns: int
) -> None:
    await mine.take()
    await mine.give_back()  # so that there is a connection
    taking = asyncio.create_task(mine.take())
    for _ in range(turns):
        await asyncio.sleep(0)
    taking.cancel()
    await asyncio.wait([taking])
    if not taking.cancelled():  # Redis was faster
        await mine.give_back()
    assert await holder(redis_client) is None


async def test_a_redis_that_lost_its_data_has_lost_the_lease(mine: Lease, redis_client: Redis) -> None:
    await mine.take()
    await redis_client.flushall()
    assert not await mine.renew()


@pytest.mark.parametrize("lifetime", [0.0, -1.0, 121.0, float("nan"), float("inf")])
async def test_a_lease_without_an_end_in_sight_is_refused(redis_client: Redis, lifetime: float) -> None:
    with pytest.raises(ValueError, match="no lease lasts"):
        Lease(redis_client, KEY, lifetime=lifetime)


@pytest.mark.parametrize("method", ["take", "give_back"])
async def test_a_redis_that_is_away_is_a_store_error(refusing_port: int, method: str) -> None:
    async with connect(RedisConfig(host="127.0.0.1", port=refusing_port, timeout=10.0)) as client:
        with pytest.raises(StoreUnavailable):
            await getattr(Lease(client, KEY), method)()


async def hung(server: RedisServer, lease: Lease) -> None:
    """Redis is away: a renewal fails."""
    server.process.send_signal(signal.SIGSTOP)
    with pytest.raises(StoreUnavailable):
        await lease.renew()


@pytest.fixture
async def short_of_time(
    redis_port_server: PortServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RedisServer, Redis]]:
    """A server of its own, and a client that does not wait long for it and asks it again at once."""
    monkeypatch.setattr(connections, "_PAUSE", 0.0)
    server = redis_port_server()
    async with connect(RedisConfig(host="127.0.0.1", port=server.port, timeout=0.5)) as client:
        yield server, client


async def renewed(lease: Lease) -> bool:
    """As soon as Redis answers again: a busy machine needs a moment for that."""
    while True:
        with suppress(StoreUnavailable):
            return await lease.renew()


async def test_it_survives_a_redis_that_is_away_for_less_than_its_lifetime(
    short_of_time: tuple[RedisServer, Redis],
) -> None:
    server, client = short_of_time
    lease = Lease(client, KEY, holder="me", lifetime=120)
    fence = await lease.take()
    await hung(server, lease)
    server.process.send_signal(signal.SIGCONT)
    assert await renewed(lease)
    assert lease.fence == fence


async def test_it_is_lost_where_redis_is_away_for_longer_and_another_took_it(
    short_of_time: tuple[RedisServer, Redis],
) -> None:
    server, client = short_of_time
    lease = Lease(client, KEY, holder="me", lifetime=120)
    await lease.take()
    await hung(server, lease)
    server.process.send_signal(signal.SIGCONT)
    assert await renewed(lease)
    await end_in(client, -0.001)
    assert await Lease(client, KEY, holder="them").take() is not None
    assert not await lease.renew()


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ("full_redis", "out of memory"),
        ("read_only_redis", "read-only"),
        ("cluster_without_slots", "cluster is not ready"),
    ],
)
async def test_a_redis_that_will_not_write_is_a_store_error(
    server: str, says: str, request: pytest.FixtureRequest
) -> None:
    port = request.getfixturevalue(server).port
    async with connect(RedisConfig(host="127.0.0.1", port=port, timeout=10.0)) as client:
        with pytest.raises(StoreError, match=says):
            await Lease(client, KEY).take()


async def test_something_else_under_its_key_is_a_store_error(mine: Lease, redis_client: Redis) -> None:
    await redis_client.set(KEY, "mine")
    with pytest.raises(StoreRefused, match="holds something else"):
        await mine.take()
