"""A master that real sentinels watch, and replace."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from doubles.waiting import until
from plugins.cache import MakeCache
from plugins.redis_clusters import RedisSentinels, ask

from llmhost.cache.keys import CacheKey
from llmhost.cache.models import Answer
from llmhost.config.redis import RedisConfig
from llmhost.errors import StoreError, StoreUnavailable
from llmhost.store.client import connect, translate_errors
from llmhost.store.lease import Lease


async def test_answers_and_locks_outlive_the_master(
    redis_sentinels: RedisSentinels,
    make_cache: MakeCache,
    key: Callable[..., CacheKey],
    answer: Callable[..., Answer],
) -> None:
    async with connect(redis_sentinels.config()) as client:
        cache, lease = make_cache(client=client), Lease(client, "llmhost:test:scale", holder="me")
        await cache.store(key("what is redis"), answer("a store"), None)
        before = await lease.take()
        await client.wait(1, 0)
        redis_sentinels.master.kill()

        async def is_served_again() -> bool:
            with suppress(StoreError):
                return bool(await cache.exact(key("what is redis")))
            return False

        await until(is_served_again)
        found = await cache.exact(key("what is redis"))
        assert found is not None
        assert found.text == "a store"
        await cache.store(key("what is a master"), answer("a primary"), None)
        after = await lease.take()
        assert before is not None
        assert after is not None
        assert after > before
        assert ask(redis_sentinels.replica, "ROLE")[0] == b"master"


async def test_a_master_that_no_sentinel_knows_is_named(redis_sentinels: RedisSentinels) -> None:
    hosts = f"127.0.0.1:{redis_sentinels.ports[0]}"
    config = RedisConfig.model_validate({"sentinel": {"hosts": hosts, "master": "another"}})
    async with connect(config) as client:
        with pytest.raises(StoreUnavailable, match="another"), translate_errors():
            await client.ping()


async def test_a_sentinel_that_is_away_is_passed_over(
    redis_sentinels: RedisSentinels, refusing_port: int
) -> None:
    hosts = f"127.0.0.1:{refusing_port}, 127.0.0.1:{redis_sentinels.ports[0]}"
    config = RedisConfig.model_validate({"sentinel": {"hosts": hosts, "master": "cached"}})
    async with connect(config) as client:
        assert await client.ping()
