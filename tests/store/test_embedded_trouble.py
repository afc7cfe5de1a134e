"""The embedded server after crashes, beside strangers, with damaged data, and where it cannot start."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from doubles.waiting import wait_until

from llmhost.config.models import RedisConfig
from llmhost.errors import StateError, StoreUnavailable
from llmhost.machine.process import is_alive
from llmhost.store.client import connect
from llmhost.store.embedded import EmbeddedRedis

#: a program that ends its command line as the server does, and is not the server
IMPOSTOR = "import sys, time; print(flush=True); time.sleep(600)"


@pytest.fixture
def impostor() -> Iterator[Callable[..., psutil.Process]]:
    """Starts a harmless program in a folder, with these last words on its command line."""
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, *words: str) -> psutil.Process:
        command = [sys.executable, "-c", IMPOSTOR, *words]
        started.append(subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE))
        assert started[-1].stdout
        started[-1].stdout.readline()
        return psutil.Process(started[-1].pid)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def words_of(folder: Path) -> list[str]:
    return [str(folder / "redis.conf"), "--pidfile", str(folder / "redis.pid")]


def start(embedded: EmbeddedRedis) -> int:
    asyncio.run(embedded.ensure_running())
    assert embedded.pid is not None
    return embedded.pid


def stop(embedded: EmbeddedRedis) -> bool:
    return asyncio.run(embedded.stop())


def remember(embedded: EmbeddedRedis, *keys: str) -> None:
    async def write() -> None:
        async with connect(RedisConfig(timeout=10.0), socket=await embedded.ensure_running()) as redis:
            for key in keys:
                await redis.set(key, "v")

    asyncio.run(write())


def recall(embedded: EmbeddedRedis) -> set[bytes]:
    async def read() -> set[bytes]:
        async with connect(RedisConfig(timeout=10.0), socket=await embedded.ensure_running()) as redis:
            keys: Any = await redis.keys()
            return set(keys)

    return asyncio.run(read())


def kill(pid: int) -> None:
    process = psutil.Process(pid)
    process.kill()
    wait_until(lambda: not is_alive(process))


def failure(embedded: EmbeddedRedis) -> StateError:
    with pytest.raises(StateError) as caught:
        asyncio.run(embedded.ensure_running())
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def append_only_file(folder: Path) -> Path:
    """Redis 7 keeps it in parts, of which the increments are written to."""
    parts = sorted(folder.glob("appendonlydir/*.incr.aof"))
    return parts[-1] if parts else folder / "appendonly.aof"


def test_a_killed_server_does_not_count_as_running_and_its_data_comes_back(embedded: EmbeddedRedis) -> None:
    remember(embedded, "a")
    kill(start(embedded))
    assert embedded.pid is None
    assert not asyncio.run(embedded.is_running())
    assert not stop(embedded)
    assert recall(embedded) == {b"a"}


def test_the_last_write_cut_in_half_costs_that_write_alone(
    embedded: EmbeddedRedis, redis_folder: Path
) -> None:
    remember(embedded, "a", "b")
    kill(start(embedded))
    file = append_only_file(redis_folder)
    os.truncate(file, file.stat().st_size - 3)
    assert recall(embedded) == {b"a"}


def test_data_damaged_in_the_middle_is_an_error_that_repeats_the_server(
    embedded: EmbeddedRedis, redis_folder: Path
) -> None:
    remember(embedded, "a", "b")
    kill(start(embedded))
    file = append_only_file(redis_folder)
    file.write_bytes(file.read_bytes().replace(b"SET", b"XXX\n\n", 1))
    error = failure(embedded)
    assert "Bad file format reading the append only file" in error.message
    assert str(redis_folder / "redis.log") in str(error.hint)


def test_a_process_id_that_another_program_has_now_is_left_alone(
    embedded: EmbeddedRedis, redis_folder: Path, impostor: Callable[..., psutil.Process]
) -> None:
    remember(embedded, "a")
    kill(start(embedded))
    other = impostor(redis_folder)
    (redis_folder / "redis.pid").write_text(str(other.pid))
    assert embedded.pid is None
    assert not stop(embedded)
    assert recall(embedded) == {b"a"}
    assert stop(embedded)
    assert is_alive(other)


def test_the_same_words_in_another_folder_are_another_program(
    embedded: EmbeddedRedis, redis_folder: Path, tmp_path: Path, impostor: Callable[..., psutil.Process]
) -> None:
    other = impostor(tmp_path, *words_of(redis_folder))
    assert embedded.pid is None
    start(embedded)
    stop(embedded)
    assert is_alive(other)


@pytest.mark.parametrize("noted", ["", "-1", "1", "99999999999999999999", "\xff"])
def test_whatever_the_process_id_file_holds_it_starts_and_stops(
    embedded: EmbeddedRedis, redis_folder: Path, noted: str
) -> None:
    redis_folder.mkdir(parents=True)
    (redis_folder / "redis.pid").write_text(noted, encoding="latin-1")
    assert start(embedded) != os.getpid()
    assert stop(embedded)


def test_a_lost_process_id_file_does_not_lose_the_server(embedded: EmbeddedRedis, redis_folder: Path) -> None:
    pid = start(embedded)
    (redis_folder / "redis.pid").unlink()
    assert embedded.pid == pid
    assert stop(embedded)


@pytest.mark.slow
def test_a_server_whose_socket_was_removed_is_replaced(embedded: EmbeddedRedis, redis_folder: Path) -> None:
    remember(embedded, "a")
    first = psutil.Process(start(embedded))
    (redis_folder / "redis.sock").unlink()
    assert recall(embedded) == {b"a"}
    assert not is_alive(first)


@pytest.mark.slow
def test_a_server_whose_folder_was_removed_does_not_stay(embedded: EmbeddedRedis, redis_folder: Path) -> None:
    first = psutil.Process(start(embedded))
    shutil.rmtree(redis_folder)
    assert start(embedded) != first.pid
    assert not is_alive(first)


def test_a_folder_moved_under_the_server_is_still_its_folder(
    embedded: EmbeddedRedis, redis_folder: Path
) -> None:
    server = psutil.Process(start(embedded))
    moved = EmbeddedRedis(redis_folder.rename(redis_folder.with_name("moved")))
    assert asyncio.run(moved.is_running())
    assert stop(moved)
    assert not is_alive(server)


@pytest.mark.slow
def test_a_server_that_hangs_is_unavailable_and_can_be_stopped(embedded: EmbeddedRedis) -> None:
    remember(embedded, "a")
    server = psutil.Process(start(embedded))
    os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(StoreUnavailable, match="the embedded Redis does not answer"):
        asyncio.run(embedded.ensure_running())
    assert stop(embedded)
    assert not is_alive(server)
    assert recall(embedded) == {b"a"}


def test_waiting_for_another_starter_leaves_the_loop_free(
    embedded: EmbeddedRedis, redis_folder: Path
) -> None:
    redis_folder.mkdir(parents=True)
    with (redis_folder / "redis.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(embedded.ensure_running(), 0.1))
    start(embedded)


def test_a_socket_path_that_is_taken_is_an_error_that_repeats_the_server(
    embedded: EmbeddedRedis, redis_folder: Path
) -> None:
    (redis_folder / "redis.sock").mkdir(parents=True)
    assert "bind" in failure(embedded).message


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file" / "redis") in failure(EmbeddedRedis(tmp_path / "file" / "redis")).message


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo libssl.so.9: cannot open shared object file >&2; exit 127", "libssl.so.9: cannot open"),
        ('exec {real} "$@" --no-such-setting yes', "wrong number of arguments"),
        ("exit 0", "it says nothing"),
        ("kill -9 $$", "it says nothing"),
    ],
)
def test_a_program_that_fails_is_an_error_that_repeats_it(
    redis_folder: Path, program: Callable[[str], str], script: str, words: str
) -> None:
    message = failure(EmbeddedRedis(redis_folder, program(script))).message
    assert message.startswith("the embedded Redis does not start: ")
    assert words in message


def test_a_program_that_the_system_cannot_run_is_named(redis_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "redis-server"
    broken.write_bytes(b"\x7fELF broken")
    broken.chmod(0o755)
    assert failure(EmbeddedRedis(redis_folder, str(broken))).message.endswith(f"{broken}: Exec format error")


def test_what_an_earlier_start_said_is_not_repeated(
    redis_folder: Path, program: Callable[[str], str]
) -> None:
    failure(EmbeddedRedis(redis_folder, program("echo first >&2; exit 1")))
    assert "first" not in failure(EmbeddedRedis(redis_folder, program("exit 1"))).message
