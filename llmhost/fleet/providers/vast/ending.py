"""Giving an instance back, until vast.ai's list confirms it."""

from __future__ import annotations

from llmhost.errors import ProviderError
from llmhost.fleet.clock import Clock
from llmhost.fleet.providers.vast.client import VastAccount
from llmhost.fleet.providers.vast.listing import Listing
from llmhost.fleet.providers.vast.rows import number_of, worker_id

__all__ = ["end_instance"]

_LOOKS = 30  #: looks, spread over the time that it may take; vast.ai mostly needs one
_LOOKS_A_REQUEST = 7  #: looks after which it is asked to end once more


async def end_instance(
    account: VastAccount, listing: Listing, clock: Clock, number: int, patience: float
) -> None:
    """Returns when the instance is neither listed nor found by its number; one that never was is fine.

    Raises:
        ProviderError: vast.ai refuses, cannot be asked, or still lists it after `patience` seconds.
    """
    for look in range(_LOOKS):
        if look % _LOOKS_A_REQUEST == 0:
            await account.destroy(number)
        listed = {number_of(row) for row in await listing.rows()}
        if number not in listed and not await listing.lacks([number]):
            return
        await clock.sleep(patience / _LOOKS)
    raise ProviderError(
        f"vast.ai still lists instance {number} {patience:g} s after it was destroyed",
        hint=f"it is still paid for: try `llmhost down {worker_id(number)}` again, or end it in the console",
    )
