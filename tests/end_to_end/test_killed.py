"""`kill -9` of `llmhost up` at each of its steps; the next `up` puts it right and pays for nothing twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from doubles.vast.instances import Boot
from doubles.vast.server import VastServer
from plugins_house import House

from llmhost.fleet.clock import SystemClock

FORK_SERVER = Path(__file__).parent.parent / "doubles" / "fork_server.py"

GPUS = 2
UP = ["up", "--gpus", str(GPUS), "--yes", "--no-wait"]

#: seconds of real time; one command takes a fifth of a second
LONGEST = 60.0


@dataclass
class Runner:
    """Runs commands that may die at their n-th step."""

    process: asyncio.subprocess.Process
    log: Path

    async def run(self, args: list[str], die_at: int | None = None) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"args": args, "die_at": die_at}).encode() + b"\n")
        async with asyncio.timeout(LONGEST):
            line = await self.process.stdout.readline()
        done: dict[str, Any] = json.loads(line)
        return done

    async def ok(self, args: list[str]) -> dict[str, Any]:
        done = await self.run(args)
        assert done["code"] == 0, self.log.read_text()
        return done


@pytest.fixture
async def server() -> AsyncIterator[VastServer]:
    """An account on the machine's own clock, without limits of frequency: pacing has tests of its own."""
    async with VastServer(SystemClock(), boot=Boot(created=0, loading=0, running=0), pace=0) as server:
        yield server


@pytest.fixture
async def runner(
    server: VastServer,
    house: House,
    redis_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> AsyncIterator[Runner]:
    house.configure(
        fleet={"name": "killed", "provider": "vast", "gpus": GPUS, "max_gpus": GPUS},
        vast={"pace": 0.001},
        engine={"kind": "ollama", "model": "tiny"},
        redis={"url": f"unix://{redis_server.socket}"},
        cache={"enabled": False},
    )
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    log = tmp_path / "stderr.log"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(FORK_SERVER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "FORK_SERVER_LOG": str(log)},
    )
    yield Runner(process, log)
    process.send_signal(signal.SIGKILL)
    await process.communicate()


async def start_again(runner: Runner, server: VastServer) -> None:
    """An empty account."""
    await runner.ok(["down"])
    assert server.alive() == []


def assert_right(server: VastServer, die_at: object) -> None:
    assert len(server.alive()) == GPUS, f"after a death at {die_at}"
    assert server.double_paid() == [], f"after a death at {die_at}"


@pytest.mark.slow
async def test_killed_at_any_step_of_its_own_the_next_up_makes_n_and_pays_none_twice(
    runner: Runner, server: VastServer
) -> None:
    await runner.ok(UP)  # the first one makes folders
    await start_again(runner, server)
    steps = (await runner.ok(UP))["steps"]
    assert_right(server, None)
    await start_again(runner, server)
    assert steps > 20
    most = 0
    for die_at in range(1, steps + 1):
        done = await runner.run(UP, die_at)
        assert done["killed"] or die_at == steps, f"step {die_at} was not reached"
        most = max(most, len(server.alive()))
        await runner.ok(UP)
        assert_right(server, die_at)
        await start_again(runner, server)
    assert most == GPUS


@pytest.mark.slow
async def test_killed_between_what_the_provider_did_and_its_answer_it_is_put_right(
    runner: Runner, server: VastServer
) -> None:
    await runner.ok(UP)
    await start_again(runner, server)
    calls = await count_calls(runner, server)
    for at in range(1, calls + 1):
        server.after = killer(runner, at)
        done = await runner.run(UP)
        server.after = None
        assert done["killed"], f"call {at} was not reached"
        await runner.ok(UP)
        assert_right(server, at)
        await start_again(runner, server)


async def count_calls(runner: Runner, server: VastServer) -> int:
    before = len(server.steps)
    await runner.ok(UP)
    calls = (len(server.steps) - before) // 2
    await start_again(runner, server)
    return calls


def killer(runner: Runner, at: int) -> Callable[[str, int], Any]:
    """Kills the command when its `at`-th call has been executed and not yet answered."""
    import psutil

    calls = 0

    async def kill(endpoint: str, number: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            for child in psutil.Process(runner.process.pid).children():
                child.kill()

    return kill
