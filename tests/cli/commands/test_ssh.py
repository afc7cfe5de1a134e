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
from plugins.cli import Ran

from llmhost.cli.commands.ssh import find_shell
from llmhost.errors import ProviderError, UsageError
from llmhost.fleet.models import SshTarget

TARGET = {"user": "root", "host": "ssh5.vast.ai", "port": 12345}
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


def test_ssh_takes_the_place_of_llmhost(llmhost: Llmhost, programs: Path) -> None:
    ran = llmhost("ssh", "vast-1")
    assert (ran.returncode, ran.stdout) == (7, "connected\n")
    assert seen(programs) == [
        *("-o", "StrictHostKeyChecking=accept-new"),
        *("-o", "HostKeyAlias=llmhost-vast-1"),
        *("-p", "12345", "--", "root@ssh5.vast.ai"),
    ]


def test_a_command_is_handed_on_word_for_word(llmhost: Llmhost, programs: Path) -> None:
    llmhost("ssh", "vast-1", "--", "nvidia-smi", "-L", "--json", "two words")
    assert seen(programs)[-5:] == ["root@ssh5.vast.ai", "nvidia-smi", "-L", "--json", "two words"]


def test_with_json_the_address_is_printed_and_nothing_runs(llmhost: Llmhost, programs: Path) -> None:
    ran = llmhost("ssh", "vast-1", "--json")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, TARGET)
    assert not (programs / "seen").exists()


def test_without_an_ssh_program_it_is_said_what_to_do(llmhost: Llmhost, programs: Path) -> None:
    (programs / "ssh").unlink()
    ran = llmhost("ssh", "vast-1")
    assert ran.returncode == 1
    assert "`ssh` is not installed" in ran.stderr
    assert "--json" in ran.stderr


def test_an_ssh_program_that_cannot_be_run_is_named(llmhost: Llmhost, programs: Path) -> None:
    (programs / "ssh").write_text("#!/no/such/interpreter\n")
    ran = llmhost("ssh", "vast-1")
    assert ran.returncode == 1
    assert f"{programs / 'ssh'} cannot be run" in ran.stderr


def test_an_unknown_worker_is_told_with_those_there_are(llmhost: Llmhost, programs: Path) -> None:
    ran = llmhost("ssh", "vast-2")
    assert ran.returncode == 2
    assert "no worker is called vast-2; this fleet has: vast-1" in ran.stderr


def test_a_worker_that_has_no_shell_yet_is_a_matter_of_time(llmhost: Llmhost, programs: Path) -> None:
    ran = llmhost("ssh", "vast-1", target=None)
    assert ran.returncode == 5
    assert "vast-1 has no shell yet" in ran.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "-oProxyCommand=reboot"},
        {"host": "host name"},
        {"host": "host\nname"},
        {"host": "host;reboot"},
        {"host": "host$(reboot)"},
        {"host": "host@other"},
        {"host": ""},
        {"host": "host-"},
        {"host": "x" * 300},
        {"user": "-lroot"},
        {"user": "root;reboot"},
        {"user": ""},
        {"port": 0},
        {"port": -22},
        {"port": 65536},
    ],
)
async def test_an_address_that_could_be_taken_for_something_else_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ProviderError, match="invalid address"):
        await find_shell(ShellProvider(SshTarget(**{**TARGET, **wrong})), "vast-1")


@pytest.mark.parametrize("host", ["203.0.113.7", "2001:db8::1", "ssh5.vast.ai", "a"])
async def test_an_address_that_makes_sense_is_taken(host: str) -> None:
    target = SshTarget("root", host, 22)
    assert await find_shell(ShellProvider(target), "vast-1") == target


async def test_a_provider_without_shells_says_so(memory_cloud: MemoryCloud) -> None:
    provider = MemoryProvider(memory_cloud)
    memory_cloud.machines["memory-1"] = (await ShellProvider(None).list())[0]
    with pytest.raises(UsageError, match="no shell on vast-1: workers of provider memory are not rented"):
        await find_shell(provider, "vast-1")


def test_there_is_no_worker_to_open_a_shell_on(cli: Callable[..., Ran]) -> None:
    ran = cli("ssh", "local-000000", "--json")
    assert ran.code == 2
    assert "this fleet has: none" in ran.json["error"]["message"]
