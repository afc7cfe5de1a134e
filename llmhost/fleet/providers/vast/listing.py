"""The list of all instances of an account: complete, or an error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from llmhost.errors import ProviderError
from llmhost.fleet.providers.vast.account import VastAccount
from llmhost.fleet.providers.vast.fields import Fields, Row, as_row
from llmhost.fleet.providers.vast.paging import pages, rows_of
from llmhost.fleet.providers.vast.rows import number_of

__all__ = ["Listing"]

_READINGS = 3  #: times that a list is read which changes while it is read
_WHAT = "the list of instances"


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
        for _ in range(_READINGS):
            if (rows := await self._read_once()) is not None:
                return rows
        raise ProviderError(
            f"vast.ai's {_WHAT} was different in number each time it was read", hint="try again in a minute"
        )

    async def _read_once(self) -> Sequence[Row] | None:
        """None where vast.ai says that there are more or fewer than it gave."""
        rows: dict[int, Row] = {}
        totals: set[float] = set()
        async with aclosing(pages(self._account.instances, _WHAT)) as answers:
            async for page in answers:
                for value in rows_of(page, "instances", _WHAT):
                    row = as_row(value, "an instance")
                    if rows.setdefault(number_of(row), row) is not row:
                        raise ProviderError(f"vast.ai lists instance {number_of(row)} twice")
                total = Fields(page, _WHAT).number("total_instances")
                totals |= set() if total is None else {total}
        return tuple(rows.values()) if totals <= {len(rows)} else None


def _hear(reading: asyncio.Task[Sequence[Row]]) -> None:
    """Takes note of an error that nobody waits for any more."""
    if not reading.cancelled():
        reading.exception()
