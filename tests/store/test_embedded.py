"""The embedded server: started once, private, outliving its starter, keeping its data."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis

from llmhost.config.models import RedisConfig
from llmhost.machine.process import works_in
from llmhost.store.client import connect
from llmhost.store.embedded import EmbeddedRedis

START = """
import asyncio, os, sys
from pathlib import Path
from llmhost.store.embedded import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]), os.environ.get("LLMHOST_TEST_REDIS_SERVER"))
asyncio.run(server.ensure_running())
print(server.pid, *sorted({"redis", "psutil"} & set(sys.modules)))
"""


def start_elsewhere(folder: Path, script: str = START) -> subprocess.Popen[str]:
    """Another command that needs the server; it prints the server's process id and what it imported."""
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)


def client(socket: Path) -> Redis:
    return connect(RedisConfig(timeout=10.0), socket=socket)


async def remember(embedded: EmbeddedRedis, value: str) -> None:
    async with client(await embedded.ensure_running()) as redis:
        await redis.set("k", value, ex=600)


async def recall(embedded: EmbeddedRedis) -> bytes | None:
    async with client(await embedded.ensure_running()) as redis:
        found: bytes | None = await redis.get("k")
        return found


async def test_it_does_not_run_until_it_is_needed(embedded: EmbeddedRedis) -> None:
    assert not await embedded.is_running()
    assert embedded.pid is None


def test_looking_for_it_makes_no_folder(embedded: EmbeddedRedis, redis_folder: Path) -> None:
    asyncio.run(embedded.is_running())
    asyncio.run(embedded.stop())
    assert not redis_folder.exists()


async def test_once_started_it_runs_and_has_a_process(embedded: EmbeddedRedis, redis_folder: Path) -> None:
    await embedded.ensure_running()
    assert await embedded.is_running()
    assert _servers_in(redis_folder) == [embedded.pid]


async def test_its_socket_lies_in_its_folder(embedded: EmbeddedRedis, redis_folder: Path) -> None:
    assert await embedded.ensure_running() == redis_folder / "redis.sock"


async def test_starting_it_again_changes_nothing(embedded: EmbeddedRedis) -> None:
    await embedded.ensure_running()
    first = embedded.pid
    await embedded.ensure_running()
    assert embedded.pid == first


async def test_it_keeps_a_gigabyte_evicts_only_what_expires_and_listens_on_no_port(
    embedded: EmbeddedRedis,
) -> None:
    async with client(await embedded.ensure_running()) as redis:
        expected = {
            "maxmemory": str(1 << 30),
            "maxmemory-policy": "volatile-lru",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-load-truncated": "yes",
            "port": "0",
        }
        assert {name: (await redis.config_get(name))[name] for name in expected} == expected


def test_nobody_else_can_read_it(embedded: EmbeddedRedis, redis_folder: Path) -> None:
    redis_folder.mkdir(parents=True, mode=0o755)
    socket = asyncio.run(embedded.ensure_running())
    assert stat.S_IMODE(redis_folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    data = [path for path in redis_folder.rglob("*") if "append" in path.name]
    assert data
    assert [path for path in data if path.stat().st_mode & 0o077] == []


async def test_it_outlives_its_starter_in_a_session_of_its_own(
    embedded: EmbeddedRedis, redis_folder: Path
) -> None:
    starter = start_elsewhere(redis_folder)
    pid = int(starter.communicate(timeout=30)[0].split()[0])
    assert await embedded.is_running()
    assert embedded.pid == pid
    assert os.getsid(pid) not in {os.getsid(0), starter.pid}


async def test_it_inherits_no_open_file_and_no_secret(
    embedded: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "secret")
    with (tmp_path / "open.txt").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        await embedded.ensure_running()
    process = psutil.Process(embedded.pid)
    assert file.name not in {opened.path for opened in process.open_files()}
    assert "secret" not in process.environ().values()


async def test_stopping_ends_the_process_and_keeps_the_data(
    embedded: EmbeddedRedis, redis_folder: Path
) -> None:
    await remember(embedded, "kept")
    pid = embedded.pid
    assert await embedded.stop()
    assert pid not in _servers_in(redis_folder)
    assert not await embedded.is_running()
    assert await recall(embedded) == b"kept"


async def test_stopping_what_does_not_run_says_so(embedded: EmbeddedRedis) -> None:
    await embedded.ensure_running()
    await embedded.stop()
    assert not await embedded.stop()


async def test_stopping_leaves_no_socket_behind(embedded: EmbeddedRedis) -> None:
    socket = await embedded.ensure_running()
    await embedded.stop()
    assert not socket.exists()


async def test_tasks_that_need_it_at_once_share_one_server(redis_folder: Path) -> None:
    several = [EmbeddedRedis(redis_folder) for _ in range(8)]
    sockets = await asyncio.gather(*(one.ensure_running() for one in several))
    assert set(sockets) == {redis_folder / "redis.sock"}
    assert _servers_in(redis_folder) == [several[0].pid]


@pytest.mark.slow
async def test_commands_that_start_it_at_the_same_moment_share_one_server(redis_folder: Path) -> None:
    starters = [start_elsewhere(redis_folder) for _ in range(4)]
    pids = {int(starter.communicate(timeout=60)[0].split()[0]) for starter in starters}
    assert _servers_in(redis_folder) == list(pids)


async def test_finding_it_running_costs_no_heavy_import(embedded: EmbeddedRedis, redis_folder: Path) -> None:
    await embedded.ensure_running()
    found = start_elsewhere(redis_folder, script=START.replace("server.pid", "'imported:'"))
    assert found.communicate(timeout=30)[0].split() == ["imported:"]


async def test_a_folder_reached_through_a_link_is_the_same_folder(
    embedded: EmbeddedRedis, redis_folder: Path, tmp_path: Path
) -> None:
    await embedded.ensure_running()
    (tmp_path / "link").symlink_to(redis_folder)
    assert EmbeddedRedis(tmp_path / "link").pid == embedded.pid


@pytest.mark.parametrize("name", ["with space", "quote\"and'quote", "umlaut-ä", "back\\slash", "line\nbreak"])
async def test_any_folder_name_will_do(redis_folder: Path, name: str) -> None:
    embedded = EmbeddedRedis(redis_folder / name)
    await remember(embedded, name)
    assert embedded.pid is not None
    await embedded.stop()
    assert await recall(embedded) == name.encode()


def _servers_in(folder: Path) -> list[int]:
    return [process.pid for process in psutil.process_iter() if works_in(folder, process.pid)]
