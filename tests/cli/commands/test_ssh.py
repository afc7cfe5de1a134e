"""`llmhost ssh`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.memory_provider import MemoryCloud, MemoryProvider
from doubles.shells import ShellProvider

from llmhost.cli.commands.ssh import find_shell
from llmhost.errors import ProviderError, UsageError
from llmhost.fleet.models import SshTarget

TARGET: dict[str, Any] = {"user": "root", "host": "ssh5.vast.ai", "port": 12345}
TESTS = Path(__file__).parents[2]

Llmhost = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The only folder on PATH, with an `ssh` that writes down its arguments and ends with code 7."""
    folder = tmp_path / "programs"
    folder.mkdir()
    program = folder / "ssh"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$0" "$@" > "{folder}/seen"\necho connected\nexit 7\n')
    program.chmod(0o755)
    return folder


@pytest.fixture
def llmhost(programs: Path) -> Llmhost:
    """Runs llmhost in a process of its own; `target` is where the worker's shell is."""

    def run(*args: str, target: dict[str, Any] | None = TARGET) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "doubles.shells", json.dumps(target), *args],
            env={**os.environ, "PATH": str(programs), "PYTHONPATH": str(TESTS)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def seen(programs: Path) -> list[str]:
    return (programs / "seen").read_text().splitlines()[1:]


def test_ssh_takes_the_place_of_llmhost_and_gets_the_command_word_for_word(
    llmhost: Llmhost, programs: Path
) -> None:
    command = ("nvidia-smi", "-L", "--json", "two words")
    ran = llmhost("ssh", "vast-1", "--", *command)
    assert (ran.returncode, ran.stdout) == (7, "connected\n")
    assert seen(programs) == [
        *("-o", "StrictHostKeyChecking=accept-new"),
        *("-o", "HostKeyAlias=llmhost-vast-1"),
        *("-p", "12345", "--", "root@ssh5.vast.ai", *command),
    ]


def test_with_json_the_address_is_printed_and_nothing_runs(llmhost: Llmhost, programs: Path) -> None:
    ran = llmhost("ssh", "vast-1", "--json")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, TARGET)
    assert not (programs / "seen").exists()


@pytest.mark.parametrize(
    ("program", "words"), [(None, "--json"), ("#!/no/such/interpreter\n", "cannot be run")]
)
def test_without_an_ssh_program_that_runs_there_is_an_error(
    llmhost: Llmhost, programs: Path, program: str | None, words: str
) -> None:
    (programs / "ssh").unlink()
    if program is not None:
        (programs / "ssh").write_text(program)
        (programs / "ssh").chmod(0o755)
    ran = llmhost("ssh", "vast-1")
    assert ran.returncode == 1
    assert "ssh" in ran.stderr
    assert words in ran.stderr


WRONG: dict[str, tuple[Any, ...]] = {
    "host": (
        "-oProxyCommand=reboot",
        "host name",
        "host\nname",
        "host;reboot",
        "host$(reboot)",
        "host@other",
        "",
        "host-",
        "x" * 300,
    ),
    "user": ("-lroot", "root;reboot", ""),
    "port": (0, -22, 65536),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in WRONG for value in WRONG[field]])
async def test_an_address_that_could_be_taken_for_something_else_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ProviderError, match="invalid address"):
        await find_shell(ShellProvider(SshTarget(**{**TARGET, field: value})), "vast-1")


@pytest.mark.parametrize("host", ["203.0.113.7", "2001:db8::1", "ssh5.vast.ai", "a"])
async def test_an_address_that_makes_sense_is_taken(host: str) -> None:
    target = SshTarget("root", host, 22)
    assert await find_shell(ShellProvider(target), "vast-1") == target


async def test_an_unknown_worker_and_one_without_a_shell_yet_are_errors() -> None:
    with pytest.raises(UsageError, match="no worker is called vast-2; this fleet has: vast-1"):
        await find_shell(ShellProvider(SshTarget(**TARGET)), "vast-2")
    with pytest.raises(ProviderError, match="vast-1 has no shell yet"):
        await find_shell(ShellProvider(None), "vast-1")


async def test_a_provider_without_shells_says_so(memory_cloud: MemoryCloud) -> None:
    provider = MemoryProvider(memory_cloud)
    memory_cloud.machines["memory-1"] = (await ShellProvider(None).list())[0]
    with pytest.raises(UsageError, match="no shell on vast-1: workers of provider memory are not rented"):
        await find_shell(provider, "vast-1")
