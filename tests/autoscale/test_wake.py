"""A question that finds no worker: one step for all of them, and why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from doubles.memory_provider import RentingProvider
from doubles.scale_bench import ScaleBench
from doubles.waiting import until

from llmhost.autoscale.step import Scaler
from llmhost.autoscale.wake import Waker
from llmhost.errors import NoWorkerError, ProviderError
from llmhost.fleet.budget import Limits
from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.pause import new_token
from llmhost.store.keys import FleetKeys


class Sleeper:
    """A fleet without workers, for which a question waits. `scalers` counts what the waker asked for."""

    def __init__(self, bench: ScaleBench, *, unasked: bool = True) -> None:
        self.bench = bench
        self.steps = 0
        bench.traffic.waiting = 1
        self.waker = Waker(self._scaler, 60, unasked, bench.clock.monotonic)

    async def _scaler(self) -> Scaler:
        self.steps += 1
        return self.bench.make()

    async def states(self) -> list[WorkerState]:
        return [worker.state for worker in (await self.bench.registry.workers()).workers]

    async def ready(self) -> bool:
        return await self.states() == [WorkerState.READY]


@pytest.fixture
def sleeper(bench: ScaleBench) -> Sleeper:
    bench.offer(5)
    return Sleeper(bench)


async def test_many_questions_make_one_step_that_buys_one_worker(sleeper: Sleeper) -> None:
    await asyncio.gather(*(sleeper.waker() for _ in range(20)))
    await sleeper.waker()
    assert (sleeper.steps, sleeper.bench.workers) == (1, ["memory-1"])
    await sleeper.waker.aclose()


async def test_the_worker_is_known_to_all_as_soon_as_it_answers(sleeper: Sleeper) -> None:
    sleeper.bench.cloud.boot_seconds = 90
    await sleeper.waker()
    assert await sleeper.states() == [WorkerState.STARTING]
    await until(sleeper.ready)
    assert 90 <= sleeper.bench.clock.monotonic() < 95
    await sleeper.waker.aclose()


async def test_a_worker_that_boots_already_is_waited_for_without_another_step(
    bench: ScaleBench, sleeper: Sleeper
) -> None:
    bench.cloud.boot_seconds = 90
    other = Sleeper(bench)
    await other.waker()
    await sleeper.waker()
    assert (len(await bench.make().history(9)), bench.workers) == (1, ["memory-1"])
    await until(sleeper.ready)
    await sleeper.waker.aclose()
    await other.waker.aclose()


async def test_a_worker_that_boots_is_waited_for_also_where_no_step_may_be_made(bench: ScaleBench) -> None:
    bench.offer(1)
    bench.traffic.waiting = 1
    bench.cloud.boot_seconds = 90
    await bench.step()
    await bench.redis.delete(FleetKeys(bench.spec.name).scale)  # as if `up` had bought it
    sleeper = Sleeper(bench, unasked=False)
    await sleeper.waker()
    await until(sleeper.ready)
    await sleeper.waker.aclose()


async def test_after_a_worker_that_never_answered_another_step_is_made(sleeper: Sleeper) -> None:
    sleeper.bench.cloud.boot_seconds = 9000
    await sleeper.waker()
    sleeper.bench.cloud.fail("memory-1", "the image cannot be pulled")
    await until(lambda: sleeper.waker._following is None)
    await sleeper.bench.clock.sleep(10)
    await sleeper.waker()
    assert sleeper.bench.workers == ["memory-2"]
    await sleeper.waker.aclose()


async def test_where_one_worker_cannot_be_followed_none_is_followed_behind_the_waker(
    bench: ScaleBench,
) -> None:
    class Flaky(RentingProvider):
        """Its list cannot be read once."""

        faults = 0

        async def list(self) -> Sequence[Worker]:
            self.faults -= 1
            if self.faults == 0:
                raise ProviderError("the list is away")
            return await super().list()

    async def scaler() -> Scaler:
        return bench.make(provider=provider)

    bench.offer(2)
    bench.cloud.boot_seconds = 9000
    provider = Flaky(bench.cloud)
    for offer in [*bench.cloud.market]:
        await provider.create(bench.spec, offer)
    tasks = asyncio.all_tasks()
    waker = Waker(scaler, 60, True, bench.clock.monotonic)
    await waker()
    provider.faults = 1
    await until(lambda: waker._following is None)
    assert asyncio.all_tasks() == tasks


async def test_a_question_that_leaves_does_not_undo_the_purchase(sleeper: Sleeper) -> None:
    asking = asyncio.create_task(sleeper.waker())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    await sleeper.waker.aclose()
    assert sleeper.bench.workers == ["memory-1"]


async def refusal(sleeper: Sleeper) -> str:
    with pytest.raises(NoWorkerError) as caught:
        await sleeper.waker()
    return f"{caught.value.message} ({caught.value.hint})"


async def test_a_paused_fleet_stays_asleep(sleeper: Sleeper) -> None:
    await sleeper.bench.registry.pauses.begin(new_token(), sleeper.bench.clock.now())
    assert "by `llmhost down`; `llmhost up` resumes" in await refusal(sleeper)
    assert sleeper.bench.workers == []


async def test_a_budget_that_allows_none_is_the_reason(sleeper: Sleeper) -> None:
    sleeper.bench.limits = Limits(per_hour=0.1)
    assert "fleet.budget.per_hour" in await refusal(sleeper)
    assert sleeper.bench.workers == []


async def test_a_provider_that_cannot_be_read_is_the_reason(sleeper: Sleeper) -> None:
    sleeper.bench.cloud.list_error = ProviderError("the list is away")
    assert "the list is away" in await refusal(sleeper)


async def test_nothing_for_rent_is_the_reason(sleeper: Sleeper) -> None:
    sleeper.bench.cloud.market.clear()
    assert "no offer is left that fits" in await refusal(sleeper)


async def test_a_fleet_that_was_never_scaled_buys_nothing_until_it_is_allowed_to(bench: ScaleBench) -> None:
    bench.offer(5)
    bench.traffic.waiting = 1
    sleeper = Sleeper(bench, unasked=False)
    assert "`gateway.wake: true`" in await refusal(sleeper)
    assert bench.workers == []
    bench.traffic.waiting = 0
    await bench.step()
    bench.traffic.waiting = 1
    await bench.clock.sleep(10)
    await sleeper.waker()
    assert bench.workers == ["memory-1"]
    await sleeper.waker.aclose()


async def test_a_refusal_holds_for_some_seconds_and_then_it_is_tried_again(sleeper: Sleeper) -> None:
    sleeper.bench.cloud.list_error = ProviderError("the list is away")
    for _ in range(5):
        assert "the list is away" in await refusal(sleeper)
    assert (sleeper.steps, sleeper.waker.willing) == (1, False)
    sleeper.bench.cloud.list_error = None
    await sleeper.bench.clock.sleep(10)
    await sleeper.waker()
    assert (sleeper.steps, sleeper.waker.willing) == (2, True)
    await sleeper.waker.aclose()


async def test_while_another_llmhost_makes_a_step_a_question_waits(sleeper: Sleeper) -> None:
    async with sleeper.bench.make("there").lock.hold():
        await sleeper.waker()
        await sleeper.waker()
    assert (sleeper.steps, sleeper.bench.workers) == (1, [])
    await sleeper.bench.clock.sleep(10)
    await sleeper.waker()
    assert sleeper.bench.workers == ["memory-1"]
    await sleeper.waker.aclose()


async def test_workers_that_fail_are_replaced_if_they_are_gone_and_left_if_they_are_not(
    sleeper: Sleeper,
) -> None:
    await sleeper.waker()
    await until(sleeper.ready)
    await until(lambda: sleeper.waker._following is None)
    for here in (True, False):
        await sleeper.bench.clock.sleep(60)
        if not here:
            sleeper.bench.cloud.vanish("memory-1")
        sleeper.waker.doubt()
        sleeper.waker.doubt()
        await until(lambda: sleeper.waker._looking is None)
        assert sleeper.bench.workers == ["memory-1" if here else "memory-2"]
    assert sleeper.steps == 3
