"""The list of all instances of an account: complete, or an error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from llmhost.errors import ProviderError
from llmhost.fleet.providers.vast.account import PAGE, VastAccount
from llmhost.fleet.providers.vast.fields import Fields, Row, as_row
from llmhost.fleet.providers.vast.paging import rows_of
from llmhost.fleet.providers.vast.rows import number_of

__all__ = ["Listing"]

_READINGS = 3  #: times that a page is asked for which does not hold what vast.ai counts
_MOST_PAGES = 1000  #: no account has so many; a server that never ends is broken
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
        rows: list[Row] = []
        for _ in range(_MOST_PAGES):
            page, complete = await self._page(number_of(rows[-1]) if rows else 0)
            rows += page
            if complete:
                return rows
        raise ProviderError(f"vast.ai's answer cannot be read: {_WHAT} does not come to an end")

    async def _page(self, after: int) -> tuple[Sequence[Row], bool]:
        """The instances with higher numbers than `after`, and whether these are all of them.

        vast.ai counts them, so that a page that lacks one is found out. The count may be of a moment
        earlier, and so the page is asked for again before it is called wrong.
        """
        for _ in range(_READINGS):
            answer = as_row(await self._account.instances(after), _WHAT)
            rows = [as_row(row, "an instance") for row in rows_of(answer, "instances", _WHAT)]
            _check_order(after, [number_of(row) for row in rows])
            count = Fields(answer, _WHAT).needed("total_instances")
            if len(rows) == min(count, PAGE):
                return rows, len(rows) == count
        raise ProviderError(
            f"vast.ai's {_WHAT} is not complete: it counts {count:g} and shows {len(rows)}",
            hint="try again in a minute",
        )


def _check_order(after: int, numbers: Sequence[int]) -> None:
    """Each higher than the one before: so none comes twice, and none that was passed over. Raises
    ProviderError."""
    for last, number in pairwise((after, *numbers)):
        if number <= last:
            raise ProviderError(f"vast.ai's answer cannot be read: instance {number} is listed out of turn")


def _hear(reading: asyncio.Task[Sequence[Row]]) -> None:
    """Takes note of an error that nobody waits for any more."""
    if not reading.cancelled():
        reading.exception()
