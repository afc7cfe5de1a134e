"""Processes: which one is certainly ours, and its end.

A process id alone says nothing: after a crash or a restart of the machine another program may have it.
Ours belongs to this user, works in the folder that is its own, and has a command line that ends in words
that only llmhost writes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from llmhost.machine.start import LOADED, REPLACED

__all__ = ["began", "end", "find", "is_alive", "works_in"]

_POLL = 0.02  #: seconds between two looks at a process that is ending
_TERM_PATIENCE = 5.0  #: seconds; Redis writes the rest to the disk and ends
_KILL_PATIENCE = 5.0  #: seconds; the system takes a large process's memory back


def began() -> float:
    """When this program was started, Unix seconds: before it read anything.

    Linux counts it in hundredths of a second since the machine was started. To that, psutil adds a start
    of the machine in whole seconds, which in a container may be that of another one.
    """
    if REPLACED:
        return LOADED
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        boot = None
    if boot is None:
        return psutil.Process().create_time()
    return time.time() - max(0.0, time.clock_gettime(boot) - ticks / os.sysconf("SC_CLK_TCK"))


def find(folder: Path, words: Sequence[str], pid: int | None) -> psutil.Process | None:
    """The process that works in `folder` and whose command line ends in `words`: the one with this id
    if it is that, else any other of this machine."""
    first = [] if pid is None else [pid]
    for candidate in [*first, *psutil.pids()]:
        process = works_in(folder, candidate)
        with suppress(psutil.Error, OSError):
            if process is not None and process.cmdline()[-len(words) :] == list(words):
                return process
    return None


def works_in(folder: Path, pid: int) -> psutil.Process | None:
    """This process if it is alive, belongs to this user and has `folder` as its working folder."""
    try:
        process = psutil.Process(pid)
        if process.uids().real == os.getuid() and process.cwd() == str(folder) and is_alive(process):
            return process
    except (psutil.Error, ValueError, OSError):
        return None
    return None


def is_alive(process: psutil.Process) -> bool:
    """False also for a zombie, and for another process with its id."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def end(process: psutil.Process, patience: float = _TERM_PATIENCE) -> bool:
    """Terminates the process, and kills it after `patience` seconds; True once it is gone."""
    for ask, seconds in ((process.terminate, patience), (process.kill, _KILL_PATIENCE)):
        try:
            ask()
        except psutil.NoSuchProcess:
            return True
        deadline = time.monotonic() + seconds
        while is_alive(process):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL)
        else:
            return True
    return False
