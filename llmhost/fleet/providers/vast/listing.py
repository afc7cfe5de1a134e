"""The list of all instances of an account: complete, or an error."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from llmhost.errors import ProviderError
from llmhost.fleet.providers.vast.account import VastAccount
from llmhost.fleet.providers.vast.fields import Fields, Row, as_row
from llmhost.fleet.providers.vast.paging import pages, rows_of
from llmhost.fleet.providers.vast.rows import number_of

__all__ = ["Listing"]

_READINGS = 3  #: of the whole list, while it shows less than vast.ai counts
_WHAT = "list of instances"


class Listing:
    """Reads the list. Those who ask at the same time share one reading.

    Whoever asks gets a reading that began after that: what it does not show was not there any more.
    """

    def __init__(self, account: VastAccount) -> None:
        self._account = account
        self._reading: asyncio.Task[Sequence[Row]] | None = None
        self._next: asyncio.Task[Sequence[Row]] | None = None

    async def rows(self) -> Sequence[Row]:
        """Every instance of the account, whoever's it is; each has a number, and no two the same.

        Raises:
            ProviderError: the list cannot be read in full.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._read_after(self._reading))
            self._next.add_done_callback(_hear)
        return await asyncio.shield(self._next)

    async def _read_after(self, running: asyncio.Task[Sequence[Row]] | None) -> Sequence[Row]:
        if running is not None and not running.done():
            await asyncio.wait([running])
        self._reading, self._next = self._next, None
        return await self._read()

    async def _read(self) -> Sequence[Row]:
        """Reads until what is shown is as much as vast.ai counts, a few times at most."""
        for _ in range(_READINGS):
            rows, count = await self._read_once()
            # By rising numbers nothing is passed over; what ended meanwhile is shown, but not counted.
            if count is None or len(rows) >= count:
                return rows
        raise ProviderError(
            f"vast.ai's {_WHAT} is not complete: it counts {count:g} and shows {len(rows)}",
            hint="try again in a minute",
        )

    async def _read_once(self) -> tuple[Sequence[Row], float | None]:
        """Every row of every page, and how many the last page says that there are."""
        rows: list[Row] = []
        count: float | None = None
        async for page in pages(self._account.instances, _WHAT):
            rows += [as_row(row, "an instance") for row in rows_of(page, "instances", _WHAT)]
            count = Fields(page, _WHAT).number("total_instances")
        _check_unique(rows)
        return rows, count


def _check_unique(rows: Sequence[Row]) -> None:
    """Raises ProviderError where an instance is listed twice: then another one is probably missing."""
    numbers = Counter(map(number_of, rows))
    for number, times in numbers.items():
        if times > 1:
            raise ProviderError(f"vast.ai's answer cannot be read: instance {number} is listed {times} times")


def _hear(reading: asyncio.Task[Sequence[Row]]) -> None:
    """Takes note of an error that nobody waits for any more."""
    if not reading.cancelled():
        reading.exception()
