from __future__ import annotations

from typing import Any

import pytest

from llmhost.engines.redis_traffic import RedisTraffic
from llmhost.errors import ProviderError, UsageError
from llmhost.fleet.models import WorkerState
from llmhost.fleet.registry import FleetRegistry


def ids(workers: Any) -> list[str]:
    return [worker.id for worker in workers]


async def test_down_takes_all_workers_down(bench: Any) -> None:
    await bench.make().up(2)
    result = await bench.make().down()
    assert (sorted(result.destroyed), result.remaining) == (["memory-1", "memory-2"], ())
    assert (bench.cloud.machines, bench.rentals.open_ones()) == ({}, set())


async def test_down_takes_only_those_named_down(bench: Any) -> None:
    await bench.make().up(3)
    result = await bench.make().down(["memory-2", "memory-2"])
    assert result.destroyed == ("memory-2",)
    assert ids(result.remaining) == ["memory-1", "memory-3"]


async def test_down_of_an_unknown_worker_names_the_known_ones_and_destroys_nothing(bench: Any) -> None:
    await bench.make().up(2)
    with pytest.raises(UsageError, match=r"no worker is called nobody; this fleet has: memory-1, memory-2"):
        await bench.make().down(["memory-1", "nobody"])
    assert len(bench.cloud.machines) == 2


async def test_down_of_nothing_is_fine(bench: Any) -> None:
    result = await bench.make().down()
    assert (result.destroyed, result.remaining, result.failed) == ((), (), ())


async def test_a_worker_that_cannot_be_destroyed_remains_and_the_others_do_not(bench: Any) -> None:
    await bench.make().up(3)
    bench.cloud.undying.add("memory-2")
    result = await bench.make().down()
    assert sorted(result.destroyed) == ["memory-1", "memory-3"]
    assert ids(result.remaining) == ["memory-2"]
    assert [failure.worker for failure in result.failed] == ["memory-2"]
    assert bench.rentals.open_ones() == {"memory-2"}


async def test_a_worker_is_only_called_destroyed_when_the_list_no_longer_has_it(bench: Any) -> None:
    await bench.make().up(1)
    machine = bench.cloud.machines["memory-1"]

    class Immortal(dict[str, Any]):
        def pop(self, key: str, default: Any = None) -> Any:
            return machine

    bench.cloud.machines = Immortal(bench.cloud.machines)
    result = await bench.make().down()
    assert (result.destroyed, ids(result.remaining)) == ((), ["memory-1"])
    assert [failure.message for failure in result.failed] == ["its provider still lists it"]


async def test_a_list_that_cannot_be_read_is_an_error_of_down_and_status(bench: Any) -> None:
    await bench.make().up(1)
    bench.cloud.list_error = ProviderError("the list cannot be read")
    with pytest.raises(ProviderError):
        await bench.make().down()
    with pytest.raises(ProviderError):
        await bench.make().status()
    assert bench.rentals.open_ones() == {"memory-1"}


async def test_what_ended_is_paid_until_then(bench: Any) -> None:
    await bench.make().up(1)
    started = bench.cloud.machines["memory-1"].started
    await bench.clock.sleep(3600)
    await bench.make().down()
    (rental,) = bench.rentals.all
    assert (rental.started, rental.ended) == (started, bench.clock.now())


async def test_status_shows_ready_workers(bench: Any) -> None:
    await bench.make().up(2)
    status = await bench.make().status()
    assert [worker.state for worker in status.workers] == [WorkerState.READY] * 2


async def test_status_of_nothing_is_nothing(bench: Any) -> None:
    assert (await bench.make().status()).workers == ()


async def test_status_sees_a_worker_that_died(bench: Any) -> None:
    await bench.make().up(2)
    bench.cloud.fail("memory-1", "its process has ended")
    first, second = (await bench.make().status()).workers
    assert (first.state, first.detail) == (WorkerState.FAILED, "its process has ended")
    assert second.state is WorkerState.READY


async def test_status_sees_a_worker_that_runs_but_does_not_answer(bench: Any) -> None:
    await bench.make().up(1)
    bench.silent.add("memory-1")
    (worker,) = (await bench.make().status()).workers
    assert worker.state is WorkerState.STARTING
    assert worker.detail == "does not answer: connection refused"


async def test_status_does_not_wait_for_a_worker_that_hangs(bench: Any, monkeypatch: Any) -> None:
    await bench.make().up(1)
    bench.hanging.add("memory-1")
    monkeypatch.setattr("llmhost.fleet.health._PATIENCE", 0.01)
    (worker,) = (await bench.make().status()).workers
    assert worker.state is WorkerState.STARTING
    assert worker.detail == "no answer within 0.01 s: busy, or stuck"


async def test_status_opens_the_rental_of_a_worker_that_was_never_booked(bench: Any) -> None:
    await bench.make(rentals=None).up(1)
    await bench.make().status()
    assert bench.rentals.open_ones() == {"memory-1"}


async def test_a_worker_that_drains_is_shown_as_such(bench: Any, redis_client: Any) -> None:
    bench.registry = FleetRegistry(redis_client, "test", "memory")
    await bench.make().up(2)
    await RedisTraffic(redis_client, "test", 1).drain(["memory-2"])
    shown = await bench.make().status()
    assert [worker.detail.partition(":")[0] for worker in shown.workers] == ["", "draining"]


async def test_up_gives_a_worker_that_drains_questions_again(bench: Any, redis_client: Any) -> None:
    bench.registry = FleetRegistry(redis_client, "test", "memory")
    await bench.make().up(2)
    await RedisTraffic(redis_client, "test", 1).drain(["memory-2"])
    await bench.make().up(2)
    assert await bench.registry.draining() == frozenset()
