"""The fleet's lock: the file that this machine's processes share, and the lease that all machines do."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from doubles.fleet_values import make_spec
from doubles.waiting import until
from redis.asyncio import Redis

from llmhost.config.models import RedisConfig
from llmhost.errors import FleetBusy, StateError, StoreUnavailable
from llmhost.fleet.lock import FleetLock
from llmhost.store.client import connect
from llmhost.store.lease import Lease

KEY = "llmhost:test:scale"

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


# Several machines


@pytest.fixture
def machine(tmp_path: Path, redis_client: Redis) -> Callable[..., FleetLock]:
    """Gives the lock as a machine of this name has it."""

    def make(name: str, client: Redis = redis_client, **lease: Any) -> FleetLock:
        path = tmp_path / name / "lock"
        return FleetLock(path, Lease(client, KEY, holder=name, **lease), patience=60, notice=0.01)

    return make


async def holder(client: Redis) -> Any:
    return await client.hget(KEY, "lock:holder")


async def steal(client: Redis) -> None:
    """The lease has ended, and somebody else took it."""
    await client.hset(KEY, "lock:until", "1")
    assert await Lease(client, KEY, holder="thief").take() is not None


async def test_only_one_machine_holds_it_at_a_time(
    machine: Callable[..., FleetLock], redis_client: Redis
) -> None:
    inside = 0
    most = 0

    async def work(name: str) -> None:
        nonlocal inside, most
        async with machine(name).hold():
            inside += 1
            most = max(most, inside)
            await holder(redis_client)
            inside -= 1

    await asyncio.gather(*(work(name) for name in "abcab"))
    assert most == 1


async def test_a_machine_that_has_to_wait_is_told_once_and_has_it_then(
    machine: Callable[..., FleetLock], redis_client: Redis
) -> None:
    told: list[str] = []

    async def wait() -> bytes | None:
        async with machine("there").hold(lambda: told.append("waiting")):
            return await holder(redis_client)

    async with machine("here").hold():
        waiter = asyncio.create_task(wait())
        await until(lambda: told)
        assert not waiter.done()
    assert await waiter == b"there"
    assert told == ["waiting"]


@pytest.mark.parametrize(("name", "where"), [("there", "on another machine"), ("here", "on this machine")])
async def test_a_command_that_does_not_wait_says_where_the_lock_is_held(
    machine: Callable[..., FleetLock], name: str, where: str
) -> None:
    async with machine("here").hold():
        with pytest.raises(FleetBusy, match=where):
            async with machine(name).hold(wait=False):
                pass


async def test_whoever_does_not_wait_has_a_free_one_at_once(machine: Callable[..., FleetLock]) -> None:
    lock = machine("here")
    async with lock.hold(wait=False):
        assert lock.fence is not None
    assert lock.fence is None


async def test_waiting_for_another_machine_has_an_end(
    machine: Callable[..., FleetLock], tmp_path: Path, redis_client: Redis
) -> None:
    hasty = FleetLock(tmp_path / "there", Lease(redis_client, KEY), patience=0.01)
    async with machine("here").hold():
        with pytest.raises(FleetBusy, match="too long"):
            async with hasty.hold():
                pass


async def test_the_fence_grows_from_holder_to_holder(machine: Callable[..., FleetLock]) -> None:
    fences = []
    for name in "abab":
        lock = machine(name)
        async with lock.hold():
            fences.append(lock.fence)
    assert fences == sorted({fence for fence in fences if fence})


async def test_it_is_renewed_for_as_long_as_it_is_held(
    machine: Callable[..., FleetLock], redis_client: Redis
) -> None:
    async with machine("here", lifetime=0.3).hold():
        seen: set[Any] = set()

        async def ends() -> int:
            seen.add(await redis_client.hget(KEY, "lock:until"))
            return len(seen)

        await until(lambda: _at_least(ends, 4))
        assert await holder(redis_client) == b"here"


async def test_nobody_renews_it_when_it_was_given_back(
    machine: Callable[..., FleetLock], redis_client: Redis
) -> None:
    before = asyncio.all_tasks()
    async with machine("here", lifetime=0.03).hold():
        pass
    await until(lambda: asyncio.all_tasks() == before)
    assert await redis_client.hkeys(KEY) == [b"lock:fence"]


async def test_it_is_given_back_after_an_error(
    machine: Callable[..., FleetLock], redis_client: Redis
) -> None:
    with pytest.raises(RuntimeError):
        async with machine("here").hold():
            raise RuntimeError
    assert await holder(redis_client) is None


async def test_a_holder_that_is_interrupted_gives_it_back(
    machine: Callable[..., FleetLock], redis_client: Redis
) -> None:
    async def work() -> None:
        async with machine("here").hold():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await until(lambda: holder(redis_client))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await holder(redis_client) is None


async def test_interrupted_while_it_waits_for_another_machine_it_leaves_nothing_held(
    machine: Callable[..., FleetLock], redis_client: Redis
) -> None:
    told: list[str] = []

    async def wait() -> None:
        async with machine("there").hold(lambda: told.append("waiting")):
            pass

    async with machine("here").hold():
        waiter = asyncio.create_task(wait())
        await until(lambda: told)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert await holder(redis_client) == b"here"
    assert await holder(redis_client) is None
    async with machine("there").hold(wait=False):
        pass


async def test_what_a_killed_command_of_this_machine_held_is_not_waited_for(
    machine: Callable[..., FleetLock], redis_client: Redis
) -> None:
    await Lease(redis_client, KEY, holder="here").take()
    async with machine("here").hold(wait=False):
        with pytest.raises(FleetBusy):
            async with machine("there").hold(wait=False):
                pass


async def test_all_commands_of_one_state_folder_are_one_holder(
    redis_client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmhost.wiring.fleets import make_lock

    killed = make_lock(make_spec(), redis_client).hold()
    await killed.__aenter__()
    (tmp_path / "state" / "fleets" / "test.lock").unlink()  # as if the system had freed it
    async with make_lock(make_spec(), redis_client).hold(wait=False):
        monkeypatch.setenv("LLMHOST_STATE_DIR", str(tmp_path / "elsewhere"))
        with pytest.raises(FleetBusy, match="another state folder"):
            async with make_lock(make_spec(), redis_client).hold(wait=False):
                pass
    await killed.__aexit__(None, None, None)


async def test_a_copy_of_the_state_folder_on_another_machine_is_another_holder(
    redis_client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmhost.wiring.fleets import make_lock

    async with make_lock(make_spec(), redis_client).hold(wait=False):
        shutil.copytree(tmp_path / "state", tmp_path / "copy")
        monkeypatch.setenv("LLMHOST_STATE_DIR", str(tmp_path / "copy"))
        monkeypatch.setattr("platform.node", lambda: "another-machine")
        with pytest.raises(FleetBusy):
            async with make_lock(make_spec(), redis_client).hold(wait=False):
                pass


# Whether it is still ours


async def test_what_is_held_is_confirmed(machine: Callable[..., FleetLock]) -> None:
    lock = machine("here")
    async with lock.hold():
        await lock.confirm()


async def test_what_somebody_else_has_taken_is_not_confirmed(
    machine: Callable[..., FleetLock], redis_client: Redis
) -> None:
    lock = machine("here")
    async with lock.hold():
        await steal(redis_client)
        for _ in range(2):
            with pytest.raises(FleetBusy, match="away for so long"):
                await lock.confirm()
    assert await holder(redis_client) == b"thief"


async def test_what_redis_has_forgotten_is_not_confirmed(
    machine: Callable[..., FleetLock], redis_client: Redis
) -> None:
    lock = machine("here")
    async with lock.hold():
        await redis_client.flushall()
        with pytest.raises(FleetBusy):
            await lock.confirm()


async def test_held_anew_it_is_confirmed_again(
    machine: Callable[..., FleetLock], redis_client: Redis
) -> None:
    lock = machine("here")
    async with lock.hold():
        await redis_client.flushall()
    async with lock.hold():
        await lock.confirm()


async def test_without_redis_there_is_nothing_to_confirm(path: Path) -> None:
    lock = FleetLock(path)
    async with lock.hold():
        await lock.confirm()
        assert lock.fence is None


# Redis is away


async def test_whoever_waits_goes_on_without_redis_and_is_not_told_to_wait(
    machine: Callable[..., FleetLock], refusing_port: int
) -> None:
    told: list[str] = []
    async with connect(RedisConfig(host="127.0.0.1", port=refusing_port, timeout=0.5)) as client:
        lock = machine("here", client)
        async with lock.hold(lambda: told.append("waiting")):
            await lock.confirm()
            assert lock.fence is None
            with pytest.raises(FleetBusy, match="on this machine"):
                async with machine("here", client).hold(wait=False):
                    pass
    assert told == []


async def test_whoever_does_not_wait_does_nothing_without_redis(
    machine: Callable[..., FleetLock], refusing_port: int
) -> None:
    async with connect(RedisConfig(host="127.0.0.1", port=refusing_port, timeout=0.5)) as client:
        with pytest.raises(StoreUnavailable):
            async with machine("here", client).hold(wait=False):
                pass
        async with FleetLock(machine("here", client)._path, patience=0.01).hold():
            pass


async def test_no_money_is_spent_once_redis_has_gone_away(
    machine: Callable[..., FleetLock], redis_port_server: Any
) -> None:
    server = redis_port_server()
    async with connect(RedisConfig(host="127.0.0.1", port=server.port, timeout=0.5)) as client:
        lock = machine("here", client)
        async with lock.hold():
            await lock.confirm()
            server.kill()
            with pytest.raises(FleetBusy, match="Redis went away"):
                await lock.confirm()


async def test_a_redis_that_goes_away_does_not_hand_over_what_another_machine_holds(
    tmp_path: Path, redis_port_server: Any
) -> None:
    class Watched(Lease):
        answered = 0.0

        async def take(self) -> int | None:
            found = await super().take()
            self.answered = time.monotonic()
            return found

    server = redis_port_server()
    async with connect(RedisConfig(host="127.0.0.1", port=server.port, timeout=0.5)) as client:
        await Lease(client, KEY, lifetime=120).take()
        lease = Watched(client, KEY, lifetime=0.5)
        lock = FleetLock(tmp_path / "lock", lease)
        task = asyncio.create_task(_pass(lock))
        await until(lambda: lease.answered)
        server.kill()
        await task
        assert time.monotonic() - lease.answered >= 0.5


async def _pass(lock: FleetLock) -> None:
    async with lock.hold():
        assert lock.fence is None


async def _at_least(count: Callable[[], Any], least: int) -> bool:
    return bool(await count() >= least)


class Returning:
    """The lease of a Redis that is away for the first `tries`."""

    lifetime, fence = 60.0, 1

    def __init__(self, tries: int) -> None:
        self.left = tries

    async def take(self) -> int:
        self.left -= 1
        if self.left >= 0:
            raise StoreUnavailable("Redis is starting")
        return 1

    async def give_back(self) -> None: ...


@pytest.mark.parametrize(("buys", "fence"), [(True, 1), (False, None)])
async def test_what_buys_waits_for_a_redis_that_is_started_again(
    path: Path, buys: bool, fence: int | None
) -> None:
    lock = FleetLock(path, cast("Lease", Returning(3)))
    async with lock.hold(buys=buys):
        assert lock.fence == fence
