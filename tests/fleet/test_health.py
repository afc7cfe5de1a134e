from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.fleet_values import make_spec
from doubles.memory_provider import MemoryCloud, MemoryProvider
from doubles.waiting import until

from llmhost.engines.engine import Progress
from llmhost.errors import EngineRefused, EngineUnavailable, ProviderError, RefusingWorker, UntrustedWorker
from llmhost.fleet.health import Hooks, WorkerProgress, wait_ready
from llmhost.fleet.models import Worker, WorkerState


async def nothing_to_prepare(worker: Worker, on_progress: Callable[[Progress], None]) -> None:
    pass


async def answers(worker: Worker) -> None:
    pass


async def never_answers(worker: Worker) -> None:
    raise EngineUnavailable("connection refused")


async def hangs(worker: Worker) -> None:
    await asyncio.Event().wait()


class Waiting:
    """`wait_ready` on a memory cloud, with what it told."""

    def __init__(self, cloud: MemoryCloud, clock: ManualClock) -> None:
        self.cloud = cloud
        self.clock = clock
        self.provider = MemoryProvider(cloud)
        self.told: list[WorkerProgress] = []
        self.workers: list[Worker] = []

    async def start(self, count: int = 1) -> None:
        self.workers = [await self.provider.create(make_spec()) for _ in range(count)]

    async def run(self, probe: Any = answers, prepare: Any = nothing_to_prepare, **more: Any) -> list[Worker]:
        settled = await wait_ready(
            self.workers,
            provider=self.provider,
            hooks=Hooks(prepare=prepare, probe=probe),
            clock=self.clock,
            on_progress=self.told.append,
            **{"ready_timeout": 60.0, **more},
        )
        return list(settled)

    def stages(self, worker: str = "memory-1") -> list[str]:
        return [progress.stage for progress in self.told if progress.worker == worker]


@pytest.fixture
def waiting(memory_cloud: MemoryCloud, manual_clock: ManualClock) -> Waiting:
    return Waiting(memory_cloud, manual_clock)


async def test_running_is_not_ready_until_it_answers(waiting: Waiting) -> None:
    await waiting.start()
    tries = 0

    async def third_time(worker: Worker) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise EngineUnavailable("still loading")

    (worker,) = await waiting.run(third_time)
    assert (worker.state, tries) == (WorkerState.READY, 3)


async def test_all_workers_are_waited_for_at_once(waiting: Waiting) -> None:
    waiting.cloud.boot_seconds = 30
    await waiting.start(4)
    workers = await waiting.run()
    assert [worker.state for worker in workers] == [WorkerState.READY] * 4
    assert waiting.clock.monotonic() < 35


async def test_no_workers_take_no_time(waiting: Waiting) -> None:
    waiting.cloud.list_error = ProviderError("must not be asked")
    assert await waiting.run() == []


