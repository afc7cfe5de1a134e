"""One leads, the others wait: on a real Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from doubles.waiting import until

from llmhost.cache import single_flight
from llmhost.cache.models import Answer
from llmhost.cache.single_flight import Follow, Lead, SingleFlight
from llmhost.config.models import RedisConfig
from llmhost.errors import StoreUnavailable
from llmhost.store.client import connect
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from plugins.redis_servers import PortServer, RedisServer
    from redis.asyncio import Redis

Process = Callable[[], SingleFlight]

#: seconds; less than the life of a lease, whose end would let anybody go on
SOON = 0.8 * single_flight._LIFETIME


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
    """Whether it leads; where it follows, it does so until the end."""
    async with flights.join(entry, entry) as place:
        if isinstance(place, Follow):
            async for _ in place.pieces():
                pass
        return isinstance(place, Lead)


async def until_waiting(redis_client: Redis, entries: int = 1) -> None:
    """Returns when processes listen for the ends of the flights of so many entries."""

    async def all_listen() -> bool:
        return len(await redis_client.pubsub_channels()) >= entries

    await until(all_listen)


async def test_of_two_processes_one_leads_and_the_other_waits_for_its_end(
    flights: SingleFlight, process: Process, redis_client: Redis
) -> None:
    async with flights.join("e", "e") as place:
        waiting = asyncio.create_task(joined(process()))
        await until_waiting(redis_client)
        assert (type(place), waiting.done()) == (Lead, False)
    assert await asyncio.wait_for(waiting, SOON) is False


async def test_a_flight_that_ends_while_another_process_starts_to_wait_does_not_hold_it_up(
    flights: SingleFlight, process: Process
) -> None:
    for _ in range(20):
        async with flights.join("e", "e"):
            waiting = asyncio.create_task(joined(process()))
            for _ in range(5):
                await asyncio.sleep(0)
        await asyncio.wait_for(waiting, SOON)


async def test_other_entries_have_flights_of_their_own(flights: SingleFlight) -> None:
    async with flights.join("e", "e") as first, flights.join("f", "f") as second:
        assert (type(first), type(second)) == (Lead, Lead)


async def test_the_next_leads_when_the_first_has_ended(flights: SingleFlight) -> None:
    assert [await joined(flights), await joined(flights)] == [True, True]


async def test_a_leader_that_fails_lets_go(flights: SingleFlight) -> None:
    with pytest.raises(ZeroDivisionError):
        async with flights.join("e", "e"):
            raise ZeroDivisionError
    assert await joined(flights)


async def test_a_leader_that_died_holds_the_others_up_until_its_lease_ends(
    flights: SingleFlight, redis_client: Redis
) -> None:
    await redis_client.set("test:flight:e", "dead", px=50)
    assert await asyncio.wait_for(joined(flights), SOON) is False


async def test_a_lease_lasts_for_seconds_only(flights: SingleFlight, redis_client: Redis) -> None:
    async with flights.join("e", "e"):
        assert 0 < await redis_client.pttl("test:flight:e") <= 10_000


async def test_a_leader_that_lives_keeps_its_flight(
    flights: SingleFlight, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight, "_RENEWAL", 0.01)
    async with flights.join("e", "e"):
        await redis_client.pexpire("test:flight:e", 5_000)

        async def is_renewed() -> bool:
            return await redis_client.pttl("test:flight:e") > 5_000

        await until(is_renewed)


async def test_nobody_ends_the_flight_of_another(flights: SingleFlight, redis_client: Redis) -> None:
    async with flights.join("e", "e"):
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
    async with SingleFlight(client, keys).join("e", "e") as place:
        server.kill()
    assert isinstance(place, Lead)
    await client.aclose()


async def test_redis_dying_ends_the_wait_at_once(redis_port_server: PortServer, keys: NamespaceKeys) -> None:
    server = redis_port_server()
    clients = [connect(RedisConfig(host="127.0.0.1", port=server.port)) for _ in range(2)]
    leader, other = (SingleFlight(client, keys) for client in clients)
    async with leader.join("e", "e"):
        waiting = asyncio.create_task(joined(other))
        await until_waiting(clients[0])
        server.kill()
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(waiting, SOON)
    for client in clients:
        await client.aclose()


# What followers are told

ANSWER = Answer("one two", "m", 1_700_000_000.0, 3, 2, "stop", 0.5, 0.001)


class Following:
    """Another process that follows the flight, and what it has heard."""

    def __init__(self, flights: SingleFlight) -> None:
        self.heard: list[str] = []
        self.answer: Answer | None = None
        self.task = asyncio.create_task(self._follow(flights))

    async def _follow(self, flights: SingleFlight) -> None:
        async with flights.join("e", "e") as place:
            assert isinstance(place, Follow)
            async for _, text in place.pieces():
                self.heard.append(text)
            self.answer = place.answer

    async def until_heard(self, lead: Lead, *texts: str) -> None:
        async def has_heard() -> bool:
            await lead.tell([("text", text) for text in texts])
            return self.heard == list(texts)

        await until(has_heard)


@asynccontextmanager
async def leading(flights: SingleFlight) -> AsyncIterator[Lead]:
    async with flights.join("e", "e") as place:
        assert isinstance(place, Lead)
        yield place


async def test_a_follower_gets_each_piece_as_it_comes_and_last_the_answer(
    flights: SingleFlight, process: Process
) -> None:
    async with leading(flights) as lead:
        follower = Following(process())
        await follower.until_heard(lead, "one")
        await follower.until_heard(lead, "one", " two")
        lead.answer = ANSWER
    await asyncio.wait_for(follower.task, SOON)
    assert (follower.heard, follower.answer) == (["one", " two"], ANSWER)


async def test_a_late_follower_gets_everything_and_none_gets_anything_twice(
    flights: SingleFlight, process: Process
) -> None:
    async with leading(flights) as lead:
        first = Following(process())
        await first.until_heard(lead, "one", " two")
        second = Following(process())
        await second.until_heard(lead, "one", " two", " three")
        await first.until_heard(lead, "one", " two", " three")
    await asyncio.wait_for(asyncio.gather(first.task, second.task), SOON)
    assert first.heard == second.heard == ["one", " two", " three"]


async def test_the_leader_sees_its_last_follower_leave(flights: SingleFlight, process: Process) -> None:
    async with leading(flights) as lead:
        follower = Following(process())
        await follower.until_heard(lead, "one")
        assert lead.followers == 1
        follower.task.cancel()
        await asyncio.wait([follower.task])

        async def is_alone() -> bool:
            await lead.tell([("text", "one")])
            return lead.followers == 0

        await until(is_alone)


async def test_without_followers_nothing_of_the_answer_leaves_the_process(
    flights: SingleFlight, redis_client: Redis
) -> None:
    async with leading(flights) as lead:
        sent = []
        told = flights.told

        async def seen(**arguments: Any) -> Any:
            sent.append(arguments["args"][1])
            return await told(**arguments)

        flights.told = seen  # type: ignore[assignment]
        await lead.tell([("text", "one")])
    assert "one" not in sent[0]


async def test_a_leader_that_fails_tells_its_followers_that_there_is_no_answer(
    flights: SingleFlight, process: Process
) -> None:
    async with leading(flights) as lead:
        follower = Following(process())
        await follower.until_heard(lead, "one")
    await asyncio.wait_for(follower.task, SOON)
    assert follower.answer is None


@pytest.mark.parametrize(
    "message",
    [
        b"", b"\xff", b"[]", b"1", b"{}", b'{"from": "x"}', b'{"from": -1, "pieces": [["text", "bad"]]}',
        b'{"from": 0, "pieces": {"text": "bad"}}', b'{"from": 0, "pieces": [["text"]]}',
        b'{"from": 0, "pieces": [["text", 5]]}', b'{"from": 7, "pieces": [["text", "bad"]]}', b"[" * 100_000,
    ],
)  # fmt: skip
async def test_what_is_no_message_of_a_leader_is_not_heard(
    flights: SingleFlight, process: Process, redis_client: Redis, message: bytes
) -> None:
    async with leading(flights) as lead:
        follower = Following(process())
        await until_waiting(redis_client)
        await redis_client.publish("test:flight:e", message)
        await follower.until_heard(lead, "one")
    await asyncio.wait_for(follower.task, SOON)


@pytest.mark.parametrize("answer", [5, ["a"], {"response": "a"}, "a", True])
async def test_an_end_with_something_else_than_an_answer_has_none(
    flights: SingleFlight, process: Process, redis_client: Redis, answer: object
) -> None:
    async with leading(flights):
        follower = Following(process())
        await until_waiting(redis_client)
        await redis_client.publish("test:flight:e", json.dumps({"end": True, "answer": answer}))
        await asyncio.wait_for(follower.task, SOON)
    assert follower.answer is None


@pytest.mark.parametrize("turns", range(1, 12))
async def test_a_process_that_gives_up_while_it_asks_who_leads_keeps_no_other_waiting(
    flights: SingleFlight, process: Process, turns: int
) -> None:
    assert await joined(flights, "other")  # so that it has a connection
    task = asyncio.create_task(joined(flights))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert await asyncio.wait_for(joined(process()), SOON) is True
