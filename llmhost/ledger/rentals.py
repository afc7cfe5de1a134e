"""The seam to the ledger: the fleet says what is being paid for, at which price, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["LONGEST_BOOT", "Charge", "Rental", "RentalBook"]

#: seconds; what took a day was no boot
LONGEST_BOOT = 86_400.0


class RentalBook(Protocol):
    """Keeps what every worker has cost. To record an observation twice changes nothing.

    A worker whose price changes while it lives has several rentals, one after the other. They raise
    StoreError where the book cannot be read or written.
    """

    async def observed(self, worker_id: str, price_per_hour: float, started: float, now: float) -> None:
        """The worker costs this much at `now`. It is paid for since `started`, which never changes.

        Times are Unix seconds. What was not observed is counted at the higher price: a price that fell holds
        from `now` on, one that rose since the last observation. A closed worker stays closed, unless it is
        seen ten minutes later: then it was not gone, and is paid for since it was closed too.
        """
        ...

    async def closed(self, worker_id: str, ended: float) -> None:
        """The worker's open rental ended at `ended`, Unix seconds: it is confirmed gone.

        A worker without an open rental is no error: there is nothing to pay, or it was closed before.
        """
        ...

    async def paid_once(self, worker_id: str, usd: float, started: float) -> None:
        """The worker that is paid for since `started`, Unix seconds, has also cost `usd` once, at that time:
        its traffic, as expected. The first that is said of it counts.
        """
        ...

    async def rentals(self) -> Sequence[Rental]:
        """Everything that was paid for in the last 400 days at least, first rented first."""
        ...

    async def billed(self, charges: Sequence[Charge], now: float) -> None:
        """The provider's bills of workers' whole lives; each replaces the one before of its worker."""
        ...

    async def charges(self) -> Sequence[Charge]:
        """The bills as they were last read, by worker."""
        ...


@dataclass(frozen=True, slots=True)
class Charge:
    """What a provider says that it billed for one worker: USD from `since` until `until`, Unix seconds, which
    may be later than now where the provider does not say it to the second. `traffic` is the part of it for
    traffic, where that is known; it is not kept."""

    worker: str
    usd: float
    since: float
    until: float
    traffic: float = 0.0


@dataclass(frozen=True, slots=True)
class Rental:
    """What one worker cost: USD an hour from `started` until `ended` (None: still running), and USD `once`,
    at `started`. Unix seconds.
    """

    worker: str
    price_per_hour: float
    started: float
    ended: float | None = None
    once: float = 0.0
