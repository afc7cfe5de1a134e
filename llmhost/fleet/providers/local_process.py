"""Worker processes of this machine: started so that they outlive us, and ended only when they are ours.

A pid proves nothing, it is used again. A process is ours when its argument list is exactly the one
that we started, which names a folder that no other worker ever had; psutil then makes sure that the
process it signals is still the one whose arguments were read.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

from llmhost.errors import ProviderError
from llmhost.machine.process import end

__all__ = ["find", "start", "stop"]


def start(argv: Sequence[str], folder: Path, log: Path) -> int:
    """Starts a process in a session of its own, with nothing open that is open here; its pid.

    Raises:
        ProviderError: it could not be started.
    """
    try:
        with log.open("ab") as output:
            log.chmod(0o600)
            process = subprocess.Popen(
                argv,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                close_fds=True,
            )
    except OSError as error:
        raise ProviderError(f"cannot start a worker process: {error.strerror}") from error
    # Reaps the worker should it end before we do; without it, it stays a zombie of this process.
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


def find(argv: Sequence[str], pid: int | None) -> psutil.Process | None:
    """The living process with exactly these arguments, looked for first under `pid`."""
    first = [] if pid is None else [pid]
    for candidate in [*first, *psutil.pids()]:
        process = _matching(candidate, argv)
        if process is not None:
            return process
    return None


async def stop(argv: Sequence[str], pid: int | None) -> None:
    """Ends the process with exactly these arguments, if there is one, and returns when it is gone.

    It is asked first, and then killed.

    Raises:
        ProviderError: it cannot be signalled, or does not even end when killed.
    """
    process = find(argv, pid)
    if process is None:
        return
    try:
        ended = await end(process)
    except psutil.AccessDenied as error:
        raise ProviderError(
            f"process {process.pid} may not be ended by this user", hint="run as the user who started it"
        ) from error
    if not ended:
        raise ProviderError(f"process {process.pid} does not end, although it was killed")


def _matching(pid: int, argv: Sequence[str]) -> psutil.Process | None:
    """The process, unless it is another one, has ended, or is a zombie (which has no arguments)."""
    try:
        process = psutil.Process(pid)
        return process if process.cmdline() == list(argv) else None
    except (psutil.Error, ValueError, OverflowError):
        return None
