"""The label of an instance: whose it is, and when it was ordered. Pure.

``llmhost/{fleet}/{unix seconds}-{8 hex}``. The last part names the order: it is unique to one purchase,
so that after a crash the instance can be found, and its seconds are our own clock's.
"""

from __future__ import annotations

import re

__all__ = ["label_of", "new_order", "order_in", "ordered_at"]

_ORDER = re.compile(r"(\d{9,11})-[0-9a-f]{8}")


def new_order(now: float, chance: int) -> str:
    """The name of an order made `now`, Unix seconds; `chance` tells orders of one second apart."""
    return f"{int(now):09d}-{chance & 0xFFFFFFFF:08x}"


def label_of(fleet: str, order: str) -> str:
    return f"llmhost/{fleet}/{order}"


def order_in(label: str | None, fleet: str) -> str | None:
    """What stands for the order in a label of this fleet; None where the label is not this fleet's."""
    prefix = label_of(fleet, "")
    return label[len(prefix) :] if label is not None and label.startswith(prefix) else None


def ordered_at(order: str) -> float | None:
    """Unix seconds; None where `order` is nothing that llmhost made."""
    match = _ORDER.fullmatch(order)
    return float(match.group(1)) if match else None
