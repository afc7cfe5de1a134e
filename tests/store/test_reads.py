"""What several ask for at the same moment is read in one round trip."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from llmhost.config.models import RedisConfig
from llmhost.errors import StoreUnavailable
from llmhost.store.client import connect, translate_errors
from llmhost.store.reads import SharedReads

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_what_is_asked_for_at_one_moment_is_one_command(redis_client: Redis) -> None:
    await redis_client.mset({"a": "1", "b": "2"})
    reads = SharedReads(redis_client)
    before = (await redis_client.info("commandstats")).get("cmdstat_mget", {"calls": 0})["calls"]
    assert await asyncio.gather(*map(reads.get, ["a", "b", "a", "none"])) == [b"1", b"2", b"1", None]
    assert (await redis_client.info("commandstats"))["cmdstat_mget"]["calls"] == before + 1


async def test_who_gives_up_keeps_nobody_else_from_the_answer(redis_client: Redis) -> None:
    await redis_client.set("a", "1")
    reads = SharedReads(redis_client)
    asked = [asyncio.create_task(reads.get("a")) for _ in range(3)]
    await asyncio.sleep(0)
    asked[0].cancel()
    assert await asyncio.gather(*asked[1:]) == [b"1", b"1"]
    assert await reads.get("a") == b"1"


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced(redis_client: Redis) -> None:
    await redis_client.set("a", "1")
    reads = SharedReads(redis_client)
    for _ in range(3):
        assert await reads.get("a") == b"1"
        await redis_client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0)  # as any question takes


async def test_a_redis_that_hangs_is_waited_for_once(hanging_port: int) -> None:
    client = connect(RedisConfig(host="127.0.0.1", port=hanging_port, timeout=0.2))
    reads = SharedReads(client)
    for words in ("does not answer in time", "."):
        with pytest.raises(StoreUnavailable, match=words), translate_errors():
            await reads.get("a")
    await client.aclose()


async def test_a_redis_that_is_away_is_told_to_everyone_who_asks(refusing_port: int) -> None:
    client = connect(RedisConfig(host="127.0.0.1", port=refusing_port))
    reads = SharedReads(client)

    async def get() -> None:
        with translate_errors():
            await reads.get("a")

    for told in await asyncio.gather(get(), get(), return_exceptions=True):
        with pytest.raises(StoreUnavailable):
            raise told or AssertionError
    await client.aclose()
