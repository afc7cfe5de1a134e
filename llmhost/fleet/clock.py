"""Time as an argument: the fleet waits on a clock it is given, so tests make time pass without waiting."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock", "waited_since"]


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds: what is written down and billed."""
        ...

    def monotonic(self) -> float:
        """Seconds that grow until the machine is started again: what deadlines are measured with."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns when `monotonic` has grown by `seconds`."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def waited_since(clock: Clock, written: float, uptime: float) -> float:
    """How many seconds ago something was written down, at the least: `written` is what `now` was then, and
    `uptime` what `monotonic` was. A date that was put ahead makes nothing older; what was written before the
    machine was started is at least as old as that."""
    up = clock.monotonic()
    return min(abs(clock.now() - written), up - uptime if up >= uptime else up)
