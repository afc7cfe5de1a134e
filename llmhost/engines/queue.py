"""Requests of this process that wait for a worker: one queue, fair by tenant."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from llmhost.errors import QueueFull

__all__ = ["FairQueue"]

#: seconds; how often it is looked whether another process gave a slot back, or a worker came
_PERIOD = 0.05


class FairQueue:
    """The tenants take turns, and the requests of each are served in the order in which they came.

    At most `length` wait, each for `timeout` seconds at most. One at a time is at the front and tries to get
    a slot, so that a long queue costs no more than a short one.
    """

    def __init__(self, length: int, timeout: float, *, period: float = _PERIOD) -> None:
        self.timeout = timeout
        self._length = length
        self._period = period
        #: those behind the front, by tenant; the tenant whose turn is next comes first
        self._waiting: dict[str, deque[asyncio.Event]] = {}
        self._front: asyncio.Event | None = None
        self._released = asyncio.Event()

    def __len__(self) -> int:
        return (self._front is not None) + sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def front(self, tenant: str) -> AsyncIterator[None]:
        """Waits until it is at the front, where it is within the block. Raises QueueFull."""
        if len(self) >= self._length:
            raise QueueFull(
                f"all workers are busy, and {self._length} requests wait already", hint="ask again later"
            )
        place = asyncio.Event()
        self._waiting.setdefault(tenant, deque()).append(place)
        self._advance()
        try:
            await place.wait()
            yield
        finally:
            self._leave(tenant, place)

    async def changed(self) -> None:
        """Returns when a slot may be free."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._period):
                await self._released.wait()
        self._released.clear()

    def released(self) -> None:
        """A slot was given back by this process."""
        self._released.set()

    def _leave(self, tenant: str, place: asyncio.Event) -> None:
        if place is self._front:
            self._front = None
            self._advance()
        elif (places := self._waiting.get(tenant)) is not None:
            places.remove(place)
            if not places:
                del self._waiting[tenant]

    def _advance(self) -> None:
        if self._front is not None or not self._waiting:
            return
        tenant = next(iter(self._waiting))
        places = self._waiting.pop(tenant)
        self._front = places.popleft()
        if places:
            self._waiting[tenant] = places  # behind the others
        self._front.set()
