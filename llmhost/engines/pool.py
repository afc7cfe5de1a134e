"""Which worker answers: the one with the fewest requests in flight, and another if it fails in time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from llmhost.engines.engine import ChatRequest, Delta, Done, Engine
from llmhost.engines.load import LoadTracker
from llmhost.errors import EngineUnavailable, NoWorkerError, UntrustedWorker

__all__ = ["Assigned", "Pool", "Upstream"]


@dataclass(frozen=True, slots=True)
class Upstream:
    """One worker that may be asked; USD an hour."""

    worker_id: str
    engine: Engine
    price_per_hour: float


@dataclass(frozen=True, slots=True)
class Assigned:
    """This worker is asked now. Comes before anything else, and again for each further worker."""

    worker_id: str
    price_per_hour: float


class Pool:
    """Asks one of the workers that `upstreams` gives for a model, at most `max_attempts` of them.

    `on_untrusted` is told by id which worker was left for another because it is not what it was: whoever
    asked gets an answer and would never know.
    """

    def __init__(
        self,
        upstreams: Callable[[str], Awaitable[Sequence[Upstream]]],
        load: LoadTracker,
        max_attempts: int,
        on_untrusted: Callable[[str, UntrustedWorker], None] = lambda _worker, _error: None,
    ) -> None:
        self._upstreams = upstreams
        self._load = load
        self._max_attempts = max_attempts
        self._on_untrusted = on_untrusted

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Assigned | Delta | Done, None]:
        """Streams one answer; the last event is always `Done`.

        Raises:
            NoWorkerError: there is no worker.
            EngineUnavailable: the workers tried have all failed before their first token;
                UntrustedWorker where the last of them is not what it was.
            EngineRefused: the first worker asked says that the request is wrong.
            StreamBroken: the worker failed after its first token.
        """
        untried = {upstream.worker_id: upstream for upstream in await self._upstreams(request.model)}
        if not untried:
            raise NoWorkerError(f"no worker is ready that serves {request.model}", hint="run `llmhost up`")
        for left in reversed(range(min(self._max_attempts, len(untried)))):
            async with self._assigned(untried) as upstream:
                yield Assigned(upstream.worker_id, upstream.price_per_hour)
                try:
                    async with aclosing(upstream.engine.chat(request)) as events:
                        async for event in events:
                            yield event
                    return
                except EngineUnavailable as error:
                    if not left:
                        raise _final(error) from error
                    if isinstance(error, UntrustedWorker):
                        self._on_untrusted(upstream.worker_id, error)

    @asynccontextmanager
    async def _assigned(self, untried: dict[str, Upstream]) -> AsyncIterator[Upstream]:
        """The least loaded of `untried`, taken out of it; its slot is given back whatever happens."""
        slot = await self._load.acquire(tuple(untried))
        try:
            yield untried.pop(slot.worker)
        finally:
            await self._load.release(slot)


def _final(failure: EngineUnavailable) -> EngineUnavailable:
    if isinstance(failure, UntrustedWorker):
        return failure
    look = "`llmhost status` shows the workers; where they are dead, run `llmhost up`"
    return EngineUnavailable(failure.message, hint=f"{failure.hint}; {look}" if failure.hint else look)
