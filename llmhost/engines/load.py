"""The requests that workers have in flight, and those that wait for a slot."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from llmhost.engines.routing import choose
from llmhost.engines.traffic import Work

__all__ = ["Full", "LoadTracker", "LocalLoad", "Slot", "Ticket", "new_request"]


def new_request(tokens: int = 0) -> str:
    """The id of a request that may read and write this number of tokens: it ends with their number, by which
    `lua/acquire.lua` adds them up."""
    return f"{secrets.token_hex(8)}:{tokens}"


def _tokens_of(request: str) -> int:
    return int(request.rpartition(":")[2])


@dataclass(frozen=True, slots=True)
class Slot:
    """One request's place on one worker; `load` counts it and those that the worker had already."""

    worker: str
    request: str
    load: int = 1


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that waits where no slot is free. It counts as waiting for `lifetime` seconds at most."""

    lifetime: float
    request: str = field(default_factory=new_request)


@dataclass(frozen=True, slots=True)
class Full:
    """All slots are taken, or others wait for one; `waiting` are the requests that wait, with this one."""

    waiting: int


class LoadTracker(Protocol):
    """Counts requests in flight, and what they took. Never fails."""

    async def acquire(
        self, workers: Sequence[str], *, again: bool = False, affine: bool = False, tokens: int = 0
    ) -> Slot | None:
        """Takes a slot on one of `workers`, of which there is at least one, by the rule of `routing.choose`,
        for a request that may read and write up to `tokens` tokens.

        None: all of them are about to be ended, and take no more. `again`: the question was counted already.
        """
        ...

    async def acquire_or_wait(
        self, workers: Sequence[str], ticket: Ticket, *, again: bool = False, affine: bool = False
    ) -> Slot | Full | None:
        """As `acquire`, but no worker gets more than its slots, and a new request none while others wait: of
        those that ask again, who did so first is the first to get one.
        Where it is `Full`, the request counts as waiting until it gets a slot or gives up. Without `workers`
        it waits for one to come.
        """
        ...

    async def give_up(self, ticket: Ticket) -> None:
        """It waits no more. One that never waited is fine."""
        ...

    async def release(self, slot: Slot, work: Work | None = None) -> None:
        """Gives it back, with what the answer took where there was a whole one. Asking twice is fine."""
        ...

    async def record_rejected(self) -> None:
        """A question came, and there was no worker for it."""
        ...


class LocalLoad:
    """Counts the requests of this process alone, not what they took: no other process could read it.

    `slots` is how many questions a worker works on at once.
    """

    def __init__(self, slots: int = 1) -> None:
        self._limit = slots
        self._slots: set[Slot] = set()
        self._waiting: set[str] = set()
        #: those of them that have asked again, in this order
        self._fronts: dict[str, None] = {}
        self._turns = itertools.count(1)
        self._last: dict[str, int] = {}

    async def acquire(
        self,
        workers: Sequence[str],
        *,
        again: bool = False,  # noqa: ARG002
        affine: bool = False,
        tokens: int = 0,
    ) -> Slot | None:
        return self._take(workers, new_request(tokens), affine=affine, queues=False)

    async def acquire_or_wait(
        self,
        workers: Sequence[str],
        ticket: Ticket,
        *,
        again: bool = False,  # noqa: ARG002
        affine: bool = False,
    ) -> Slot | Full | None:
        slot = None
        if self._has_turn(workers, ticket.request):
            slot = self._take(workers, ticket.request, affine=affine, queues=True)
        if slot is None:
            self._waiting.add(ticket.request)
            return Full(len(self._waiting))
        await self.give_up(ticket)
        return slot

    def _has_turn(self, workers: Sequence[str], request: str) -> bool:
        if not self._waiting:
            return True
        if request not in self._waiting:
            return False
        self._fronts.setdefault(request)
        load = Counter(slot.worker for slot in self._slots)
        free = sum(max(0, self._limit - load[worker]) for worker in workers)
        return list(self._fronts).index(request) < free

    def _take(self, workers: Sequence[str], request: str, *, affine: bool, queues: bool) -> Slot | None:
        load, work = Counter[str](), Counter[str]()
        for slot in self._slots:
            load[slot.worker] += 1
            work[slot.worker] += _tokens_of(slot.request)
        loads, tokens = [load[worker] for worker in workers], [work[worker] for worker in workers]
        turns = [self._last.get(worker, 0) for worker in workers]
        place = choose(loads, tokens, turns, self._limit, affine=affine, queues=queues)
        if place is None:
            return None
        worker = workers[place]
        self._last = {name: self._last.get(name, 0) for name in workers} | {worker: next(self._turns)}
        slot = Slot(worker, request, load[worker] + 1)
        self._slots.add(slot)
        return slot

    async def give_up(self, ticket: Ticket) -> None:
        self._waiting.discard(ticket.request)
        self._fronts.pop(ticket.request, None)

    async def release(self, slot: Slot, work: Work | None = None) -> None:  # noqa: ARG002
        self._slots.discard(slot)

    async def record_rejected(self) -> None:
        pass

    def holds(self, slot: Slot) -> bool:
        return slot in self._slots
