"""How many requests each worker has in flight, and which one is asked next."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["LoadTracker", "LocalLoad", "Slot"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One request's place on one worker."""

    worker: str
    request: str


class LoadTracker(Protocol):
    """Counts requests in flight."""

    async def acquire(self, workers: Sequence[str]) -> Slot:
        """Takes a slot on the least loaded of `workers`, of which there is at least one.

        Among equals the first one is taken. Never fails.
        """
        ...

    async def release(self, slot: Slot) -> None:
        """Gives it back. Asking twice is fine."""
        ...


class LocalLoad:
    """Counts the requests of this process alone."""

    def __init__(self) -> None:
        self._slots: set[Slot] = set()

    async def acquire(self, workers: Sequence[str]) -> Slot:
        load = Counter(slot.worker for slot in self._slots)
        slot = Slot(min(workers, key=lambda worker: load[worker]), secrets.token_hex(8))
        self._slots.add(slot)
        return slot

    async def release(self, slot: Slot) -> None:
        self._slots.discard(slot)

    def holds(self, slot: Slot) -> bool:
        return slot in self._slots
