"""A clock that stands still until somebody sleeps on it."""

from __future__ import annotations

import asyncio

from llmhost.store.clock import Ahead


class ManualClock:
    """Sleeping takes no time and makes that much time pass."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._start = now
        self._elapsed = 0.0

    def put_back(self, seconds: float) -> None:
        """Somebody corrects the date."""
        self._start -= seconds

    def now(self) -> float:
        return self._start + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        self._elapsed += seconds
        # Twice: what the sleeper started gets its first step, and what that woke up gets its own.
        await asyncio.sleep(0)
        await asyncio.sleep(0)


class WrongClock:
    """The clock of a machine whose date is `ahead` seconds off, below 0 behind; time passes with `right`."""

    def __init__(self, right: ManualClock) -> None:
        self._right = right
        self.ahead = 0.0

    def now(self) -> float:
        return self._right.now() + self.ahead

    def monotonic(self) -> float:
        return self._right.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._right.sleep(seconds)

    async def compare(self) -> Ahead:
        """Redis has the right time."""
        return Ahead(-self.ahead, -self.ahead)
