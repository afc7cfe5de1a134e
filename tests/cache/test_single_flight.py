"""One leads, the others wait: on a real Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from plugins.redis_servers import PortServer

from llmhost.cache import single_flight
from llmhost.cache.single_flight import SingleFlight
from llmhost.config.models import RedisConfig
from llmhost.errors import StoreUnavailable
from llmhost.store.client import connect
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def flights(redis_client: Redis, keys: NamespaceKeys) -> SingleFlight:
    return SingleFlight(redis_client, keys)


async def test_of_two_one_leads(flights: SingleFlight) -> None:
    async with flights.lead("e") as first, flights.lead("e") as second:
        assert (first, second) == (True, False)


async def test_other_entries_have_flights_of_their_own(flights: SingleFlight) -> None:
    async with flights.lead("e") as first, flights.lead("f") as second:
        assert (first, second) == (True, True)


async def test_the_next_leads_when_the_first_has_ended(flights: SingleFlight) -> None:
    async with flights.lead("e"):
        pass
    async with flights.lead("e") as leads:
        assert leads


async def test_a_leader_that_fails_lets_go(flights: SingleFlight) -> None:
    with pytest.raises(ZeroDivisionError):
        async with flights.lead("e"):
            raise ZeroDivisionError
    async with flights.lead("e") as leads:
        assert leads


async def test_waiting_ends_with_the_flight(flights: SingleFlight) -> None:
    async with flights.lead("e"):
        waiting = asyncio.create_task(flights.wait("e"))
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)


async def test_waiting_for_nobody_returns_at_once(flights: SingleFlight) -> None:
    await asyncio.wait_for(flights.wait("e"), 5)


async def test_a_leader_that_died_holds_the_others_up_for_seconds_only(
    flights: SingleFlight, redis_client: Redis
) -> None:
    async with flights.lead("e"):
        assert 0 < await redis_client.pttl("test:flight:e") <= 10_000


async def test_a_leader_that_lives_keeps_its_flight(
    flights: SingleFlight, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight, "_RENEWAL", 0.01)
    async with flights.lead("e"):
        await redis_client.pexpire("test:flight:e", 5_000)
        async with asyncio.timeout(5):
            while await redis_client.pttl("test:flight:e") <= 5_000:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.01)


async def test_nobody_ends_the_flight_of_another(flights: SingleFlight, redis_client: Redis) -> None:
    async with flights.lead("e"):
        await redis_client.set("test:flight:e", "somebody else's")
    assert await redis_client.get("test:flight:e") == b"somebody else's"


async def test_without_redis_nobody_leads(refusing_port: int, keys: NamespaceKeys) -> None:
    client = connect(RedisConfig(host="127.0.0.1", port=refusing_port))
    with pytest.raises(StoreUnavailable):
        async with SingleFlight(client, keys).lead("e"):
            pass
    await client.aclose()


async def test_redis_dying_during_a_flight_does_not_hurt_its_leader(
    redis_port_server: PortServer, keys: NamespaceKeys
) -> None:
    server = redis_port_server()
    client = connect(RedisConfig(host="127.0.0.1", port=server.port))
    async with SingleFlight(client, keys).lead("e") as leads:
        server.kill()
    assert leads
    await client.aclose()
