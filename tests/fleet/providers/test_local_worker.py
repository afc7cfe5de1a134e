"""Which processes are workers of ours, and that no other is ever ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from doubles.fleet_values import make_spec
from doubles.local_folders import change_record, record_of, settled
from hypothesis import given
from hypothesis import strategies as st

from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.providers.local import LocalProvider
from llmhost.fleet.providers.local_worker import threads_per_worker, usable_cores

Make = Callable[..., LocalProvider]
PAUSE = "import signal; signal.pause()"


@contextmanager
def running(argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of llmhost's."""
    with running([sys.executable, "-c", PAUSE]) as process:
        yield process


def files_of(process: psutil.Process) -> set[str]:
    return {str(path.readlink()) for path in Path(f"/proc/{process.pid}/fd").iterdir()}


async def test_a_worker_is_a_process_in_a_session_of_its_own(
    quick_provider: Make, worker_processes: Any
) -> None:
    await quick_provider().create(make_spec())
    (process,) = worker_processes()
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


async def test_nothing_of_ours_is_open_in_a_worker(
    quick_provider: Make, worker_processes: Any, tmp_path: Path
) -> None:
    with (tmp_path / "ours").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        provider = quick_provider()
        await provider.create(make_spec())
        await settled(provider, WorkerState.READY)
        (process,) = worker_processes()
        opened = files_of(process)
    assert str(tmp_path / "ours") not in opened
    assert "/dev/null" in opened


async def test_a_worker_that_is_killed_is_seen(quick_provider: Make, worker_processes: Any) -> None:
    provider = quick_provider()
    await provider.create(make_spec())
    (process,) = worker_processes()
    process.kill()
    worker = await settled(provider, WorkerState.FAILED)
    assert (worker.url, worker.detail) == (None, "its process has ended: it crashed, or was killed")


@pytest.mark.slow
async def test_a_worker_that_will_not_end_is_killed(quick_provider: Make, worker_processes: Any) -> None:
    provider = quick_provider()
    worker = await provider.create(make_spec(model="ignores-sigterm"))
    await settled(provider, WorkerState.READY)
    await provider.destroy(worker.id)
    assert (worker_processes(), list(await provider.list())) == ([], [])


async def dead_worker(provider: LocalProvider, worker_processes: Any) -> Worker:
    """A worker whose process was killed."""
    worker = await provider.create(make_spec())
    (process,) = worker_processes()
    process.kill()
    process.wait()
    return worker


@contextmanager
def zombie(argv: list[str]) -> Iterator[int]:
    """The pid of a process that has ended, and whose parent has not waited for it."""
    with running(argv) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
        yield process.pid


async def test_a_zombie_counts_as_gone(
    quick_provider: Make, fleet_folder: Path, worker_processes: Any
) -> None:
    provider = quick_provider()
    worker = await dead_worker(provider, worker_processes)
    with zombie(record_of(fleet_folder, worker)["argv"]) as pid:
        change_record(fleet_folder, worker, pid=pid)
        (listed,) = await provider.list()
    assert listed.state is WorkerState.FAILED


async def test_another_process_with_the_worker_s_pid_is_neither_taken_for_it_nor_killed(
    quick_provider: Make,
    fleet_folder: Path,
    bystander: subprocess.Popen[bytes],
    worker_processes: Any,
) -> None:
    provider = quick_provider()
    worker = await dead_worker(provider, worker_processes)
    change_record(fleet_folder, worker, pid=bystander.pid)
    (listed,) = await provider.list()
    assert listed.state is WorkerState.FAILED
    await provider.destroy(worker.id)
    assert bystander.poll() is None
    assert list(await provider.list()) == []


async def test_a_process_with_nearly_the_same_arguments_is_not_ours(
    quick_provider: Make, fleet_folder: Path, worker_processes: Any
) -> None:
    provider = quick_provider()
    worker = await provider.create(make_spec())
    argv = record_of(fleet_folder, worker)["argv"]
    with running([sys.executable, "-c", PAUSE, *argv[1:]]) as lookalike:
        change_record(fleet_folder, worker, pid=lookalike.pid)
        await provider.destroy(worker.id)
        assert worker_processes() == [psutil.Process(lookalike.pid)]


async def test_a_process_whose_pid_was_never_written_down_is_found_and_ended(
    quick_provider: Make, fleet_folder: Path, worker_processes: Any
) -> None:
    provider = quick_provider()
    worker = await provider.create(make_spec())
    change_record(fleet_folder, worker, pid=None)
    await settled(provider, WorkerState.READY)
    await provider.destroy(worker.id)
    assert worker_processes() == []


async def test_a_worker_that_was_never_started_has_failed_and_can_be_destroyed(
    quick_provider: Make, fleet_folder: Path, worker_processes: Any
) -> None:
    provider = quick_provider()
    worker = await dead_worker(provider, worker_processes)
    change_record(fleet_folder, worker, pid=None)
    (listed,) = await provider.list()
    assert listed.detail == "it was never started: llmhost was ended before that"
    await provider.destroy(worker.id)
    assert list(await provider.list()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"argv": 5}', '{"argv": ["x"], "pid": "12"}'])
async def test_a_damaged_record_does_not_hide_a_running_worker(
    quick_provider: Make, fleet_folder: Path, worker_processes: Any, content: str
) -> None:
    provider = quick_provider()
    worker = await provider.create(make_spec())
    (fleet_folder / "workers" / worker.id / "record.json").write_text(content)
    (listed,) = await provider.list()
    assert (listed.id, listed.model) == (worker.id, "")
    await provider.destroy(worker.id)
    assert (worker_processes(), list(await provider.list())) == ([], [])


# Cores


@given(st.integers(1, 512), st.integers(1, 512))
def test_workers_never_get_more_threads_than_cores_nor_none(cores: int, workers: int) -> None:
    threads = threads_per_worker(cores, workers)
    assert threads >= 1
    assert threads == 1 or threads * workers <= cores


def test_a_container_s_quota_counts(tmp_path: Path) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text("100000 100000\n")
    assert usable_cores(limit) == 1
    limit.write_text("50000 100000\n")
    assert usable_cores(limit) == 1


@pytest.mark.parametrize("content", ["max 100000\n", "", "1 0", "nonsense", "999999999 1"])
def test_without_a_quota_the_cores_of_this_process_count(tmp_path: Path, content: str) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(content)
    assert usable_cores(limit) == usable_cores(tmp_path / "none") == len(os.sched_getaffinity(0))
