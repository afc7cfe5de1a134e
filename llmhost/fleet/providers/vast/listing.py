"""The list of all instances of an account: complete, or an error."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from llmhost.errors import ProviderError
from llmhost.fleet.clock import Clock
from llmhost.fleet.providers.vast.client import PAGE, VastAccount
from llmhost.fleet.providers.vast.faults import refusal_in
from llmhost.fleet.providers.vast.rows import (
    Answer,
    Number,
    Row,
    Text,
    may_be_ours,
    read,
    unreadable,
    worker_id,
)

__all__ = ["Bill", "Listing", "Page", "end_instance", "pages"]


# Long answers that vast.ai gives in pages.


_MOST_PAGES = 1000  #: no account has so much; a server that never ends is broken


class Page(Answer):
    next_token: Text | None = None


class Bill(Page):
    results: list[Any]


class _Instances(Page):
    """How many there are in all, `total_instances`, a page that calls itself a success may leave out, unless
    it is full and the last one: then there may be more."""

    instances: list[Any]
    total_instances: Number | None = None
    success: Any = None


_P = TypeVar("_P", bound=Page)


async def pages(
    shape: type[_P], ask: Callable[[str | None], Awaitable[object]], what: str
) -> AsyncGenerator[_P, None]:
    """Every page; `ask` is given the token of the page before. Raises ProviderError where there is no end."""
    token: str | None = None
    seen: set[str | None] = set()
    while len(seen) < _MOST_PAGES:
        answer = await ask(token)
        if isinstance(answer, Mapping) and (refusal := refusal_in(answer, f"reading {what}", ())):
            raise refusal
        page = read(shape, answer, what)
        yield page
        seen.add(token)
        token = page.next_token or None
        if token is None:
            return
        if token in seen:
            break
    raise unreadable(f"{what} does not come to an end")


_READINGS = 3  #: of the whole list, while it shows less than vast.ai counts
_WHAT = "the list of instances"


class Listing:
    """Reads the list. Concurrent callers share one reading.

    A caller gets a reading that began after its call: what it does not show was not there any more.
    """

    def __init__(self, account: VastAccount) -> None:
        self._account = account
        self._reading: asyncio.Task[Sequence[Row]] | None = None
        self._next: asyncio.Task[Sequence[Row]] | None = None
        #: what the last reading lists without a number, and of which llmhost may be the buyer
        self.nameless: Sequence[object] = ()
        self.last: Sequence[Row] = ()  #: what the last reading showed
        self.ended: set[int] = set()  #: what was there to be ended, by vast.ai's word
        self.seen: set[int] = set()  #: what was ever listed, or found by its number: the account pays for it
        self._shown: dict[int, Row] = {}  #: what was ever listed, as it was last

    async def rows(self) -> Sequence[Row]:
        """Every instance of the account that has a number, of this fleet or not; no two have the same. Those
        without one are counted, and kept in `nameless`.

        Raises:
            ProviderError: the list cannot be read in full.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._read_after(self._reading))
            self._next.add_done_callback(_retrieve_error)
        return await asyncio.shield(self._next)

    def orders(self, fleet: str) -> frozenset[str]:
        """The orders of a fleet of which an instance was ever listed."""
        return frozenset(order for row in self._shown.values() if (order := row.order(fleet)) is not None)

    async def lacks(self, known: Collection[int]) -> Sequence[Row]:
        """Those of the instances `known` that exist although the list did not show them.

        Each is asked for by itself: that one answer says nothing of an instance does not make it gone. The
        answer is about the number that was asked for, whatever it calls itself.
        """
        found = [(number, await self._account.instance(number)) for number in sorted(known)]
        self.seen |= {number for number, row in found if row is not None}
        return [
            read(Row, {**row, "id": number} if isinstance(row, Mapping) else row, "an instance")
            for number, row in found
            if row is not None
        ]

    async def _read_after(self, running: asyncio.Task[Sequence[Row]] | None) -> Sequence[Row]:
        if running is not None and not running.done():
            await asyncio.wait([running])
        self._reading, self._next = self._next, None
        return await self._read()

    async def _read(self) -> Sequence[Row]:
        """Reads until what is shown is what vast.ai counts, a few times at most."""
        for _ in range(_READINGS):
            pages_read, rows, count = await self._read_once()
            # Between two pages instances may end: those were shown, and are not counted any more. None is
            # passed over, for they come by rising numbers.
            whole = count in (len(rows), len(rows) + len(self.nameless))
            if whole or (pages_read > 1 and len(rows) > count):
                self.nameless = [row for row in self.nameless if may_be_ours(row)]
                self.last = rows
                self.seen |= {row.id for row in rows}
                self._shown |= {row.id: row for row in rows}
                return rows
        raise ProviderError(
            f"vast.ai's list of instances is not complete: it counts {count:g} and shows {len(rows)}",
            hint="try again in a minute",
        )

    async def _read_once(self) -> tuple[int, Sequence[Row], float]:
        """How many pages there were, the rows of all of them, and how many the last one counts."""
        number, rows, nameless, count = 0, list[Row](), list[object](), 0.0
        async for page in pages(_Instances, self._account.instances, _WHAT):
            for row in page.instances:
                try:
                    rows.append(read(Row, row, "an instance"))
                except ProviderError:
                    nameless.append(row)
            number += 1
            if page.total_instances is not None:
                count = page.total_instances
            elif page.success is True and (page.next_token or len(page.instances) < PAGE):
                count = float(len(rows) + len(nameless))
            else:  # "none" may never be a misunderstanding
                raise unreadable(f"{_WHAT} does not say how many there are")
        for instance, times in Counter(row.id for row in rows).items():
            if times > 1:  # then another one is probably missing
                raise unreadable(f"instance {instance} is listed {times} times")
        self.nameless = nameless
        return number, rows, count


def _retrieve_error(reading: asyncio.Task[Sequence[Row]]) -> None:
    """Retrieves an error whose callers are all cancelled."""
    if not reading.cancelled():
        reading.exception()


# Giving an instance back, until vast.ai's list confirms it.


#: seconds, at vast.ai's own pace; an instance that it lists so long after it was destroyed lives on
_ENDING = 90.0
_LOOKS = 30  #: looks, spread over the time that it may take; vast.ai mostly needs one
_LOOKS_A_REQUEST = 7  #: looks after which it is asked to end once more


async def end_instance(
    account: VastAccount, listing: Listing, clock: Clock, number: int, pace: float
) -> None:
    """Returns when the instance is neither listed nor found by its number; one that never was is fine.
    `pace` multiplies vast.ai's own delays.

    Raises:
        ProviderError: vast.ai refuses, cannot be asked, or still lists it after a minute and a half.
    """
    patience = _ENDING * pace
    for look in range(_LOOKS):
        if look % _LOOKS_A_REQUEST == 0 and await account.destroy(number):
            listing.ended.add(number)
        listed = set[int]()
        with suppress(ProviderError):  # a list that cannot be read stands in no ending's way
            listed = {row.id for row in await listing.rows()}
        if number not in listed and not await listing.lacks([number]):
            return
        await clock.sleep(patience / _LOOKS)
    raise ProviderError(
        f"vast.ai still lists instance {number} {patience:g} s after it was destroyed",
        hint=f"it is still paid for: try `llmhost down {worker_id(number)}` again",
    )
