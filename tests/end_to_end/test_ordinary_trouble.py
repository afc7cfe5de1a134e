"""What may be wrong on any machine is an error that names it, in every command, and never "unexpected"."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doubles.forked_command import ForkedCommand
from plugins.commands import Finished, House, HouseMaker, processes_of

AWAY = SimpleNamespace(url="https://127.0.0.1:9", token=None)


def everything_in(done: Finished) -> str:
    assert "unexpected" not in done.err
    assert "Traceback" not in done.err
    return done.out + done.err


@pytest.mark.parametrize(
    ("command", "code"), [("status", 0), ("down", 0), ("doctor", 1), ("up", 2), ("ask hi", 2), ("scale", 2)]
)
async def test_a_port_of_a_server_that_cannot_be_is_named(
    house: House, static: HouseMaker, command: str, code: int
) -> None:
    static(house, SimpleNamespace(url="https://host:99999", token=None))
    done = await house.run(*command.split())
    said = everything_in(done)
    assert (done.code, "`https://host:99999`: its host or its port is not valid" in said) == (code, True)


@pytest.mark.parametrize("command", ["status", "down", "doctor", "ask hi", "stats", "cache ls"])
async def test_a_port_of_redis_that_cannot_be_is_named(
    house: House, static: HouseMaker, command: str
) -> None:
    static(house, AWAY, redis={"url": "redis://host:99999"})
    assert "`redis.url` is not an address that llmhost can use" in everything_in(
        await house.run(*command.split())
    )


@pytest.mark.parametrize("command", ["up", "doctor"])
async def test_authorities_that_are_not_there_are_named(
    house: House, static: HouseMaker, command: str
) -> None:
    static(house, AWAY)
    done = await house.run(command, SSL_CERT_FILE="/nowhere/ca.pem")
    assert (done.code, "SSL_CERT_FILE: No such file" in everything_in(done)) == (1, True)


@pytest.mark.parametrize("url", ["https://127.0.0.1:99999", "nonsense"])
async def test_an_address_of_vast_ai_that_cannot_be_is_named(house: House, url: str) -> None:
    house.configure(fleet={"name": "x", "provider": "vast"}, engine={"kind": "ollama", "model": "tiny"})
    done = await house.run("status", VAST_API_KEY="k", VAST_URL=url)
    assert (done.code, "VAST_URL" in everything_in(done)) == (5, True)


def lose_the_home() -> None:
    """As in a container whose user the system does not know."""

    def unknown(_: object) -> pwd.struct_passwd:
        raise KeyError

    os.environ.pop("HOME")
    os.environ.pop("XDG_CONFIG_HOME")
    pwd.getpwuid = unknown


HOMELESS: Mapping[str, str] = {
    "status": "",
    "ask hello": "",
    "doctor": "",
    "cache ls": "",
    "scale history": "",
    "scale cron": "this user has no home folder",
    "down": "",
}


@pytest.mark.parametrize(("command", "problem"), HOMELESS.items())
async def test_a_user_without_a_home_works_where_the_folders_are_set(
    static_house: House, command: str, problem: str
) -> None:
    process = ForkedCommand(command.split(), os.environ, first=lose_the_home)
    await process.connect()
    out, err = await process.communicate()
    done = Finished(process.returncode or 0, out.decode(), err.decode())
    assert problem in everything_in(done)
    assert (done.code == 0) is not bool(problem), done.err


async def test_a_home_whose_name_is_no_text_is_as_good_as_any(house: House, tmp_path: Path) -> None:
    home = tmp_path / os.fsdecode(b"caf\xe9")
    home.mkdir()
    places = {"HOME": str(home), "LLMHOST_STATE_DIR": str(home / "state"), "LLMHOST_CONFIG": ""}
    try:
        for command in ("up --no-wait", "status", "fleets", "doctor", "cache ls", "scale", "down --all"):
            done = await house.run(*command.split(), **places)
            assert (done.code, everything_in(done) != "") == (0, True), done.err
    finally:
        for process in processes_of(home / "state"):
            process.kill()
            process.wait()


async def without_room(stream: str, *args: str) -> Finished:
    """The command where what goes to ``stdout`` or ``stderr`` finds no room."""
    streams: dict[str, Any] = {"stdout": PIPE, "stderr": PIPE}
    streams[stream] = full = os.open("/dev/full", os.O_WRONLY)
    command = (sys.executable, "-m", "llmhost", *args)
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, **streams)
    os.close(full)
    out, err = await process.communicate()
    return Finished(process.returncode or 0, (out or b"").decode(), (err or b"").decode())


@pytest.mark.parametrize("command", ["status", "ask hello --json", "cache ls"])
async def test_an_output_that_finds_no_room_is_named(static_house: House, command: str) -> None:
    done = await without_room("stdout", *command.split())
    assert (done.code, "cannot write: No space left on device" in everything_in(done)) == (1, True)


@pytest.mark.parametrize("command", ["status", "ask hello"])
async def test_messages_that_find_no_room_keep_nobody_from_the_result(
    static_house: House, command: str
) -> None:
    done = await without_room("stderr", *command.split())
    assert (done.code, bool(done.out)) == (0, True)
