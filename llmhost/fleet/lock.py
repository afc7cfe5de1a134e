"""One change of a fleet at a time, over all processes of this machine."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from llmhost.errors import StateError

__all__ = ["FleetLock"]

_POLL = 0.05  #: seconds between two tries; short beside the changes that are waited for
_PATIENCE = 900.0  #: seconds; ten machines created one after the other on a slow provider take less


class FleetLock:
    """An `flock` on `path`, which the system lets go of when its holder ends, however it ends."""

    def __init__(self, path: Path, *, patience: float = _PATIENCE) -> None:
        self._path = path
        self._patience = patience

    @asynccontextmanager
    async def hold(self, on_wait: Callable[[], None] | None = None) -> AsyncIterator[None]:
        """Holds the lock; calls `on_wait` once if somebody else holds it first.

        Raises:
            StateError: the file cannot be used, or the lock did not become free within `patience` seconds.
        """
        descriptor = self._open()
        try:
            await self._acquire(descriptor, on_wait)
            yield
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f"cannot open the lock {self._path}: {error.strerror}",
                hint="set LLMHOST_STATE_DIR to a folder that you can write",
            ) from error

    async def _acquire(self, descriptor: int, on_wait: Callable[[], None] | None) -> None:
        if self._try(descriptor):
            return
        if on_wait is not None:
            on_wait()
        try:
            async with asyncio.timeout(self._patience):
                while not self._try(descriptor):  # noqa: ASYNC110 - another process lets go of it
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            raise StateError(
                f"another llmhost has been changing this fleet for {self._patience:g} s",
                hint="wait for it, or end it: the lock is free as soon as it has ended",
            ) from error

    def _try(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EAGAIN}:
                return False
            raise StateError(
                f"cannot lock {self._path}: {error.strerror}",
                hint="set LLMHOST_STATE_DIR to a folder on a local disk",
            ) from error
        return True
