"""The whole of llmhost, as a user runs it: real processes, a state folder of its own, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from doubles.forked_command import ForkedCommand, forked
from doubles.openai_server import OpenAIServer

#: seconds; a command that has not ended by then hangs
LONGEST_COMMAND = 120.0


@dataclass(frozen=True, slots=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout; fails where there is anything else."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The line that says what went wrong."""
        return next(line for line in self.err.splitlines() if line.startswith("error: "))


@dataclass(slots=True)
class Running:
    """A command that has not ended yet."""

    process: ForkedCommand | Process
    seen: bytes = field(default=b"")

    async def until(self, stream: str, words: str) -> None:
        """Returns when `words` have come on ``out`` or ``err``."""
        reader = self.process.stdout if stream == "out" else self.process.stderr
        assert reader is not None
        async with asyncio.timeout(LONGEST_COMMAND):
            while words.encode() not in self.seen:
                piece = await reader.read(1024)
                assert piece, f"ended without {words!r}: {self.seen!r}"
                self.seen += piece

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    async def end(self) -> Finished:
        async with asyncio.timeout(LONGEST_COMMAND):
            out, err = await self.process.communicate()
        return Finished(await self.process.wait(), out.decode(), err.decode())


async def _new_interpreter(args: Sequence[str], environ: Mapping[str, str], stdin: bytes | None) -> Process:
    assert stdin is None
    command = (sys.executable, "-m", "llmhost", *args)
    return await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environ
    )


class House:
    """Runs `llmhost` commands with this test's folders.

    With `new_interpreters` each is a ``python -m llmhost`` whose arguments other processes can read.
    """

    new_interpreters = False

    def __init__(self) -> None:
        self._started: list[ForkedCommand | Process] = []

    async def close(self) -> None:
        """Ends the commands that a failed test has left behind."""
        for process in self._started:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    async def start(self, *args: str, stdin: bytes | None = None, **environ: str) -> Running:
        both = {**os.environ, **environ}
        process = await (_new_interpreter if self.new_interpreters else forked)(args, both, stdin)
        self._started.append(process)
        return Running(process)

    async def run(self, *args: str, stdin: Any = None, **environ: str) -> Finished:
        return await (await self.start(*args, stdin=stdin, **environ)).end()

    async def ok(self, *args: str, **environ: str) -> Any:
        """The JSON object of a command that must succeed."""
        done = await self.run(*args, "--json", **environ)
        assert done.code == 0, done.err
        return done.json

    def configure(self, **sections: Any) -> Path:
        """Writes this test's configuration file, where llmhost looks for it."""
        path = Path("llmhost.yaml")
        path.write_text(yaml.safe_dump(sections))
        return path


@pytest.fixture
async def house(state_folder: Path) -> AsyncIterator[House]:
    """Nothing is configured yet: the built-in local fleet. All that it started is gone at the end."""
    house = House()
    yield house
    await house.close()
    left = processes_of(state_folder)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=10)


@pytest.fixture
async def static_house(house: House, openai_server: OpenAIServer) -> House:
    """One static worker, a double of an OpenAI-compatible server, that is up."""
    configure_static(house, openai_server)
    await house.ok("up")
    return house


def configure_static(house: House, *servers: OpenAIServer, **sections: dict[str, Any]) -> None:
    """A static fleet of these servers at 0.36 USD an hour, which makes a second cost 0.0001 USD."""
    house.configure(
        **{
            "fleet": {
                "name": "test",
                "provider": "static",
                "gpus": len(servers),
                "price_per_hour": 0.36,
                "workers": [{"url": s.url} | ({"token": s.token} if s.token else {}) for s in servers],
            },
            "engine": {"kind": "openai", "model": "tiny", "first_token_timeout": "30s"},
            **sections,
        }
    )


def processes_of(state_folder: Path) -> list[psutil.Process]:
    """Every process that works in this test's state folder: workers and the embedded Redis."""
    return [process for process in psutil.process_iter() if _works_in(state_folder, process)]


def _works_in(folder: Path, process: psutil.Process) -> bool:
    try:
        return any(str(folder) in part for part in process.cmdline())
    except psutil.Error:
        return False


HouseMaker = Callable[..., None]


@pytest.fixture
def static() -> HouseMaker:
    """`configure_static` for tests that need another configuration."""
    return configure_static


@pytest.fixture
def left_running(state_folder: Path) -> Callable[[], list[psutil.Process]]:
    """What this test's commands have left running."""
    return lambda: processes_of(state_folder)
