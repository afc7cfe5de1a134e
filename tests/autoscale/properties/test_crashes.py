"""An autoscaler that dies, at every line where it touches the world: the next step puts everything right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.memory_provider import MemoryCloud, RentingProvider
from doubles.memory_traffic import MemoryTraffic
from doubles.scale_bench import ScaleBench
from redis.asyncio import Redis

from llmhost.config.models import RedisConfig
from llmhost.fleet.models import FleetSpec, Offer, Payer, Worker
from llmhost.fleet.provider import Confirm, agree
from llmhost.ledger.ledger import Ledger
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys

#: touches of the world; a step has fewer
_MOST_TOUCHES = 400


class Killed(BaseException):
    """The process is gone: nothing that it would have cleaned up is cleaned up."""


class Fuse:
    """Burns through at touch number `at`; whatever is touched after that is not reached any more."""

    def __init__(self, at: int) -> None:
        self._left = at

    @property
    def burnt(self) -> bool:
        return self._left <= 0

    def touch(self) -> None:
        self._left -= 1
        if self.burnt:
            raise Killed


class MortalProvider(RentingProvider):
    """Dies before or after what it does."""

    def __init__(self, cloud: MemoryCloud, fuse: Fuse) -> None:
        super().__init__(cloud)
        self._fuse = fuse

    async def list(self) -> Sequence[Worker]:
        self._fuse.touch()
        return await super().list()

    async def create(self, spec: FleetSpec, offer: Offer | None = None, confirm: Confirm = agree) -> Worker:
        self._fuse.touch()
        worker = await super().create(spec, offer)
        self._fuse.touch()
        return worker

    async def destroy(self, worker_id: str, payer: Payer | None = None) -> None:
        self._fuse.touch()
        await super().destroy(worker_id, payer)
        self._fuse.touch()


@pytest.fixture
def mortal_redis(redis_server: Any) -> Callable[[Fuse], Redis]:
    """Clients whose process dies before it sends a command, or before it hears what came of it."""

    def make(fuse: Fuse) -> Redis:
        client = connect(RedisConfig(), socket=redis_server.socket)
        send = client.execute_command

        async def execute_command(*args: Any, **options: Any) -> Any:
            fuse.touch()
            answer = await send(*args, **options)
            fuse.touch()
            return answer

        client.execute_command = execute_command  # type: ignore[method-assign]
        return client

    return make


async def grow(bench: ScaleBench) -> tuple[int, int]:
    """How many there must be in the end, and how many are bought for that."""
    await bench.settled(1)
    bench.offer(10)
    bench.traffic.ask(240.0)
    await bench.clock.sleep(120)
    return 3, 2


async def shrink(bench: ScaleBench) -> tuple[int, int]:
    await bench.settled(3)
    bench.traffic.ask(10.0)
    await bench.clock.sleep(600)
    return 1, 0


async def repair(bench: ScaleBench) -> tuple[int, int]:
    await bench.settled(2)
    bench.offer(10)
    bench.cloud.fail("memory-1", "exited")
    return 2, 1


async def die_at(touch: int, bench: ScaleBench, mortal_redis: Callable[[Fuse], Redis]) -> bool:
    """Whether the step came to its end before it could die."""
    fuse = Fuse(touch)
    alive, bench.redis = bench.redis, mortal_redis(fuse)
    try:
        await bench.make(provider=MortalProvider(bench.cloud, fuse)).step()
    except Killed:
        pass
    finally:
        await bench.redis.aclose()
        bench.redis = alive
    await bench.redis.hset(FleetKeys(bench.spec.name).scale, "lock:until", 0)  # a minute later
    return not fuse.burnt


@pytest.mark.slow
@pytest.mark.parametrize("scene", [grow, shrink, repair])
async def test_whatever_line_a_step_dies_at_the_next_ones_put_everything_right(
    scene: Callable[[ScaleBench], Any],
    memory_cloud: MemoryCloud,
    manual_clock: ManualClock,
    tmp_path: Path,
    redis_client: Any,
    mortal_redis: Callable[[Fuse], Redis],
) -> None:
    for touch in range(1, _MOST_TOUCHES):
        await redis_client.flushall()
        cloud = MemoryCloud(manual_clock)
        bench = ScaleBench(cloud, manual_clock, tmp_path, redis_client, MemoryTraffic(manual_clock))
        wanted, needed = await scene(bench)
        bought = bench.cloud.created
        finished = await die_at(touch, bench, mortal_redis)
        await bench.run(3)
        rentals = await Ledger(redis_client, bench.spec.name).rentals()
        assert len(bench.workers) == wanted, touch
        assert bench.cloud.created - bought == needed, touch
        assert (await bench.registry.workers()).ids == set(bench.workers), touch
        assert {r.worker for r in rentals if r.ended is None} == set(bench.workers), touch
        assert bench.traffic.draining & set(bench.workers) == set(), touch
        if finished:
            return
    raise AssertionError("a step has no end")
