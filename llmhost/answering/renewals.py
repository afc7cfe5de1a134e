"""Which stale answers this process renews, and when: a few at once, each not again for a while. A flight
keeps other processes from renewing the same one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Renewals"]

#: seconds; an answer that could not be renewed is asked for again after this time
_PAUSE = 10.0
#: renewals at once, beside the questions of users
_AT_ONCE = 4
#: entries of which it is known when they were last renewed
_KNOWN = 1000


@dataclass(slots=True)
class Renewals:
    clock: Callable[[], float] = time.monotonic
    #: how many are under way
    running: int = field(default=0, init=False)
    #: when each entry was last begun to be renewed, oldest first
    _begun: dict[str, float] = field(default_factory=dict, init=False)

    def begin(self, entry: str) -> bool:
        """Whether the entry is to be renewed now; `end` is to be called then."""
        now = self.clock()
        if self.running >= _AT_ONCE or now < self._begun.get(entry, -math.inf) + _PAUSE:
            return False
        self._begun.pop(entry, None)
        self._begun[entry] = now
        if len(self._begun) > _KNOWN:
            del self._begun[next(iter(self._begun))]
        self.running += 1
        return True

    def end(self) -> None:
        self.running -= 1
