"""How many requests each worker has in flight, and which one is asked next."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llmhost.engines.traffic import Work

__all__ = ["LoadTracker", "LocalLoad", "QuietLoad", "Slot"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One request's place on one worker; `load` counts it and those that the worker had already."""

    worker: str
    request: str
    load: int = 1


class LoadTracker(Protocol):
    """Counts requests in flight, and what they took. Never fails."""

    async def acquire(self, workers: Sequence[str], *, again: bool = False) -> Slot | None:
        """Takes a slot on the least loaded of `workers`, of which there is at least one.

        Among equals the first one is taken. None: all of them are about to be ended, and take no more.
        `again`: it is the same question on another worker, which is asked once and counted once.
        """
        ...

    async def release(self, slot: Slot, work: Work | None = None) -> None:
        """Gives it back, with what the answer took where there was a whole one. Asking twice is fine."""
        ...

    async def turned_away(self) -> None:
        """A question came, and there was no worker for it."""
        ...


class LocalLoad:
    """Counts the requests of this process alone, and what they took not at all: nobody could read it."""

    def __init__(self) -> None:
        self._slots: set[Slot] = set()

    async def acquire(self, workers: Sequence[str], *, again: bool = False) -> Slot:  # noqa: ARG002
        load = Counter(slot.worker for slot in self._slots)
        worker = min(workers, key=lambda worker: load[worker])
        slot = Slot(worker, secrets.token_hex(8), load[worker] + 1)
        self._slots.add(slot)
        return slot

    async def release(self, slot: Slot, work: Work | None = None) -> None:  # noqa: ARG002
        self._slots.discard(slot)

    async def turned_away(self) -> None:
        pass

    def holds(self, slot: Slot) -> bool:
        return slot in self._slots


class QuietLoad:
    """Counts as `load` does, but for this: an audit or a judge's call that finds no worker was no question
    that was turned away, and nobody buys a worker for it.
    """

    def __init__(self, load: LoadTracker) -> None:
        self._load = load

    async def acquire(self, workers: Sequence[str], *, again: bool = False) -> Slot | None:
        return await self._load.acquire(workers, again=again)

    async def release(self, slot: Slot, work: Work | None = None) -> None:
        await self._load.release(slot, work)

    async def turned_away(self) -> None:
        pass
