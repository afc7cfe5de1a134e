"""Which worker answers: one that has a slot and does not fail, and another if it fails in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from llmhost.engines.breaker import Breakers
from llmhost.engines.engine import (
    CHARACTERS_A_TOKEN,
    ChatRequest,
    Delta,
    Done,
    Embedded,
    EmbedRequest,
    Engine,
    Piece,
    ToolCall,
)
from llmhost.engines.load import Full, LoadTracker, Slot, Ticket, new_request
from llmhost.engines.queue import FairQueue
from llmhost.engines.routing import preference
from llmhost.engines.traffic import Work
from llmhost.errors import (
    EngineRefused,
    EngineUnavailable,
    LlmhostError,
    NoWorkerError,
    UntrustedWorker,
    WorkersBusy,
    WorkersFailing,
)

E = TypeVar("E")

__all__ = ["Assigned", "Collected", "Pool", "Upstream", "Wake"]


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

    def add(self, event: Assigned | Piece | Embedded | Done) -> None:
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


class Wake(Protocol):
    """Brings workers where there is none. `timeout` is for how many seconds a request waits for one."""

    timeout: float

    async def __call__(self) -> None:
        """Returns once one may come. Raises NoWorkerError, which says why none will."""
        ...

    def doubt(self) -> None:
        """All workers fail: it is to be looked whether they still exist."""
        ...


@dataclass(slots=True)
class _Wanted:
    """One request that wants a worker. `counted`: as demand; `waits`: for a slot, if `woken` for a worker."""

    model: str
    conversation: str
    tenant: str
    tokens: int
    ticket: Ticket | None
    tried: list[str] = field(default_factory=list)
    counted: bool = False
    waits: bool = False
    woken: bool = False


class Pool:
    """Asks one of the workers that `upstreams` gives for a model, at most `max_attempts` of them.

    `on_untrusted` gets the id of a worker that was left for another because it is not what it was: the user
    gets an answer and would not notice. `forget` gets the id of any such worker. In the `background`, for an
    audit or a judge, a question without a worker is not counted as rejected, so that none is bought for it.

    With a `queue`, a request waits in it where no worker has a free slot; without, workers have a queue of
    their own. `wake` is asked where there is no worker, and needs a queue. `price_limit` is what a worker may
    cost that comes, USD an hour.
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
        queue: FairQueue | None = None,
        wake: Wake | None = None,
        breakers: Breakers | None = None,
        price_limit: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._upstreams = upstreams
        self._load = load
        self._max_attempts = max_attempts
        self._on_untrusted = on_untrusted
        self._forget = forget
        self._background = background
        self._queue = queue
        self._wake = wake
        self._breakers = breakers or Breakers()
        self._price_limit = price_limit
        self._clock = clock

    def stream(
        self, request: ChatRequest, *, conversation: str = "", tenant: str = ""
    ) -> AsyncGenerator[Assigned | Piece | Done, None]:
        """Streams one answer; the last event is always `Done`. A `conversation` stays with its worker where
        that has a slot; `tenant` is whose turn it is in the queue.

        Raises:
            NoWorkerError: there is no worker, or none that takes another question.
            QueueFull: too many wait for a slot; WorkersBusy where none became free in time.
            WorkersFailing: all workers have failed lately, and are left alone for some seconds.
            EngineUnavailable: the workers tried have all failed before their first token;
                UntrustedWorker where the last of them is not what it was.
            EngineRefused: the first worker asked says that the request is wrong.
            StreamBroken: the worker failed after its first token.
        """
        tokens = request.prompt_tokens + (request.sampling.max_tokens or 0)
        return self._answer(request.model, conversation, tenant, tokens, lambda engine: engine.chat(request))

    def embed(
        self, request: EmbedRequest, *, tenant: str = ""
    ) -> AsyncGenerator[Assigned | Embedded | Done, None]:
        """The vectors of some texts come as one event, in their place in the order of `stream`; raises as
        `stream`, except StreamBroken.
        """
        tokens = sum(map(len, request.texts)) // CHARACTERS_A_TOKEN
        return self._answer(request.model, "", tenant, tokens, lambda engine: _vectors(engine, request))

    async def highest_price(self, model: str) -> float:
        """USD an hour of the dearest worker that serves the model; without one, what one may cost."""
        try:
            return max(
                (one.price_per_hour for one in await self._upstreams(model)), default=self._price_limit
            )
        except LlmhostError:
            return self._price_limit

    async def _answer(
        self,
        model: str,
        conversation: str,
        tenant: str,
        tokens: int,
        ask: Callable[[Engine], AsyncGenerator[E, None]],
    ) -> AsyncGenerator[Assigned | E, None]:
        wanted = _Wanted(model, conversation, tenant, tokens, self._ticket(tokens))
        failure: EngineUnavailable | None = None
        while len(wanted.tried) < self._max_attempts:
            async with self._turn(wanted) as turn:
                if turn is None:
                    break
                one = turn.upstream
                if isinstance(failure, UntrustedWorker):
                    self._on_untrusted(wanted.tried[-1], failure)
                wanted.tried.append(one.worker_id)
                yield Assigned(one.worker_id, one.price_per_hour, one.machine, one.digest)
                try:
                    async with aclosing(turn.play(model, ask, self._clock)) as events:
                        async for event in events:
                            yield event
                    return
                except EngineUnavailable as error:
                    failure = error
                    if isinstance(error, UntrustedWorker) and self._forget is not None:
                        await self._forget(one.worker_id)
        if failure is None:
            raise NoWorkerError(f"the workers that serve {model} are being ended", hint=_HINT_ENDING)
        raise _final(failure) from failure

    def _ticket(self, tokens: int) -> Ticket | None:
        if self._queue is None:
            return None
        timeout = max(self._queue.timeout, self._wake.timeout if self._wake else 0.0)
        return Ticket(timeout, new_request(tokens))

    @asynccontextmanager
    async def _turn(self, wanted: _Wanted) -> AsyncIterator[_Turn | None]:
        """The turn of the worker that is asked next; its slot is given back whatever happens. None where
        no other worker takes the question. Raises NoWorkerError, QueueFull.
        """
        taken = await self._take(wanted)
        if taken is None:
            yield None
            return
        upstream, slot = taken
        turn = _Turn(upstream, self._breakers)
        try:
            yield turn
        finally:
            self._breakers.left(upstream.worker_id)
            await self._load.release(slot, turn.work)
            if self._queue is not None:
                self._queue.released()

    async def _take(self, wanted: _Wanted) -> tuple[Upstream, Slot] | None:
        """A worker and a slot on it, which is waited for where there is a queue."""
        found: tuple[Upstream, Slot] | Full | None = None
        try:
            found = await self._try(wanted)
            if isinstance(found, Full):
                found = await self._wait(wanted)
            return found
        finally:
            if wanted.waits and wanted.ticket is not None and not isinstance(found, tuple):
                await self._load.give_up(wanted.ticket)

    async def _wait(self, wanted: _Wanted) -> tuple[Upstream, Slot] | None:
        assert self._queue is not None  # noqa: S101 - without a queue nothing is full
        timeout = self._wake.timeout if self._wake and wanted.woken else self._queue.timeout
        try:
            async with asyncio.timeout(timeout), self._queue.front(wanted.tenant):
                while isinstance(found := await self._try(wanted), Full):
                    await self._queue.changed()
                return found
        except TimeoutError as error:
            if wanted.woken:
                why = f"no worker became ready within {timeout:g} s"
                raise NoWorkerError(why, hint="ask again: it may be ready soon") from error
            raise WorkersBusy(f"all workers were busy for {timeout:g} s", hint="ask again later") from error

    async def _try(self, wanted: _Wanted) -> tuple[Upstream, Slot] | Full | None:
        """A worker with a slot, if one is free now. None where none of them takes the question."""
        listed = await self._listed(wanted)
        untried = {one.worker_id: one for one in listed if one.worker_id not in wanted.tried}
        allowed = [worker for worker in untried if self._breakers.allows(worker)]
        if wanted.tried and not allowed:
            return None
        if not untried:
            return await self._without_workers(wanted)
        if not allowed:
            if self._wake is not None:
                self._wake.doubt()
            wait = self._breakers.retry_in(untried)
            raise WorkersFailing(
                f"all workers that serve {wanted.model} have failed, and are tried again in {wait:.0f} s",
                wait,
                hint="`llmhost status` shows the workers",
            )
        workers = preference(wanted.conversation, allowed) if wanted.conversation else allowed
        slot = await self._acquire(workers, wanted)
        if slot is None and self._wake is not None and not wanted.tried:
            return await self._without_workers(wanted)
        if slot is None or isinstance(slot, Full):
            return slot
        self._breakers.asked(slot.worker)
        return untried[slot.worker], slot

    async def _acquire(self, workers: Sequence[str], wanted: _Wanted) -> Slot | Full | None:
        again, affine = wanted.counted, bool(wanted.conversation)
        wanted.counted = True
        if wanted.ticket is None:
            return await self._load.acquire(workers, again=again, affine=affine, tokens=wanted.tokens)
        slot = await self._load.acquire_or_wait(workers, wanted.ticket, again=again, affine=affine)
        wanted.waits = wanted.waits or isinstance(slot, Full)
        return slot

    async def _listed(self, wanted: _Wanted) -> Sequence[Upstream]:
        """The workers there are now: one may have been started since the last time."""
        try:
            listed = await self._upstreams(wanted.model)
        except LlmhostError:
            if not wanted.tried:
                raise
            return ()  # why the worker failed says more
        self._breakers.forget_all_but([upstream.worker_id for upstream in listed])
        return listed

    async def _without_workers(self, wanted: _Wanted) -> Full:
        """It waits for a worker to come. Raises NoWorkerError where none will."""
        if self._wake is None:
            if not (self._background or wanted.counted):
                await self._load.record_rejected()
            raise NoWorkerError(f"no worker is ready that serves {wanted.model}", hint=_HINT_NO_WORKER)
        # It is demand before the autoscaler looks at what there is.
        found = await self._acquire((), wanted)
        wanted.woken = True
        await self._wake()
        return found if isinstance(found, Full) else Full(1)


