"""The clock of Redis, which all machines share, beside that of this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from llmhost.store.client import server_time

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Ahead", "CompareClocks", "compare_clocks"]


class Ahead(NamedTuple):
    """How many seconds the clock of Redis is before this machine's: between these, as its answer takes time.

    What was written by the one and is read by the other is never too early: nothing looks older than it is.
    """

    least: float
    most: float

    def there(self, here: float) -> float:
        """The time by the clock of Redis that is `here` by this machine's."""
        return here + self.most

    def here(self, there: float) -> float:
        """The time by this machine's clock that is `there` by that of Redis."""
        return max(0.0, there - self.least)


#: Asks both clocks. Raises StoreError.
CompareClocks = Callable[[], Awaitable[Ahead]]


def compare_clocks(client: Redis, now: Callable[[], float]) -> CompareClocks:
    """`now` is this machine's clock, Unix seconds."""

    async def compare() -> Ahead:
        before = now()
        there = await server_time(client)
        return Ahead(there - now(), there - before)

    return compare
