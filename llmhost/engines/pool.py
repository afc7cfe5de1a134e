"""Which worker answers: the one with the fewest requests in flight, and another if it fails in time."""

from __future__ import annotations

import itertools
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from llmhost.engines.engine import ChatRequest, Delta, Done, Engine, Piece, ToolCall
from llmhost.engines.traffic import Work
from llmhost.errors import EngineUnavailable, LlmhostError, NoWorkerError, UntrustedWorker

__all__ = ["Assigned", "Collected", "LoadTracker", "LocalLoad", "Pool", "Slot", "Upstream"]


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

        Among equals the one that was asked longest ago is taken. None: all of them are about to be ended, and
        take no more. `again`: it is the same question on another worker, which is counted once.
        """
        ...

    async def release(self, slot: Slot, work: Work | None = None) -> None:
        """Gives it back, with what the answer took where there was a whole one. Asking twice is fine."""
        ...

    async def record_rejected(self) -> None:
        """A question came, and there was no worker for it."""
        ...


class LocalLoad:
    """Counts the requests of this process alone, not what they took: no other process could read it."""

    def __init__(self) -> None:
        self._slots: set[Slot] = set()
        self._turns = itertools.count(1)
        self._last: dict[str, int] = {}

    async def acquire(self, workers: Sequence[str], *, again: bool = False) -> Slot:  # noqa: ARG002
        load = Counter(slot.worker for slot in self._slots)
        worker = min(workers, key=lambda worker: (load[worker], self._last.get(worker, 0)))
        self._last = {name: self._last.get(name, 0) for name in workers} | {worker: next(self._turns)}
        slot = Slot(worker, secrets.token_hex(8), load[worker] + 1)
        self._slots.add(slot)
        return slot

    async def release(self, slot: Slot, work: Work | None = None) -> None:  # noqa: ARG002
        self._slots.discard(slot)

    async def record_rejected(self) -> None:
        pass

    def holds(self, slot: Slot) -> bool:
        return slot in self._slots


_HINT_NO_WORKER = "run `llmhost up`; where `llmhost scale` runs, it has been told"
_HINT_ENDING = "run `llmhost scale` or `llmhost up`, which bring others"


@dataclass(frozen=True, slots=True)
class Upstream:
    """One worker that may be asked; USD an hour. `gpu` is empty where unknown. `machine` is its provider's
    name for the computer, `digest` names the weights that it serves, where they are known beforehand.
    """

    worker_id: str
    engine: Engine
    price_per_hour: float
    gpu: str = ""
    machine: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Assigned:
    """This worker is asked now. Comes before anything else, and again for each further worker."""

    worker_id: str
    price_per_hour: float
    machine: str = ""
    digest: str = ""


class Collected:
    """What one stream of a pool has given so far: feed it every event with `add`."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._parts: list[str] = []
        self._began = 0.0
        self.calls_tools = False
        self.assigned: Assigned | None = None
        #: empty until the engine's end mark came
        self.done = Done("", 0, 0)

    @property
    def text(self) -> str:
        return "".join(self._parts)

    @property
    def worker(self) -> str | None:
        """The last worker that was asked."""
        return self.assigned.worker_id if self.assigned else None

    @property
    def digest(self) -> str | None:
        """The weights that gave the answer: empty where they have no name, None where it was not told."""
        return (self.assigned.digest if self.assigned else "") or self.done.digest

    def add(self, event: Assigned | Piece | Done) -> None:
        if isinstance(event, Assigned):
            self.assigned, self._began = event, self._clock()
        elif isinstance(event, Delta):
            self._parts.append(event.text)
        elif isinstance(event, ToolCall):
            self.calls_tools = True
        elif isinstance(event, Done):
            self.done = event

    @property
    def seconds(self) -> float:
        """The time that the last worker has spent on it until now; 0 where none was asked."""
        return self._clock() - self._began if self.assigned else 0.0


