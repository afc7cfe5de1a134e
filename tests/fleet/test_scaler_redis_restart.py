"""A Redis that is restarted between two steps of the autoscaler, with its data and without."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from doubles.clock import ManualClock
from doubles.memory_provider import MemoryCloud
from doubles.memory_traffic import MemoryTraffic
from doubles.scale_bench import ScaleBench, exit_code
from redis.asyncio import Redis

from llmhost.config.models import RedisConfig
from llmhost.store.client import connect


@asynccontextmanager
async def connected(server: Any) -> AsyncIterator[Redis]:
    client = connect(RedisConfig(host="127.0.0.1", port=server.port))
    yield client
    await client.aclose()


async def test_a_redis_that_comes_back_with_its_data_is_gone_on_with(
    memory_cloud: MemoryCloud, manual_clock: ManualClock, tmp_path: Path, redis_port_server: Any
) -> None:
    (tmp_path / "data").mkdir()
    kept = ("--dir", str(tmp_path / "data"), "--appendonly", "yes", "--appendfsync", "always")
    server = redis_port_server(*kept)
    async with connected(server) as client:
        bench = ScaleBench(memory_cloud, manual_clock, tmp_path, client, MemoryTraffic(manual_clock))
        await bench.settled(3)
        before = len(await bench.make().history(100))
    server.kill()
    async with connected(redis_port_server(*kept)) as client:
        bench.redis = client
        results = await bench.run(10)
        assert {(result.decision.action, exit_code(result)) for result in results} == {("hold", 0)}
        assert (len(bench.workers), len(await bench.make().history(100))) == (3, before + 10)


async def test_one_that_comes_back_empty_ends_nobody_and_knows_all_workers_again(
    memory_cloud: MemoryCloud, manual_clock: ManualClock, tmp_path: Path, redis_port_server: Any
) -> None:
    server = redis_port_server()
    async with connected(server) as client:
        bench = ScaleBench(memory_cloud, manual_clock, tmp_path, client, MemoryTraffic(manual_clock))
        await bench.settled(3)
    server.kill()
    async with connected(redis_port_server()) as client:
        bench.redis = client
        bench.traffic.rates, bench.traffic.since = (
            [(manual_clock.now(), 0.0)],
            None,
        )  # the counts are lost too
        results = await bench.run(4)
        assert {(result.decision.action, exit_code(result)) for result in results} == {("hold", 0)}
        assert (await bench.registry.workers()).ids == set(bench.workers)
        assert len(bench.workers) == 3


async def test_while_it_is_away_a_step_changes_nothing(
    memory_cloud: MemoryCloud, manual_clock: ManualClock, tmp_path: Path, redis_port_server: Any
) -> None:
    server = redis_port_server()
    async with connected(server) as client:
        bench = ScaleBench(memory_cloud, manual_clock, tmp_path, client, MemoryTraffic(manual_clock))
        await bench.settled(2)
        server.kill()
        result = await bench.step()
        assert (result.decision.action, exit_code(result), len(bench.workers)) == ("hold", 5, 2)
