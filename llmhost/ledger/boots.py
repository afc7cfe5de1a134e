"""How long workers took to their first answer, and what that says of the next one. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

__all__ = ["LONGEST_BOOT", "boot_seconds", "learned_boot"]

#: seconds; whatever took a day was no boot
LONGEST_BOOT = 86_400.0

#: of the boots; three in four are as quick, and one that hung for an hour changes nothing
_QUANTILE = 0.75

#: boots; what came before them was another image, another market
_NEWEST = 20


def learned_boot(times: Sequence[float]) -> float | None:
    """What to expect of the next worker, seconds; None where nothing was seen. `times` has the newest last.

    It is the nearest-rank 75th percentile of the newest twenty.
    """
    newest = sorted(times[-_NEWEST:])
    return newest[math.ceil(_QUANTILE * len(newest)) - 1] if newest else None


def boot_seconds(raw: bytes | str) -> float | None:
    """Of one record in Redis; None where it makes no sense."""
    try:
        seconds = float(json.loads(raw)["seconds"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return seconds if 0 <= seconds <= LONGEST_BOOT else None
