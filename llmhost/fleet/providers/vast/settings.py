"""How workers are rented on vast.ai."""

from __future__ import annotations

from dataclasses import dataclass

from llmhost.fleet.providers.vast.onstart import Orders

__all__ = ["VastSettings"]


@dataclass(frozen=True, slots=True)
class VastSettings:
    """`disk` is GB. `filter` is in the words of `vastai search offers`. `max_price` is USD an hour with the
    disk, `max_bid` without it. `interruptible` bids instead of paying the fixed price. A purchase that
    vast.ai lists later than `settling` seconds after it was begun was none; an instance that it lists
    `ending` seconds after it was destroyed lives on."""

    image: str
    disk: float
    filter: str
    max_price: float | None
    interruptible: bool
    max_bid: float | None
    orders: Orders
    settling: float = 60.0
    ending: float = 90.0
