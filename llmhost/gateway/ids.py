"""Names of requests, answers and calls.

They tell one from another and are no secrets, so that the system need not be asked for each.
"""

from __future__ import annotations

import random

__all__ = ["new_id"]

_generator = random.Random()


def new_id(prefix: str, digits: int = 24) -> str:
    """The prefix, and hexadecimal digits that no other name has."""
    return f"{prefix}{_generator.getrandbits(4 * digits):0{digits}x}"