@dataclass(slots=True)
class _Turn:
    """One worker's turn at a question. `work` is what the answer took, once it is whole."""

    upstream: Upstream
    breakers: Breakers
    work: Work | None = None

    async def play(
        self,
        model: str,
        ask: Callable[[Engine], AsyncGenerator[E, None]],
        clock: Callable[[], float],
    ) -> AsyncGenerator[E, None]:
        """Tells `breakers` whether it gave a first token."""
        worker, first = self.upstream.worker_id, True
        try:
            async with aclosing(self._play(model, ask, clock)) as events:
                async for event in events:
                    if first:
                        first = False
                        self.breakers.answered(worker)
                    yield event
        except EngineUnavailable as error:
            self.breakers.failed(worker, error)
            raise
        except EngineRefused:
            self.breakers.answered(worker)
            raise

    async def _play(
        self,
        model: str,
        ask: Callable[[Engine], AsyncGenerator[E, None]],
        clock: Callable[[], float],
    ) -> AsyncGenerator[E, None]:
        pieces, seconds, begun = 0, 0.0, clock()
        async with aclosing(ask(self.upstream.engine)) as events:
            async for event in events:
                seconds += clock() - begun
                if isinstance(event, Done):
                    tokens = event.completion_tokens or pieces
                    self.work = Work(tokens, seconds, model, self.upstream.gpu)
                else:
                    # An engine that embeds generates nothing: its speed is that at which it reads.
                    pieces += event.tokens if isinstance(event, Embedded) else 1
                yield event
                begun = clock()  # a slow reader is not the engine's time


async def _vectors(engine: Engine, request: EmbedRequest) -> AsyncGenerator[Embedded | Done, None]:
    embedded = await engine.embed(request)
    yield embedded
    yield Done("stop", embedded.tokens, 0)


def _final(failure: EngineUnavailable) -> EngineUnavailable:
    if isinstance(failure, UntrustedWorker):
        return failure
    look = "`llmhost status` shows the workers; where they are dead, run `llmhost up`"
    return EngineUnavailable(failure.message, hint=f"{failure.hint}; {look}" if failure.hint else look)
