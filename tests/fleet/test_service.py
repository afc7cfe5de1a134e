"""The fleet's commands on a cloud in memory: up, down, status."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.fleet_values import ORIGIN, make_spec
from doubles.memory_provider import MemoryProvider
from doubles.waiting import until

from llmhost.engines.redis_traffic import RedisTraffic
from llmhost.errors import LimitError, ModelError, ProviderError, UsageError
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import WorkerState
from llmhost.fleet.provider import agree
from llmhost.fleet.registry import FleetRegistry

READY, STARTING, FAILED = WorkerState.READY, WorkerState.STARTING, WorkerState.FAILED


def ids(workers: Any) -> list[str]:
    return [worker.id for worker in workers]


async def test_up_makes_as_many_ready_workers_as_wanted(bench: Any) -> None:
    result = await bench.make().up(3)
    assert [worker.state for worker in result.workers] == [READY] * 3
    assert (result.plan.create, result.failed, result.warnings) == (3, (), ())
    assert sorted(bench.prepared) == sorted(ids(result.workers))


async def test_without_a_number_it_makes_what_the_configuration_wants(bench: Any) -> None:
    assert len((await bench.make(make_spec(gpus=2)).up()).workers) == 2


async def test_asking_twice_at_once_makes_n_and_not_two_n(bench: Any) -> None:
    results = await asyncio.gather(*(bench.make().up(3) for _ in range(4)))
    assert bench.cloud.created == 3
    assert {tuple(sorted(ids(result.workers))) for result in results} == {
        ("memory-1", "memory-2", "memory-3")
    }


async def test_fewer_than_before_takes_the_others_down(bench: Any) -> None:
    await bench.make().up(3)
    result = await bench.make().up(1)
    assert len(result.workers) == len(bench.cloud.machines) == 1
    assert len(result.plan.destroy) == 2
    assert bench.rentals.open_ones() == set(ids(result.workers))


async def test_a_worker_that_died_is_replaced(bench: Any) -> None:
    await bench.make().up(2)
    bench.cloud.fail("memory-1", "killed")
    result = await bench.make().up(2)
    assert ids(result.plan.destroy) == ["memory-1"]
    assert sorted(ids(result.workers)) == ["memory-2", "memory-3"]
    assert sorted(bench.cloud.machines) == ["memory-2", "memory-3"]


async def test_a_changed_model_replaces_every_worker(bench: Any) -> None:
    await bench.make(make_spec(model="old")).up(2)
    result = await bench.make(make_spec(model="new")).up(2)
    assert {worker.model for worker in bench.cloud.machines.values()} == {"new"}
    assert len(result.plan.destroy) == 2


async def test_there_are_never_more_than_wanted_on_the_way(bench: Any) -> None:
    await bench.make(make_spec(model="old")).up(2)
    await bench.make(make_spec(model="new")).up(2)
    assert bench.cloud.most_at_once == 2


async def test_more_than_the_limit_is_refused_and_nothing_is_made(bench: Any) -> None:
    with pytest.raises(LimitError):
        await bench.make().up(9)
    assert bench.cloud.created == 0


async def test_a_list_that_cannot_be_read_makes_nothing(bench: Any) -> None:
    bench.cloud.list_error = ProviderError("the list cannot be read")
    with pytest.raises(ProviderError):
        await bench.make().up(1)
    assert bench.cloud.created == 0


async def test_without_waiting_it_comes_back_with_workers_on_their_way(bench: Any) -> None:
    bench.cloud.boot_seconds = 1000
    result = await bench.make().up(2, wait=False)
    assert [worker.state for worker in result.workers] == [STARTING] * 2
    assert (result.failed, bench.prepared) == ((), [])


async def test_a_worker_that_fails_on_its_way_is_destroyed_and_reported(bench: Any) -> None:
    bench.refusing.add("memory-2")
    result = await bench.make().up(2)
    assert ids(result.workers) == ["memory-1"]
    (failure,) = result.failed
    assert failure.worker == "memory-2"
    assert failure.message == "no model is called tiny; check engine.model"
    assert failure.hint == "its log: memory"
    assert sorted(bench.cloud.machines) == ["memory-1"]
    assert bench.rentals.open_ones() == {"memory-1"}


async def test_a_worker_that_never_answers_is_destroyed_and_the_next_up_makes_another(bench: Any) -> None:
    bench.silent.add("memory-1")
    first = await bench.make().up(1)
    assert (first.workers, bench.cloud.machines) == ((), {})
    second = await bench.make().up(1)
    assert ids(second.workers) == ["memory-2"]


async def test_when_the_time_is_over_the_late_ones_stay_and_are_reported(bench: Any) -> None:
    bench.silent.add("memory-2")
    result = await bench.make().up(2, timeout=10)
    assert [worker.state for worker in result.workers] == [READY, STARTING]
    assert [failure.worker for failure in result.failed] == ["memory-2"]
    assert sorted(bench.cloud.machines) == ["memory-1", "memory-2"]


async def test_the_next_up_waits_on_for_the_late_ones(bench: Any) -> None:
    bench.silent.add("memory-1")
    await bench.make().up(1, timeout=10)
    bench.silent.clear()
    result = await bench.make().up(1)
    assert (ids(result.workers), bench.cloud.created) == (["memory-1"], 1)


async def test_when_nothing_can_be_made_the_reason_is_the_error(bench: Any) -> None:
    bench.cloud.create_errors = [ModelError("the model file is truncated")]
    with pytest.raises(ModelError, match="truncated"):
        await bench.make().up(2)


async def test_when_only_some_can_be_made_those_are_used_and_the_rest_is_reported(bench: Any) -> None:
    bench.cloud.capacity = 2
    result = await bench.make().up(4)
    assert [worker.state for worker in result.workers] == [READY] * 2
    (failure,) = result.failed
    assert (failure.worker, failure.message) == (None, "all 2 machines are taken")


async def test_a_worker_that_cannot_be_destroyed_is_not_replaced(bench: Any) -> None:
    await bench.make().up(2)
    bench.cloud.fail("memory-1", "stuck")
    bench.cloud.undying.add("memory-1")
    result = await bench.make().up(2)
    assert bench.cloud.created == 2
    (failure,) = result.failed
    assert failure.worker == "memory-1"
    assert bench.rentals.open_ones() == {"memory-1", "memory-2"}


async def test_what_is_being_paid_for_is_on_record_before_it_is_ready(bench: Any) -> None:
    bench.silent.add("memory-1")
    task = asyncio.create_task(bench.make().up(1, timeout=None))
    await until(lambda: bench.prepared, pause=0)
    assert bench.rentals.open_ones() == {"memory-1"}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_after_an_interruption_what_runs_is_listed_and_kept_by_the_next_up(bench: Any) -> None:
    bench.hanging.add("memory-1")
    service = bench.make(ready_timeout=1e9)
    task = asyncio.create_task(service.up(2))
    await until(lambda: len(bench.prepared) == 2, pause=0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.hanging.clear()
    assert ids((await service.status()).workers) == ["memory-1", "memory-2"]
    assert not (await bench.make().up(2)).plan.changes


async def test_an_interruption_between_two_creates_leaves_no_worker_unlisted(bench: Any) -> None:
    class Slow(MemoryProvider):
        async def create(self, spec: Any, offer: Any = None, confirm: Any = agree) -> Any:
            worker = await super().create(spec, offer)
            await asyncio.Event().wait()
            return worker

    task = asyncio.create_task(bench.make(provider=Slow(bench.cloud)).up(2))
    await until(lambda: bench.cloud.created, pause=0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    status = await bench.make().status()
    assert ids(status.workers) == ["memory-1"]
    assert bench.rentals.open_ones() == {"memory-1"}


async def test_the_lock_is_not_held_while_workers_come_up(bench: Any) -> None:
    bench.hanging.add("memory-1")
    task = asyncio.create_task(bench.make(ready_timeout=1e9).up(1))
    await until(lambda: bench.prepared, pause=0)
    assert (await bench.make().down()).destroyed == ("memory-1",)
    result = await task
    assert (result.workers, result.failed[0].worker) == ((), "memory-1")
    assert bench.lock_waits == 0


async def test_progress_is_told_for_every_worker(bench: Any) -> None:
    told: list[tuple[str, str]] = []
    await bench.make().up(2, on_progress=lambda step: told.append((step.worker, step.stage)))
    assert ("memory-1", "ready") in told
    assert ("memory-2", "ready") in told


async def test_a_plan_is_only_a_plan(bench: Any) -> None:
    quote = await bench.make().plan(3)
    assert (quote.plan.create, len(quote.purchases), bench.cloud.created) == (3, 3, 0)


# Down and status


async def test_a_plan_has_what_takes_the_place_of_a_worker_that_died(bench: Any) -> None:
    """Machines without a name are not all the machine that failed."""
    await bench.make().up(2)
    bench.cloud.fail("memory-1", "killed")
    quote = await bench.make().plan(2)
    assert (quote.plan.create, len(quote.purchases)) == (1, 1)


async def test_down_takes_all_workers_down(bench: Any) -> None:
    await bench.make().up(2)
    result = await bench.make().down()
    assert (sorted(result.destroyed), result.remaining) == (["memory-1", "memory-2"], ())
    assert (bench.cloud.machines, bench.rentals.open_ones()) == ({}, set())


async def test_a_worker_that_was_made_while_all_others_were_destroyed_is_a_failure_of_down(
    bench: Any,
) -> None:
    await bench.make().up(1)

    def make_another(step: Any) -> None:
        if step.stage == "ended":
            bench.cloud.machines["memory-9"] = worker

    worker = replace(bench.cloud.machines["memory-1"], id="memory-9")
    result = await bench.make().down(on_progress=make_another)
    assert (result.destroyed, ids(result.remaining)) == (("memory-1",), ["memory-9"])
    assert [failure.worker for failure in result.failed] == ["memory-9"]


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


async def test_a_list_that_cannot_be_read_is_an_error_of_status(bench: Any) -> None:
    await bench.make().up(1)
    bench.cloud.list_error = ProviderError("the list cannot be read")
    with pytest.raises(ProviderError):
        await bench.make().status()
    assert bench.rentals.open_ones() == {"memory-1"}


async def test_without_a_list_and_with_nothing_on_record_down_is_an_error(bench: Any) -> None:
    await bench.make().up(1)
    bench.cloud.list_error = ProviderError("the list cannot be read")
    with pytest.raises(ProviderError, match="the list cannot be read"):
        await bench.make().down()


async def test_down_goes_on_without_a_lock_that_another_command_holds(bench: Any, tmp_path: Path) -> None:
    await bench.make().up(1)
    lock = FleetLock(tmp_path / "held", patience=0.0)
    async with lock.hold():
        result = await replace(bench.make(), lock=lock).down()
    assert result.destroyed == ("memory-1",)
    assert "without the fleet's lock" in result.warnings[0]


async def test_what_ended_is_paid_until_then(bench: Any) -> None:
    await bench.make().up(1)
    started = bench.cloud.machines["memory-1"].started
    await bench.clock.sleep(3600)
    await bench.make().down()
    (rental,) = bench.rentals.all
    assert (rental.started, rental.ended) == (started, bench.clock.now())


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


@pytest.mark.parametrize(("seconds", "shown"), [(1800, True), (3601, False), (-1, False), (None, False)])
async def test_status_says_when_a_contract_ends_within_the_hour(
    bench: Any, seconds: float | None, shown: bool
) -> None:
    await bench.make().up(1)
    ends = None if seconds is None else bench.clock.now() + seconds
    bench.cloud.machines["memory-1"] = replace(bench.cloud.machines["memory-1"], ends=ends)
    (worker,) = (await bench.make().status()).workers
    assert worker.state is WorkerState.READY
    assert ("its contract ends in 30 min" in worker.detail) == shown


async def test_status_does_not_wait_for_a_worker_that_hangs(bench: Any, monkeypatch: Any) -> None:
    await bench.make().up(1)
    bench.hanging.add("memory-1")
    monkeypatch.setattr("llmhost.fleet.health.PROBE_TIMEOUT", 0.01)
    (worker,) = (await bench.make().status()).workers
    assert worker.state is WorkerState.STARTING
    assert worker.detail == "no answer within 0.01 s: busy, or stuck"


async def test_status_opens_the_rental_of_a_worker_that_was_never_booked(bench: Any) -> None:
    await bench.make(rentals=None).up(1)
    await bench.make().status()
    assert bench.rentals.open_ones() == {"memory-1"}


async def test_a_worker_that_drains_is_shown_as_such(bench: Any, redis_client: Any) -> None:
    bench.registry = FleetRegistry(redis_client, "test", ORIGIN)
    await bench.make().up(2)
    await RedisTraffic(redis_client, "test", 1).drain(["memory-2"])
    shown = await bench.make().status()
    assert [worker.detail.partition(":")[0] for worker in shown.workers] == ["", "draining"]


async def test_up_gives_a_worker_that_drains_questions_again(bench: Any, redis_client: Any) -> None:
    bench.registry = FleetRegistry(redis_client, "test", ORIGIN)
    await bench.make().up(2)
    await RedisTraffic(redis_client, "test", 1).drain(["memory-2"])
    await bench.make().up(2)
    assert await bench.registry.drains.draining() == frozenset()
