"""Fleets for tests, and the certainty that none of their processes outlives its test."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from doubles.clock import ManualClock
from doubles.memory_provider import MemoryCloud

from llmhost.engines.model_file import find_model
from llmhost.fleet.providers.local import LocalProvider, LocalSettings

QUICK_WORKER = Path(__file__).parents[1] / "doubles" / "quick_worker.py"

#: seconds; a killed process that is still there after that hangs in the kernel.
_LONGEST_DEATH = 10.0


@pytest.fixture
def manual_clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def memory_cloud(manual_clock: ManualClock) -> MemoryCloud:
    return MemoryCloud(manual_clock)


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """A folder in memory, where the system has that: the pace of vast.ai is written to a file at every call,
    for which a disk takes some milliseconds."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def worker_processes(state_folder: Path) -> Iterator[Callable[[], list[psutil.Process]]]:
    """Lists this test's worker processes; those still alive at its end are killed."""
    yield lambda: _workers_of(state_folder)
    left = _workers_of(state_folder)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=_LONGEST_DEATH)


@pytest.fixture
def fleet_folder(state_folder: Path, worker_processes: object) -> Path:
    """The folder of a fleet named test, not made yet."""
    return state_folder / "fleets" / "test"


@pytest.fixture
def quick_provider(fleet_folder: Path, tmp_path: Path) -> Callable[..., LocalProvider]:
    """Makes local providers whose workers are real processes that serve nothing."""

    def make(**settings: int) -> LocalProvider:
        return LocalProvider(
            fleet_folder,
            LocalSettings(context=512, parallel=1, **settings),
            lambda: tmp_path / "model.gguf",
            command=(sys.executable, str(QUICK_WORKER)),
        )

    return make


@pytest.fixture
def real_provider(fleet_folder: Path, real_model: Path) -> Callable[..., LocalProvider]:
    """Makes local providers as llmhost itself does, with the packaged model."""

    def make(**settings: int) -> LocalProvider:
        return LocalProvider(
            fleet_folder, LocalSettings(context=512, parallel=1, **settings), lambda: real_model
        )

    return make


@pytest.fixture
def real_model() -> Path:
    return find_model(None).path


@pytest.fixture
def free_ports() -> Callable[[int], int]:
    """The first of so many ports in a row on which nothing listens."""

    def find(count: int) -> int:
        for first in range(20_000 + os.getpid() % 5_000, 32_000, count):
            if all(_is_free(port) for port in range(first, first + count)):
                return first
        raise AssertionError("no free ports")

    return find


def _workers_of(folder: Path) -> list[psutil.Process]:
    """Processes that this Python runs on a folder of this test, which no other test has."""
    return [process for process in psutil.process_iter() if _works_in(folder, process)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _works_in(folder: Path, process: psutil.Process) -> bool:
    try:
        argv = process.cmdline()
    except psutil.Error:
        return False
    return len(argv) > 1 and argv[0] == sys.executable and Path(argv[-1]).is_relative_to(folder / "fleets")
