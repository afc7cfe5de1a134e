"""One change of a fleet at a time, over all processes of this machine and all machines of one Redis."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.errors import FleetBusy, StoreError, StoreUnavailable
from llmhost.machine.files import hold_lock, make_folder

if TYPE_CHECKING:
    from llmhost.store.lease import Lease

__all__ = ["FleetLock"]

_PATIENCE = 900.0  #: seconds; ten machines created one after the other on a slow provider take less
_NOTICE = 0.3  #: seconds; a shorter wait is not worth a word
#: seconds; a Redis that is started again, or replaced by its replica, is back by then
_RESTART = 8.0
_POLL = 0.1  #: seconds between two questions for the lease; a purchase takes some seconds

#: renewals in a lifetime; one that is lost on the way does not end the lease
_RENEWALS = 3


class FleetLock:
    """A lock on `path`, which the system lets go of when its holder ends, however it ends; then `lease`.

    Without a lease, or while Redis is away, only the processes of this machine exclude each other.
    """

    def __init__(
        self,
        path: Path,
        lease: Lease | None = None,
        *,
        patience: float = _PATIENCE,
        notice: float = _NOTICE,
    ) -> None:
        self._path = path
        self._lease = lease
        self._patience = patience
        self._notice = notice
        self._leased = False
        self._restart = _RESTART

    @property
    def fence(self) -> int | None:
        """The lease's number while the lock is held; None without a lease, or while Redis is away."""
        return self._lease.fence if self._lease is not None and self._leased else None

    async def confirm(self) -> None:
        """Asked before money is spent. Without a lease nothing is known, and nothing is in the way.

        Raises:
            FleetBusy: another holder may have the lease by now. So it may where Redis has gone away: one that
                comes back without its data, or in another place, gives it to the first that asks.
        """
        if self._lease is None or not self._leased:
            return
        try:
            ours = await self._lease.renew()
        except StoreError as error:
            raise FleetBusy(
                "Redis went away, and another llmhost may be changing this fleet by now",
                hint="run it again when Redis is back; see `llmhost doctor`",
            ) from error
        if not ours:
            raise FleetBusy(
                "this llmhost was away for so long that another one may be changing this fleet by now",
                hint="run it again",
            )

    @asynccontextmanager
    async def hold(
        self,
        on_wait: Callable[[], None] | None = None,
        *,
        wait: bool = True,
        patience: float = math.inf,
        here: float = math.inf,
        buys: bool = False,
    ) -> AsyncIterator[None]:
        """Holds the lock; calls `on_wait` once if another holder makes us wait for a noticeable time.

        Where Redis is unavailable, a command that waits goes on without the lease; one that `buys` gives it
        some seconds to come back, once.

        Raises:
            StateError: the file cannot be used, or the lock did not become free within `patience` seconds;
                within `here` seconds, where a command of this machine has it.
            FleetBusy: another holder has it, and `wait` is False.
            StoreError: Redis is away, and `wait` is False.
        """
        make_folder(self._path.parent)
        patience = min(self._patience, patience)
        deadline = time.monotonic() + patience
        notice = _Notice(on_wait, self._notice)
        async with AsyncExitStack() as stack:
            with notice.waiting():
                await stack.enter_async_context(self._file(wait, min(patience, here)))
            if self._lease is not None:
                restart = self._restart if buys else 0.0
                self._restart -= restart  # once is enough
                await stack.enter_async_context(self._holding(self._lease, notice, deadline, wait, restart))
            yield

    async def fence_off(self) -> bool:
        """Where the lock cannot be had: the process of this machine that has it cannot buy any more. One that
        was suspended would go on as if nothing had happened. False where it cannot be kept from that: it is
        on another machine, or there is no Redis."""
        if self._lease is None:
            return False
        try:
            fenced = await self._lease.take() is not None
            await self._lease.give_back()
        except StoreError:
            return False
        return fenced

    def _file(self, wait: bool, patience: float) -> AbstractAsyncContextManager[None]:
        if wait:
            return hold_lock(self._path, patience=patience)
        busy = FleetBusy("another llmhost on this machine is changing this fleet", hint="try again later")
        return hold_lock(self._path, patience=0.0, held=busy)

    @asynccontextmanager
    async def _holding(
        self, lease: Lease, notice: _Notice, deadline: float, wait: bool, restart: float
    ) -> AsyncIterator[None]:
        self._leased = await (_win(lease, notice, deadline, restart) if wait else _take(lease))
        renewing = asyncio.create_task(_keep(lease)) if self._leased else None
        try:
            yield
        finally:
            if renewing is not None:
                self._leased = False
                renewing.cancel()
                with suppress(StoreError):  # then it expires
                    await lease.give_back()


class _Notice:
    """Calls `tell` once if another holder makes us wait for `after` seconds."""

    def __init__(self, tell: Callable[[], None] | None, after: float) -> None:
        self._tell = tell
        self._after = after

    @contextmanager
    def waiting(self) -> Iterator[None]:
        pending = asyncio.get_running_loop().call_later(self._after, self._say)
        try:
            yield
        finally:
            pending.cancel()

    def _say(self) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()


async def _take(lease: Lease) -> bool:
    if await lease.take() is None:
        raise _busy("is changing this fleet")
    return True


async def _win(lease: Lease, notice: _Notice, deadline: float, restart: float) -> bool:
    """Waits until it is ours. False: Redis is away, for longer than a lease that we saw there lives, and than
    `restart` seconds."""
    seen, begun = -math.inf, time.monotonic()
    with ExitStack() as stack:
        while True:
            try:
                if await lease.take() is not None:
                    return True
            except StoreError as error:
                now, may_return = time.monotonic(), isinstance(error, StoreUnavailable)
                if now - seen >= lease.lifetime and not (may_return and now - begun < restart):
                    return False
            else:
                if math.isinf(seen):
                    stack.enter_context(notice.waiting())
                seen = time.monotonic()
            if time.monotonic() > deadline:
                raise _busy("has been changing this fleet for too long to wait for it")
            await asyncio.sleep(_POLL)


async def _keep(lease: Lease) -> None:
    """Renews until the lease is lost or the task is cancelled."""
    kept = True
    while kept:
        await asyncio.sleep(lease.lifetime / _RENEWALS)
        with suppress(StoreError):
            kept = await lease.renew()


def _busy(what: str) -> FleetBusy:
    return FleetBusy(
        f"another llmhost, on another machine or with another state folder, {what}", hint="try again later"
    )