class Pool:
    """Asks one of the workers that `upstreams` gives for a model, at most `max_attempts` of them.

    `on_untrusted` gets the id of a worker that was left for another because it is not what it was: the user
    gets an answer and would not notice. `forget` gets the id of any such worker. In the `background`, for an
    audit or a judge, a question without a worker is not counted as rejected, so that none is bought for it.
    """

    def __init__(
        self,
        upstreams: Callable[[str], Awaitable[Sequence[Upstream]]],
        load: LoadTracker,
        max_attempts: int,
        on_untrusted: Callable[[str, UntrustedWorker], None] = lambda _worker, _error: None,
        *,
        forget: Callable[[str], Awaitable[None]] | None = None,
        background: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._upstreams = upstreams
        self._load = load
        self._max_attempts = max_attempts
        self._on_untrusted = on_untrusted
        self._forget = forget
        self._background = background
        self._clock = clock

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Assigned | Piece | Done, None]:
        """Streams one answer; the last event is always `Done`.

        Raises:
            NoWorkerError: there is no worker, or none that takes another question.
            EngineUnavailable: the workers tried have all failed before their first token;
                UntrustedWorker where the last of them is not what it was.
            EngineRefused: the first worker asked says that the request is wrong.
            StreamBroken: the worker failed after its first token.
        """
        untried = {upstream.worker_id: upstream for upstream in await self._upstreams(request.model)}
        if not untried:
            if not self._background:
                await self._load.record_rejected()
            raise NoWorkerError(f"no worker is ready that serves {request.model}", hint=_HINT_NO_WORKER)
        failure: EngineUnavailable | None = None
        tried: list[str] = []
        while untried and len(tried) < self._max_attempts:
            async with self._turn(untried, again=failure is not None) as turn:
                if turn is None:
                    break
                if isinstance(failure, UntrustedWorker):
                    self._on_untrusted(tried[-1], failure)
                tried.append(turn.upstream.worker_id)
                one = turn.upstream
                yield Assigned(one.worker_id, one.price_per_hour, one.machine, one.digest)
                try:
                    async with aclosing(turn.play(request, self._clock)) as events:
                        async for event in events:
                            yield event
                    return
                except EngineUnavailable as error:
                    failure = error
                    if isinstance(error, UntrustedWorker) and self._forget is not None:
                        await self._forget(one.worker_id)
            untried = await self._others(request.model, tried)
        if failure is None:
            raise NoWorkerError(f"the workers that serve {request.model} are being ended", hint=_HINT_ENDING)
        raise _final(failure) from failure

    async def _others(self, model: str, tried: Collection[str]) -> dict[str, Upstream]:
        """The workers not tried yet, read again: one may have been started since."""
        try:
            there = await self._upstreams(model)
        except LlmhostError:  # why the worker failed says more
            return {}
        return {upstream.worker_id: upstream for upstream in there if upstream.worker_id not in tried}

    @asynccontextmanager
    async def _turn(self, untried: dict[str, Upstream], *, again: bool) -> AsyncIterator[_Turn | None]:
        """The least loaded of `untried`; its slot is given back whatever happens. None where none of them
        takes another question.
        """
        slot = await self._load.acquire(tuple(untried), again=again)
        if slot is None:
            yield None
            return
        turn = _Turn(untried[slot.worker])
        try:
            yield turn
        finally:
            await self._load.release(slot, turn.work)


@dataclass(slots=True)
class _Turn:
    """One worker's turn at a question. `work` is what the answer took, once it is whole."""

    upstream: Upstream
    work: Work | None = None

    async def play(
        self, request: ChatRequest, clock: Callable[[], float]
    ) -> AsyncGenerator[Piece | Done, None]:
        pieces, seconds, begun = 0, 0.0, clock()
        async with aclosing(self.upstream.engine.chat(request)) as events:
            async for event in events:
                seconds += clock() - begun
                if isinstance(event, Done):
                    tokens = event.completion_tokens or pieces
                    self.work = Work(tokens, seconds, request.model, self.upstream.gpu)
                else:
                    pieces += 1
                yield event
                begun = clock()  # a slow reader is not the engine's time


def _final(failure: EngineUnavailable) -> EngineUnavailable:
    if isinstance(failure, UntrustedWorker):
        return failure
    look = "`llmhost status` shows the workers; where they are dead, run `llmhost up`"
    return EngineUnavailable(failure.message, hint=f"{failure.hint}; {look}" if failure.hint else look)
