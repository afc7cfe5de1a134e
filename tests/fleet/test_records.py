"""What the fleet's commands leave in Redis, and that they go on without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from doubles.fleet_values import make_worker

from llmhost.config.models import RedisConfig
from llmhost.fleet.models import WorkerState
from llmhost.fleet.providers.static import StaticProvider, StaticServer
from llmhost.fleet.registry import FleetRegistry
from llmhost.store.client import connect


@pytest.fixture
def recorded(bench: Any, redis_client: Any) -> Any:
    bench.registry = FleetRegistry(redis_client, "test", "me")
    return bench


@pytest.fixture
async def away(bench: Any, refusing_port: int) -> AsyncIterator[Any]:
    client = connect(RedisConfig(host="127.0.0.1", port=refusing_port))
    bench.registry = FleetRegistry(client, "test", "me")
    yield bench
    await client.aclose()


async def states(bench: Any) -> dict[str, WorkerState]:
    return {worker.id: worker.state for worker in (await bench.registry.workers()).workers}


async def test_up_puts_ready_workers_on_record(recorded: Any) -> None:
    result = await recorded.make().up(2)
    assert (await recorded.registry.workers()).workers == result.workers


async def test_a_worker_on_its_way_is_on_record_as_starting(recorded: Any) -> None:
    await recorded.make().up(1, wait=False)
    assert await states(recorded) == {"memory-1": WorkerState.STARTING}


async def test_a_server_that_was_there_before_is_starting_too_until_it_has_answered(
    recorded: Any, tmp_path: Path
) -> None:
    provider = StaticProvider(tmp_path / "static", [StaticServer("http://127.0.0.1:9001")])
    (worker,) = (await recorded.make(provider=provider).up(1, wait=False)).workers
    assert await states(recorded) == {worker.id: WorkerState.STARTING}


async def test_a_worker_that_failed_on_its_way_is_off_the_record(recorded: Any) -> None:
    recorded.refusing.add("memory-1")
    await recorded.make().up(2)
    assert await states(recorded) == {"memory-2": WorkerState.READY}


async def test_down_takes_workers_off_the_record(recorded: Any) -> None:
    await recorded.make().up(2)
    await recorded.make().down(["memory-1"])
    assert await states(recorded) == {"memory-2": WorkerState.READY}


@pytest.mark.parametrize("command", ["up", "down", "status"])
async def test_a_worker_that_vanished_is_forgotten_told_of_and_no_longer_paid(
    recorded: Any, command: str
) -> None:
    await recorded.make().up(2)
    recorded.cloud.vanish("memory-1")
    result = await getattr(recorded.make(), command)()
    assert result.warnings == ("worker memory-1 is gone: its provider no longer lists it",)
    assert "memory-1" not in await states(recorded)
    assert "memory-1" not in recorded.rentals.open_ones()


async def test_status_puts_right_what_redis_knows(recorded: Any) -> None:
    await recorded.make().up(2)
    await recorded.registry.forget("memory-1")
    await recorded.registry.save(make_worker("memory-2", state=WorkerState.FAILED))
    await recorded.make().status()
    assert await states(recorded) == {"memory-1": WorkerState.READY, "memory-2": WorkerState.READY}


async def test_status_takes_a_silent_worker_out_of_use_and_back(recorded: Any) -> None:
    await recorded.make().up(1)
    recorded.silent.add("memory-1")
    await recorded.make().status()
    assert await states(recorded) == {"memory-1": WorkerState.STARTING}
    recorded.silent.clear()
    await recorded.make().status()
    assert await states(recorded) == {"memory-1": WorkerState.READY}


async def test_a_worker_that_is_slow_to_answer_stays_in_use(recorded: Any, monkeypatch: Any) -> None:
    await recorded.make().up(1)
    recorded.hanging.add("memory-1")
    monkeypatch.setattr("llmhost.fleet.health._PATIENCE", 0.01)
    await recorded.make().status()
    assert await states(recorded) == {"memory-1": WorkerState.READY}


async def test_a_damaged_record_is_told_of_and_mended(recorded: Any, redis_client: Any) -> None:
    await recorded.make().up(1)
    await redis_client.hset("llmhost:test:worker:memory-1", "state", "happy")
    status = await recorded.make().status()
    assert status.warnings == ("the record of worker memory-1 in Redis was damaged",)
    assert await states(recorded) == {"memory-1": WorkerState.READY}


async def test_without_redis_everything_works_and_says_once_what_is_missing(away: Any) -> None:
    up = await away.make().up(2)
    assert [worker.state for worker in up.workers] == [WorkerState.READY] * 2
    status = await away.make().status()
    assert len(status.workers) == 2
    down = await away.make().down()
    assert (len(down.destroyed), down.remaining) == (2, ())
    for result in (up, status, down):
        (warning,) = result.warnings
        assert warning.startswith("the fleet's records in Redis were not brought up to date: Redis")


async def test_what_happened_without_redis_is_made_good_when_it_is_back(away: Any, redis_client: Any) -> None:
    await away.make(rentals=None).up(2)
    away.registry = FleetRegistry(redis_client, "test", "me")
    await away.make().status()
    assert set(await states(away)) == away.rentals.open_ones() == {"memory-1", "memory-2"}


async def test_an_absence_in_redis_proves_nothing(away: Any) -> None:
    await away.make().up(1)
    await away.make().status()
    assert list(away.cloud.machines) == ["memory-1"]