async def test_the_model_is_there_before_the_first_question(waiting: Waiting) -> None:
    await waiting.start()
    order: list[str] = []

    async def pull(worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        on_progress(Progress("pulling", 0.5))
        order.append("pulled")

    async def ask(worker: Worker) -> None:
        order.append("asked")

    await waiting.run(ask, pull)
    assert order == ["pulled", "asked"]
    assert waiting.stages() == ["pulling", "loading", "ready"]


async def test_the_model_is_made_present_once_although_the_question_is_repeated(waiting: Waiting) -> None:
    await waiting.start()
    pulls = 0

    async def pull(worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        nonlocal pulls
        pulls += 1

    await waiting.run(never_answers, pull, ready_timeout=3.0)
    assert pulls == 1


async def test_a_pull_that_breaks_is_taken_up_again(waiting: Waiting) -> None:
    await waiting.start()
    pulls = 0

    async def pull(worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        nonlocal pulls
        pulls += 1
        if pulls < 3:
            raise EngineUnavailable("reset by peer")

    (worker,) = await waiting.run(prepare=pull)
    assert (worker.state, pulls) == (WorkerState.READY, 3)


async def test_a_provider_that_gives_up_ends_the_wait_with_its_reason(waiting: Waiting) -> None:
    await waiting.start()
    waiting.cloud.fail("memory-1", "the disk is full")
    (worker,) = await waiting.run()
    assert (worker.state, worker.detail) == (WorkerState.FAILED, "the disk is full")
    assert waiting.stages()[-1] == "failed"


async def test_an_engine_that_refuses_will_never_be_ready(waiting: Waiting) -> None:
    await waiting.start()

    async def refuse(worker: Worker) -> None:
        raise EngineRefused("no model is called x", hint="check engine.model")

    (worker,) = await waiting.run(refuse)
    assert worker.state is WorkerState.FAILED
    assert worker.detail == "no model is called x; check engine.model"


async def test_a_worker_that_refuses_every_request_is_asked_once(waiting: Waiting) -> None:
    await waiting.start()
    asked: list[str] = []

    async def refuse(worker: Worker) -> None:
        asked.append(worker.id)
        raise RefusingWorker("w does not accept the token", hint="check its `token`")

    (worker,) = await waiting.run(refuse)
    assert (worker.state, len(asked)) == (WorkerState.FAILED, 1)
    assert worker.detail == "w does not accept the token; check its `token`"


async def test_a_worker_that_does_not_answer_yet_is_asked_about_once_a_second(waiting: Waiting) -> None:
    await waiting.start()
    asked: list[float] = []

    async def not_yet(worker: Worker) -> None:
        asked.append(waiting.clock.monotonic())
        raise EngineUnavailable("no free slot")

    await waiting.run(not_yet, ready_timeout=30.0)
    assert 20 <= len(asked) <= 32


@pytest.mark.parametrize("at", ["prepare", "probe"])
async def test_somebody_else_at_the_workers_address_is_final_at_once(waiting: Waiting, at: str) -> None:
    await waiting.start()

    async def refuse(worker: Worker, _on_progress: object = None) -> None:
        raise UntrustedWorker("w shows another certificate", hint="`llmhost up` replaces it")

    (worker,) = await waiting.run(**{at: refuse})
    assert worker.state is WorkerState.FAILED
    assert worker.detail == "w shows another certificate; `llmhost up` replaces it"
    assert waiting.clock.monotonic() < 1


async def test_a_worker_that_never_answers_fails_when_nothing_has_moved_for_long(waiting: Waiting) -> None:
    await waiting.start()
    (worker,) = await waiting.run(never_answers, ready_timeout=60.0)
    assert worker.state is WorkerState.FAILED
    assert worker.detail == "nothing moved for 60 s while loading: connection refused"
    assert 60 < waiting.clock.monotonic() < 62


async def test_a_worker_that_hangs_fails_too(waiting: Waiting) -> None:
    await waiting.start()
    (worker,) = await waiting.run(hangs)
    assert worker.state is WorkerState.FAILED


async def test_a_slow_download_that_moves_may_take_as_long_as_it_takes(waiting: Waiting) -> None:
    await waiting.start()

    async def pull(worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        for percent in range(100):
            due = percent * 50
            await until(lambda due=due: waiting.clock.monotonic() >= due, pause=0)  # type: ignore[misc]
            on_progress(Progress("pulling", percent / 100))

    (worker,) = await waiting.run(prepare=pull, ready_timeout=60.0)
    assert worker.state is WorkerState.READY
    assert waiting.clock.monotonic() > 4900


async def test_a_machine_that_tells_of_its_way_may_take_as_long_as_it_takes(waiting: Waiting) -> None:
    waiting.cloud.boot_seconds = 300
    await waiting.start()
    worker_id = waiting.workers[0].id

    class Telling(MemoryProvider):
        async def list(self) -> list[Worker]:
            waiting.cloud.say(worker_id, f"layer {int(waiting.clock.monotonic() / 50)}")
            return list(await super().list())

    waiting.provider = Telling(waiting.cloud)
    (worker,) = await waiting.run(ready_timeout=60.0)
    assert worker.state is WorkerState.READY


async def test_starting_the_same_download_again_and_again_is_not_moving(waiting: Waiting) -> None:
    await waiting.start()

    async def pull(worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        on_progress(Progress("asking"))
        on_progress(Progress("pulling", 0.0))
        raise EngineUnavailable("reset by peer")

    (worker,) = await waiting.run(prepare=pull, ready_timeout=60.0)
    assert worker.state is WorkerState.FAILED
    assert waiting.clock.monotonic() < 65


async def test_when_the_time_is_over_the_rest_is_still_starting(waiting: Waiting) -> None:
    await waiting.start(2)

    async def first_only(worker: Worker) -> None:
        if worker.id != "memory-1":
            raise EngineUnavailable("still loading")

    first, second = await waiting.run(first_only, timeout=10.0)
    assert first.state is WorkerState.READY
    assert second.state is WorkerState.STARTING
    assert second.detail == "not ready after 10 s: still loading"
    assert waiting.clock.monotonic() < 11


async def test_a_worker_that_somebody_takes_down_is_gone(waiting: Waiting) -> None:
    await waiting.start(2)
    waiting.cloud.vanish("memory-2")
    first, second = await waiting.run()
    assert (first.state, second.state) == (WorkerState.READY, WorkerState.GONE)


async def test_a_list_that_cannot_be_read_is_an_error_and_leaves_no_talk_behind(waiting: Waiting) -> None:
    await waiting.start()
    ended = asyncio.Event()

    async def talk(worker: Worker) -> None:
        waiting.cloud.list_error = ProviderError("the list cannot be read")
        try:
            await hangs(worker)
        finally:
            ended.set()

    with pytest.raises(ProviderError):
        await waiting.run(talk)
    assert ended.is_set()


async def test_an_interrupted_wait_leaves_no_talk_behind(waiting: Waiting) -> None:
    await waiting.start()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def talk(worker: Worker) -> None:
        begun.set()
        try:
            await hangs(worker)
        finally:
            ended.set()

    task = asyncio.create_task(waiting.run(talk, ready_timeout=1e9))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_each_step_is_told_once(waiting: Waiting) -> None:
    waiting.cloud.boot_seconds = 10
    await waiting.start()
    await waiting.run(never_answers, ready_timeout=20.0)
    assert waiting.stages() == ["starting", "loading", "failed"]


async def test_our_own_mistakes_are_not_taken_for_a_worker_s(waiting: Waiting) -> None:
    await waiting.start()

    async def mistaken(worker: Worker) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await waiting.run(mistaken)
