"""Time as an argument: the fleet waits on a clock it is given, so tests make time pass without waiting."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    def now(self) -> float:
        """Unix seconds: what is written down and billed."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever grow: what deadlines are measured with."""
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
