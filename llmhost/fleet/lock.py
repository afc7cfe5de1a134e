"""One change of a fleet at a time, over all processes of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from llmhost.machine.files import make_folder
from llmhost.machine.lock import hold_lock

__all__ = ["FleetLock"]

_PATIENCE = 900.0  #: seconds; ten machines created one after the other on a slow provider take less
_NOTICE = 0.3  #: seconds; a shorter wait is not worth a word


class FleetLock:
    """A lock on `path`, which the system lets go of when its holder ends, however it ends."""

    def __init__(self, path: Path, *, patience: float = _PATIENCE, notice: float = _NOTICE) -> None:
        self._path = path
        self._patience = patience
        self._notice = notice

    @asynccontextmanager
    async def hold(self, on_wait: Callable[[], None] | None = None) -> AsyncIterator[None]:
        """Holds the lock; calls `on_wait` once if somebody else makes us wait for a noticeable time.

        Raises:
            StateError: the file cannot be used, or the lock did not become free within `patience` seconds.
        """
        make_folder(self._path.parent)
        async with AsyncExitStack() as stack:
            told = asyncio.get_running_loop().call_later(self._notice, on_wait or (lambda: None))
            try:
                await stack.enter_async_context(hold_lock(self._path, patience=self._patience))
            finally:
                told.cancel()
            yield
