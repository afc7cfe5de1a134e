"""Whole fleets of real workers that serve the packaged model."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest
from doubles.engine_limits import LIMITS
from doubles.fleet_values import make_spec
from doubles.waiting import until

from llmhost.engines.engine import ChatRequest, Endpoint, Message, Sampling
from llmhost.engines.model_file import ModelFile, verify_model
from llmhost.engines.openai import OpenAIEngine
from llmhost.errors import ModelError, ProviderError, StateError
from llmhost.fleet.clock import SystemClock
from llmhost.fleet.health import Hooks
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.providers.local import LocalProvider, LocalSettings
from llmhost.fleet.service import FleetService

pytestmark = pytest.mark.slow

Make = Callable[..., FleetService]

UP = """
import asyncio, sys
from pathlib import Path
from llmhost.fleet.service import FleetService
from llmhost.fleet.clock import SystemClock
from llmhost.fleet.health import Hooks
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec
from llmhost.fleet.providers.local import LocalProvider, LocalSettings

async def main(folder, model):
    provider = LocalProvider(folder, LocalSettings(context=512, parallel=1), lambda: model)
    spec = FleetSpec("test", "local", 2, 8, "llama_cpp", "tiny")
    service = FleetService(
        provider, spec, hooks=Hooks(None, None), lock=FleetLock(folder / "lock"), clock=SystemClock(),
        ready_timeout=60,
    )
    await service.up(wait=False)

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
"""


async def ask_one_token(worker: Worker) -> None:
    engine = OpenAIEngine(Endpoint(worker.url or "", worker.token), LIMITS)
    request = ChatRequest(worker.model, (Message("user", "Hi"),), Sampling(max_tokens=1))
    try:
        async with aclosing(engine.chat(request)) as events:
            async for _ in events:
                pass
    finally:
        await engine.aclose()


async def nothing_to_prepare(worker: Worker, on_progress: object) -> None:
    pass


@pytest.fixture
def service(fleet_folder: Path, real_provider: Callable[..., LocalProvider]) -> Make:
    """A fleet's service as a new command has it."""

    def make(provider: LocalProvider | None = None, **settings: int) -> FleetService:
        return FleetService(
            provider or real_provider(**settings),
            make_spec(provider="local"),
            hooks=Hooks(prepare=nothing_to_prepare, probe=ask_one_token),
            lock=FleetLock(fleet_folder / "lock"),
            clock=SystemClock(),
            ready_timeout=60.0,
        )

    return make


def run_at_once(command: list[str], times: int) -> list[int]:
    processes = [subprocess.Popen(command) for _ in range(times)]
    return [process.wait() for process in processes]


def states(workers: Any) -> list[WorkerState]:
    return [worker.state for worker in workers]


async def test_up_status_and_down_of_two_workers(service: Make, worker_processes: Any) -> None:
    up = await service().up(2)
    assert (states(up.workers), up.failed) == ([WorkerState.READY] * 2, ())
    assert len(worker_processes()) == 2

    assert not (await service().up(2)).plan.changes
    assert states((await service().status()).workers) == [WorkerState.READY] * 2

    down = await service().down()
    assert sorted(down.destroyed) == sorted(worker.id for worker in up.workers)
    assert (down.remaining, worker_processes()) == ((), [])
    assert (await service().status()).workers == ()


async def test_a_killed_worker_is_seen_by_status_and_replaced_by_the_next_up(
    service: Make, worker_processes: Any
) -> None:
    before = await service().up(2)
    victim = worker_processes()[0]
    victim.kill()
    victim.wait()
    seen = (await service().status()).workers
    assert sorted(states(seen)) == [WorkerState.FAILED, WorkerState.READY]
    after = await service().up(2)
    assert states(after.workers) == [WorkerState.READY] * 2
    assert len({worker.id for worker in (*before.workers, *after.workers)}) == 3
    assert len(worker_processes()) == 2


async def test_two_commands_at_once_make_two_workers_and_not_four(
    fleet_folder: Path, real_model: Path, worker_processes: Any
) -> None:
    command = [sys.executable, "-c", UP, str(fleet_folder), str(real_model)]
    assert run_at_once(command, 3) == [0, 0, 0]
    assert len(worker_processes()) == 2


async def test_a_worker_outlives_the_command_that_started_it(
    fleet_folder: Path, real_model: Path, service: Make
) -> None:
    command = [sys.executable, "-c", UP, str(fleet_folder), str(real_model)]
    assert run_at_once(command, 1) == [0]
    result = await service().up(2)
    assert (states(result.workers), result.plan.changes) == ([WorkerState.READY] * 2, False)


async def test_an_interrupted_up_leaves_what_the_next_one_takes_on(
    service: Make, worker_processes: Any
) -> None:
    task = asyncio.create_task(service().up(2))
    await until(lambda: len(worker_processes()) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len((await service().status()).workers) == 2
    result = await service().up(2)
    assert (states(result.workers), result.plan.changes) == ([WorkerState.READY] * 2, False)


async def test_a_port_that_is_taken_stops_up_before_anything_runs(
    service: Make, worker_processes: Any
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ProviderError, match="is taken by another program"):
            await service(first_port=other.getsockname()[1]).up(1)
    assert worker_processes() == []


@pytest.fixture
def truncated_model(real_model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "truncated.gguf"
    with real_model.open("rb") as whole:
        path.write_bytes(whole.read(1_000_000))
    return path


async def test_a_truncated_model_stops_up_before_anything_runs(
    service: Make, fleet_folder: Path, truncated_model: Path, worker_processes: Any
) -> None:
    def checked() -> Path:
        verify_model(ModelFile(truncated_model, "tiny", packaged=False))
        return truncated_model

    provider = LocalProvider(fleet_folder, LocalSettings(context=512, parallel=1), checked)
    with pytest.raises(ModelError):
        await service(provider).up(1)
    assert worker_processes() == []


async def test_a_worker_that_finds_its_model_truncated_is_reported_and_cleared_away(
    service: Make, fleet_folder: Path, truncated_model: Path, worker_processes: Any
) -> None:
    provider = LocalProvider(fleet_folder, LocalSettings(context=512, parallel=1), lambda: truncated_model)
    result = await service(provider).up(2)
    assert (result.workers, len(result.failed)) == ((), 2)
    assert all("truncated.gguf" in failure.message for failure in result.failed)
    assert (list(await provider.list()), worker_processes()) == ([], [])


async def test_a_state_folder_that_cannot_be_written_is_told_of(
    tmp_path: Path, real_model: Path, service: Make
) -> None:
    (tmp_path / "file").touch()
    settings = LocalSettings(context=512, parallel=1)
    provider = LocalProvider(tmp_path / "file" / "fleet", settings, lambda: real_model)
    with pytest.raises(StateError):
        await service(provider).up(1)


async def test_a_stopped_worker_is_not_called_ready(
    service: Make, worker_processes: Any, monkeypatch: Any
) -> None:
    await service().up(1)
    (process,) = worker_processes()
    process.suspend()
    await until(lambda: process.status() == psutil.STATUS_STOPPED)
    monkeypatch.setattr("llmhost.fleet.health.PROBE_TIMEOUT", 0.2)
    (worker,) = (await service().status()).workers
    process.resume()
    assert (worker.state, worker.detail) == (
        WorkerState.STARTING,
        "no answer within 0.2 s: busy, or stuck",
    )
