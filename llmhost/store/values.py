"""Reading what Redis returns: bytes as a rule, text where a client decodes. Pure."""

from __future__ import annotations

import math

__all__ = ["amount", "text"]


def text(raw: bytes | str) -> str:
    """The value as text; bytes that are no UTF-8 are marked, not refused."""
    return raw if isinstance(raw, str) else raw.decode("utf-8", "replace")


def amount(raw: bytes | str | None) -> float | None:
    """A finite number of at least 0, or None where the value is none."""
    try:
        value = float(raw or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
