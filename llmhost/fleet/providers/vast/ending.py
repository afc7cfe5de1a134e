"""Giving an instance back, until vast.ai's list confirms it."""

from __future__ import annotations

from llmhost.errors import ProviderError
from llmhost.fleet.clock import Clock
from llmhost.fleet.providers.vast.account import VastAccount
from llmhost.fleet.providers.vast.listing import Listing
from llmhost.fleet.providers.vast.rows import number_of, worker_id

__all__ = ["end_instance"]

_PAUSE = 3.0  #: seconds between two looks; vast.ai mostly needs one
_LOOKS = 30  #: looks, that is 90 s; what lives longer does not hear
_LOOKS_A_REQUEST = 7  #: looks, that is about 20 s, after which it is asked to end once more


async def end_instance(account: VastAccount, listing: Listing, clock: Clock, number: int) -> None:
    """Returns when the instance is not listed any more; one that never was is fine.

    Raises:
        ProviderError: vast.ai refuses, cannot be asked, or still lists it after 90 s.
    """
    for look in range(_LOOKS):
        if look % _LOOKS_A_REQUEST == 0:
            await account.destroy(number)
        if number not in {number_of(row) for row in await listing.rows()}:
            return
        await clock.sleep(_PAUSE)
    raise ProviderError(
        f"vast.ai still lists instance {number} {_LOOKS * _PAUSE:g} s after it was destroyed",
        hint=f"it is still paid for: try `llmhost down {worker_id(number)}` again, or end it in the console",
    )
