"""The seam to the ledger: the fleet says what is being paid for, and since when."""

from __future__ import annotations

from typing import Protocol

from llmhost.fleet.models import Rental

__all__ = ["RentalBook"]


class RentalBook(Protocol):
    """Keeps what every worker has cost. Both methods may be called again and again for one worker.

    They raise StoreError where the book cannot be written.
    """

    async def opened(self, rental: Rental) -> None:
        """The worker exists. A rental already known by worker and start, open or closed, stays as it is."""
        ...

    async def closed(self, worker_id: str, ended: float) -> None:
        """The worker's open rental ended at `ended`, Unix seconds: it is confirmed gone.

        A worker without an open rental is no error: there is nothing to pay, or it was closed before.
        """
        ...
