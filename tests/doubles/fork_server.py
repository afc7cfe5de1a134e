"""Runs `llmhost` command lines in forked children that may die at their n-th step.

A step is what others can see or what outlives the process: a request sent, a connection made, a file opened
for writing, moved or removed. The pacer's own file is left out: it says when, not what. Everything is
imported once, so that a hundred runs take seconds.

Speaks JSON lines: {"args": [...], "die_at": n or null, "environ": {...}} -> {"code": n, "killed": bool,
"steps": n}.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PRELOADED = (
    "llmhost.cli.commands.down",
    "llmhost.cli.commands.scale",
    "llmhost.cli.commands.status",
    "llmhost.cli.commands.up",
    "llmhost.config.load",
    "llmhost.fleet.providers.vast.provider",
    "llmhost.fleet.workers",
    "llmhost.wiring.fleets",
    "llmhost.wiring.fleets",
    "llmhost.wiring.fleets",
    "vastai",
)
_ALWAYS = {"http.client.send", "socket.connect"}
_ON_FILES = {"os.rename", "os.remove", "os.mkdir"}


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


def _counter(die_at: int | None) -> Callable[[], int]:
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if not _is_step(event, args):
            return
        seen += 1
        if seen == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: seen


def _child(args: list[str], die_at: int | None, environ: Mapping[str, str], report: int) -> None:
    from llmhost.cli.app import execute

    os.environ.update(environ)
    quiet = os.open(os.devnull, os.O_RDWR)
    log = os.open(os.environ["FORK_SERVER_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream, target in ((0, quiet), (1, quiet), (2, log)):
        os.dup2(target, stream)
    steps = _counter(die_at)
    code = execute(args)
    os.write(report, str(steps()).encode())
    os._exit(code)


def _run(args: list[str], die_at: int | None, environ: Mapping[str, str]) -> dict[str, Any]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            _child(args, die_at, environ, writer)
        finally:
            os._exit(99)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        steps = pipe.read()
    _, status = os.waitpid(pid, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "killed": os.WIFSIGNALED(status),
        "steps": int(steps or 0),
    }


def main() -> None:
    """Imports what `up`, `scale` and `down` need, then serves until stdin ends."""
    for module in PRELOADED:
        importlib.import_module(module)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(_run(order["args"], order["die_at"], order["environ"])), flush=True)


if __name__ == "__main__":
    main()
