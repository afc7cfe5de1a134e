"""An `llmhost` command in a process of its own, forked from one that has imported what most commands import.

A new interpreter spends most of its time on imports. A forked process is as real: it has its own environment,
folder, streams and signals. A variable that Python itself reads when it starts has no effect here.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from llmhost.machine import process

#: Nothing that starts a thread when it is imported, and nothing that reads the environment then.
_PRELOADED = (
    "httpx",
    "rich.live",
    "rich.progress",
    "rich.table",
    "vastai",
    "llmhost.autoscale.step",
    "llmhost.cli.commands.ask",
    "llmhost.cli.commands.cache",
    "llmhost.cli.commands.chat",
    "llmhost.cli.commands.doctor",
    "llmhost.cli.commands.down",
    "llmhost.cli.commands.logs",
    "llmhost.cli.commands.scale",
    "llmhost.cli.commands.stats",
    "llmhost.cli.commands.status",
    "llmhost.cli.commands.up",
    "llmhost.config.load",
    "llmhost.engines.ollama",
    "llmhost.engines.openai",
    "llmhost.fleet.providers.local",
    "llmhost.fleet.providers.static",
    "llmhost.fleet.providers.vast.provider",
    "llmhost.fleet.workers",
    "llmhost.wiring.fleets",
    "llmhost.wiring.parts",
    "llmhost.wiring.questions",
)

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(_PRELOADED))


class ForkedCommand:
    """What asyncio.subprocess.Process is to a new interpreter. With `has_stdin`, `feed` it. `first` is called
    in the new process before the command.
    """

    def __init__(
        self,
        args: Sequence[str],
        environ: Mapping[str, str],
        *,
        has_stdin: bool = False,
        first: Callable[[], None] | None = None,
    ) -> None:
        self._pipes = [os.pipe() for _ in range(3 if has_stdin else 2)]
        outputs = [Connection(writer, readable=False) for _, writer in self._pipes[:2]]
        inputs = [Connection(reader, writable=False) for reader, _ in self._pipes[2:]]
        self._process = _context.Process(
            target=_run, args=(list(args), str(Path.cwd()), dict(environ), outputs, inputs, first)
        )
        self._process.start()
        for connection in (*outputs, *inputs):
            connection.close()
        self.pid: int = self._process.pid or 0
        self.returncode: int | None = None

    async def connect(self) -> None:
        """Connects the streams to the running loop; call it once."""
        loop = asyncio.get_running_loop()
        self.stdout, self.stderr = asyncio.StreamReader(), asyncio.StreamReader()
        for reader, (end, _) in zip((self.stdout, self.stderr), self._pipes, strict=False):
            protocol = partial(asyncio.StreamReaderProtocol, reader)
            await loop.connect_read_pipe(protocol, os.fdopen(end, "rb", 0))

    def feed(self, stdin: bytes) -> None:
        """Writes all of its standard input; it may refuse before it has read everything."""
        with suppress(BrokenPipeError), os.fdopen(self._pipes[2][1], "wb", 0) as pipe:
            pipe.write(stdin)

    def send_signal(self, number: int) -> None:
        """Does nothing to a command that has ended by itself, also where nobody has waited for it yet."""
        if self.returncode is None and self._process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """The exit status, negative for the signal that ended it."""
        if self.returncode is None:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(self._process.sentinel, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(self._process.sentinel)
            self._process.join()
            self.returncode = self._process.exitcode
            self._process.close()
        assert self.returncode is not None
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """What it prints from now on, once it has ended."""
        out, err = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        return out, err


def _run(
    args: list[str],
    folder: str,
    environ: dict[str, str],
    outputs: list[Connection],
    inputs: list[Connection],
    first: Callable[[], None] | None,
) -> None:
    """In the child: becomes `python -m llmhost ARGS`."""
    process.REPLACED = False  # type: ignore[attr-defined]  # its server may have started others before it loaded llmhost
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    stdin = inputs[0].fileno() if inputs else os.open(os.devnull, os.O_RDONLY)
    for stream, target in ((stdin, 0), (outputs[0].fileno(), 1), (outputs[1].fileno(), 2)):
        os.dup2(stream, target)
    for connection in (*outputs, *inputs):
        connection.close()
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["llmhost", *args]

    from llmhost.cli.app import main

    if first is not None:
        first()
    main()


async def forked(args: Sequence[str], environ: Mapping[str, str], stdin: bytes | None) -> ForkedCommand:
    """Starts `llmhost ARGS` in the current folder with these variables alone, and `stdin` if any."""
    command = ForkedCommand(args, environ, has_stdin=stdin is not None)
    await command.connect()
    if stdin is not None:
        await asyncio.to_thread(command.feed, stdin)
    return command


# A command that may die at its n-th step. A step is what others can see or what outlives the process: a
# request sent, a connection made, a file opened for writing, moved or removed. The pacer's own file is left
# out: it says when, not what.


_ALWAYS = {"http.client.send", "socket.connect"}
_ON_FILES = {"os.rename", "os.remove", "os.mkdir"}


def die_at_step(number: int) -> None:
    """From now on this process counts its steps, and kills itself at this one."""
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if _is_step(event, args):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _is_step(event: str, args: tuple[Any, ...]) -> bool:
    if event == "open":
        path, mode, flags = args
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR)) if isinstance(flags, int) else "w" in (mode or "")
        return writes and not isinstance(path, int) and _matters(path)
    if event == "os.mkdir" and Path(args[0]).exists():
        return False
    return event in _ALWAYS or (event in _ON_FILES and _matters(args[0]))


def _matters(path: object) -> bool:
    name = str(path)
    pacer = "/vast/pace" in name or ".pace.json" in name
    return not pacer and not name.startswith(("/dev/", "/proc/"))
