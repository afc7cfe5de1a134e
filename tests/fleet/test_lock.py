from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from doubles.waiting import until

from llmhost.errors import StateError
from llmhost.fleet.lock import FleetLock

HOLDER = """
import asyncio, sys
from pathlib import Path
from llmhost.fleet.lock import FleetLock

async def main():
    async with FleetLock(Path(sys.argv[1])).hold():
        print("held", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@contextmanager
def other_holder(path: Path) -> Iterator[None]:
    """Another process holds the lock, and is killed in the end."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.kill()
        holder.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet" / "lock"


async def test_only_one_holds_it_at_a_time(path: Path) -> None:
    inside = 0
    most = 0

    async def work() -> None:
        nonlocal inside, most
        async with FleetLock(path).hold():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(5)))
    assert most == 1


async def test_one_lock_may_be_held_again_by_the_same_object(path: Path) -> None:
    lock = FleetLock(path)
    async with lock.hold():
        pass
    async with lock.hold():
        pass


async def test_it_is_free_after_an_error_inside(path: Path) -> None:
    with pytest.raises(RuntimeError):
        async with FleetLock(path).hold():
            raise RuntimeError
    async with FleetLock(path, patience=0.01).hold():
        pass


async def test_whoever_has_to_wait_is_told_once(path: Path) -> None:
    told: list[str] = []
    first = FleetLock(path).hold()
    await first.__aenter__()
    waiter = asyncio.create_task(_hold(path, lambda: told.append("waiting")))
    await until(lambda: told)
    assert not waiter.done()
    await first.__aexit__(None, None, None)
    await waiter
    assert told == ["waiting"]


async def test_nobody_is_told_where_nobody_waits(path: Path) -> None:
    told: list[str] = []
    await _hold(path, lambda: told.append("waiting"))
    assert told == []


async def test_waiting_has_an_end(path: Path) -> None:
    async with FleetLock(path).hold():
        with pytest.raises(StateError, match="another llmhost has held"):
            await _hold(path, None, patience=0.01)


async def test_waiting_can_be_interrupted_and_leaves_the_lock_alone(path: Path) -> None:
    async with FleetLock(path).hold():
        waiter = asyncio.create_task(_hold(path, None))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        with pytest.raises(StateError):
            await _hold(path, None, patience=0.01)


async def test_it_is_freed_when_its_holder_is_killed(path: Path) -> None:
    with other_holder(path), pytest.raises(StateError):
        await _hold(path, None, patience=0.01)
    await _hold(path, None, patience=5)


async def test_a_folder_that_cannot_be_made_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot make the folder"):
        await _hold(tmp_path / "file" / "lock", None)


async def test_only_its_owner_can_read_it(path: Path) -> None:
    await _hold(path, None)
    assert mode(path) == 0o600


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def _hold(path: Path, on_wait: object, patience: float = 60) -> None:
    async with FleetLock(path, patience=patience, notice=0.01).hold(on_wait):  # type: ignore[arg-type]
        pass
