"""One process at a time, on this machine."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from llmhost.errors import StateError

__all__ = ["hold_lock"]

_POLL = 0.02  #: seconds between two tries; a server starts in about 0.1 s


@asynccontextmanager
async def hold_lock(path: Path, *, patience: float, held: StateError | None = None) -> AsyncIterator[None]:
    """Holds an `flock` on the file, which the system lets go of when its holder ends, however it ends.

    Raises:
        StateError: the file cannot be used, or somebody else held it for `patience` seconds; `held` says the
            latter in the caller's own words.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        await _acquire(path, descriptor, patience, held)
        yield
    finally:
        os.close(descriptor)


async def _acquire(path: Path, descriptor: int, patience: float, held: StateError | None) -> None:
    deadline = time.monotonic() + patience
    while not _try(path, descriptor):
        if time.monotonic() > deadline:
            raise held or StateError(
                f"another llmhost has held {path} for {patience:g} s",
                hint="wait for it, or end it: the lock is free as soon as it has ended",
            )
        await asyncio.sleep(_POLL)


def _try(path: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EAGAIN}:
            return False
        raise _unusable(path, error) from error
    return True


def _unusable(path: Path, error: OSError) -> StateError:
    return StateError(
        f"cannot lock {path}: {error.strerror}",
        hint="set LLMHOST_STATE_DIR to a folder on a local disk that you can write",
    )
