"""One leads, the others wait: on a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest
from doubles.waiting import until

from llmhost.cache import single_flight
from llmhost.cache.single_flight import SingleFlight
from llmhost.config.models import RedisConfig
from llmhost.errors import StoreUnavailable
from llmhost.store.client import connect
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from plugins.redis_servers import PortServer, RedisServer
    from redis.asyncio import Redis

Process = Callable[[], SingleFlight]


@pytest.fixture
async def process(redis_server: RedisServer, keys: NamespaceKeys) -> AsyncIterator[Process]:
    """The flights of another process."""
    clients = []

    def start() -> SingleFlight:
        clients.append(connect(RedisConfig(), socket=redis_server.socket))
        return SingleFlight(clients[-1], keys)

    yield start
    for client in clients:
        await client.aclose()


@pytest.fixture
def flights(redis_client: Redis, keys: NamespaceKeys) -> SingleFlight:
    return SingleFlight(redis_client, keys)


async def joined(flights: SingleFlight, entry: str = "e") -> bool:
    async with flights.join(entry) as leads:
        return leads


async def until_waiting(redis_client: Redis, entries: int = 1) -> None:
    """Returns when processes listen for the ends of the flights of so many entries."""

    async def all_listen() -> bool:
        return len(await redis_client.pubsub_channels()) >= entries

    await until(all_listen)


async def test_of_two_in_one_process_one_leads_and_the_other_waits_for_its_end(
    flights: SingleFlight,
) -> None:
    async with flights.join("e") as leads:
        waiting = asyncio.create_task(joined(flights))
        await asyncio.sleep(0)
        assert (leads, waiting.done()) == (True, False)
    assert await asyncio.wait_for(waiting, 5) is False


async def test_of_two_processes_one_leads_and_the_other_waits_for_its_end(
    flights: SingleFlight, process: Process, redis_client: Redis
) -> None:
    async with flights.join("e") as leads:
        waiting = asyncio.create_task(joined(process()))
        await until_waiting(redis_client)
        assert (leads, waiting.done()) == (True, False)
    assert await asyncio.wait_for(waiting, 5) is False


async def test_a_flight_that_ends_while_another_process_starts_to_wait_does_not_hold_it_up(
    flights: SingleFlight, process: Process
) -> None:
    for _ in range(20):
        async with flights.join("e"):
            waiting = asyncio.create_task(joined(process()))
            for _ in range(5):
                await asyncio.sleep(0)
        await asyncio.wait_for(waiting, 5)


async def test_500_that_wait_cost_redis_no_polling(
    flights: SingleFlight, process: Process, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, entries = process(), [f"entry {number}" for number in range(5)]
    loop, later = asyncio.get_running_loop(), 0.0
    monkeypatch.setattr(loop, "time", lambda: time.monotonic() + later)
    async with asyncio.TaskGroup() as group:
        leading = [flights.join(entry) for entry in entries]
        for flight in leading:
            assert await flight.__aenter__()
        waiting = [group.create_task(joined(other, entries[number % 5])) for number in range(500)]
        await until_waiting(redis_client, entries=5)
        for _ in range(20):  # whatever polls every 0.05 s looks at each turn
            later += 0.05
            await redis_client.ping()
        for flight in leading:
            await flight.__aexit__(None, None, None)
    assert [task.result() for task in waiting] == [False] * 500
    calls = {name: stats["calls"] for name, stats in (await redis_client.info("commandstats")).items()}
    asked = sum(calls.get(f"cmdstat_{name}", 0) for name in ("set", "get", "exists", "pttl", "subscribe"))
    assert asked < 40


async def test_the_wait_of_one_that_is_cancelled_does_not_end_that_of_the_others(
    flights: SingleFlight, process: Process, redis_client: Redis
) -> None:
    other = process()
    async with flights.join("e"):
        first, second = (asyncio.create_task(joined(other)) for _ in range(2))
        await until_waiting(redis_client)
        second.cancel()
        await asyncio.wait([second])
        assert not first.done()
    assert await asyncio.wait_for(first, 5) is False


async def test_other_entries_have_flights_of_their_own(flights: SingleFlight) -> None:
    async with flights.join("e") as first, flights.join("f") as second:
        assert (first, second) == (True, True)


async def test_the_next_leads_when_the_first_has_ended(flights: SingleFlight) -> None:
    assert [await joined(flights), await joined(flights)] == [True, True]


async def test_a_leader_that_fails_lets_go(flights: SingleFlight) -> None:
    with pytest.raises(ZeroDivisionError):
        async with flights.join("e"):
            raise ZeroDivisionError
    assert await joined(flights)


async def test_a_leader_that_died_holds_the_others_up_until_its_lease_ends(
    flights: SingleFlight, redis_client: Redis
) -> None:
    await redis_client.set("test:flight:e", "dead", px=50)
    assert await asyncio.wait_for(joined(flights), 5) is False


async def test_a_lease_lasts_for_seconds_only(flights: SingleFlight, redis_client: Redis) -> None:
    async with flights.join("e"):
        assert 0 < await redis_client.pttl("test:flight:e") <= 10_000


async def test_a_leader_that_lives_keeps_its_flight(
    flights: SingleFlight, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight, "_RENEWAL", 0.01)
    async with flights.join("e"):
        await redis_client.pexpire("test:flight:e", 5_000)

        async def is_renewed() -> bool:
            return await redis_client.pttl("test:flight:e") > 5_000

        await until(is_renewed)


async def test_nobody_ends_the_flight_of_another(flights: SingleFlight, redis_client: Redis) -> None:
    async with flights.join("e"):
        await redis_client.set("test:flight:e", "somebody else's")
    assert await redis_client.get("test:flight:e") == b"somebody else's"


async def test_without_redis_nobody_leads(refusing_port: int, keys: NamespaceKeys) -> None:
    client = connect(RedisConfig(host="127.0.0.1", port=refusing_port))
    with pytest.raises(StoreUnavailable):
        await joined(SingleFlight(client, keys))
    await client.aclose()


async def test_redis_dying_during_a_flight_does_not_hurt_its_leader(
    redis_port_server: PortServer, keys: NamespaceKeys
) -> None:
    server = redis_port_server()
    client = connect(RedisConfig(host="127.0.0.1", port=server.port))
    async with SingleFlight(client, keys).join("e") as leads:
        server.kill()
    assert leads
    await client.aclose()


async def test_redis_dying_ends_the_wait_at_once(redis_port_server: PortServer, keys: NamespaceKeys) -> None:
    server = redis_port_server()
    clients = [connect(RedisConfig(host="127.0.0.1", port=server.port)) for _ in range(2)]
    leader, other = (SingleFlight(client, keys) for client in clients)
    async with leader.join("e"):
        waiting = asyncio.create_task(joined(other))
        await until_waiting(clients[0])
        server.kill()
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(waiting, 5)
    for client in clients:
        await client.aclose()
