"""How workers are rented on vast.ai."""

from __future__ import annotations

from dataclasses import dataclass

from llmhost.fleet.providers.vast.onstart import Orders

__all__ = ["VastSettings"]


@dataclass(frozen=True, slots=True)
class VastSettings:
    """`disk` is GB. `filter` is in the words of `vastai search offers`. `max_price` is USD an hour with the
    disk, `max_bid` without it. `interruptible` bids instead of paying the fixed price."""

    image: str
    disk: float
    filter: str
    max_price: float | None
    interruptible: bool
    max_bid: float | None
    orders: Orders
