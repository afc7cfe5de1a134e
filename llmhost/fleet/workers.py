"""Clients for the engines of workers, and how a worker is prepared and probed.

The one module of the fleet that imports engine clients, each when it is first needed: a factory handed in by
`wiring` would hold the same imports and one indirection more.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from llmhost.config.models import Config
from llmhost.engines.engine import (
    ChatRequest,
    Done,
    EmbedRequest,
    Endpoint,
    Engine,
    EngineLimits,
    Message,
    Progress,
    Sampling,
)
from llmhost.engines.pool import Upstream
from llmhost.errors import (
    EngineError,
    EngineRefused,
    EngineUnavailable,
    ProviderError,
    StoreError,
    UntrustedWorker,
)
from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.provider import Provider
from llmhost.fleet.registry import FleetRegistry

if TYPE_CHECKING:
    from llmhost.engines.http import HttpEngine
    from llmhost.engines.worker_report import WorkerApi

__all__ = ["Engines", "WorkerList", "workers_to_ask"]

#: seconds between two questions how far a rented worker is, whether it answers or not
_PROGRESS_POLL = 1.0

#: seconds; a worker that comes or goes is known after this time at the latest
_LIST_PERIOD = 1.0


async def _nothing(*_: object) -> None:
    pass


class Engines:
    """One client for each way to a worker, made when it is first asked for; `aclose` it when done.

    `sleep` passes the time between two looks at a worker that is being set up. `on_served` gets a model and
    the digest under which a worker serves it, `on_untrusted` the id of a worker that is not what it was.
    """

    def __init__(
        self,
        config: Config,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        on_served: Callable[[str, str], Awaitable[None]] = _nothing,
        on_untrusted: Callable[[str], Awaitable[None]] = _nothing,
    ) -> None:
        self._config = config
        self._sleep = sleep
        self._on_served = on_served
        self._on_untrusted = on_untrusted
        self._engines: dict[tuple[str, Endpoint], HttpEngine] = {}
        self._worker_apis: dict[Endpoint, WorkerApi] = {}
        #: how far each worker's set-up was when it last told: what a lost connection does not undo
        self._reached: dict[str, Progress] = {}

    async def aclose(self) -> None:
        for engine in self._engines.values():
            await engine.aclose()
        for api in self._worker_apis.values():
            await api.aclose()

    async def forget_all_but(self, workers: Sequence[Worker]) -> None:
        """Forgets all other workers, and their clients; requests in flight go on."""
        kept = {(worker.engine, self._endpoint(worker)) for worker in workers}
        endpoints, ids = {endpoint for _, endpoint in kept}, {worker.id for worker in workers}
        self._reached = {id: reached for id, reached in self._reached.items() if id in ids}
        for engine in [self._engines.pop(way) for way in [*self._engines] if way not in kept]:
            await engine.retire()
        for api in [self._worker_apis.pop(one) for one in [*self._worker_apis] if one not in endpoints]:
            await api.retire()

    def of(self, worker: Worker) -> Engine:
        """The client for this worker's engine. Raises ConfigError for a URL or token that cannot be."""
        way = (worker.engine, self._endpoint(worker))
        if way not in self._engines:
            self._engines[way] = self._make(*way)
        return self._engines[way]

    def worker_api(self, worker: Worker) -> WorkerApi:
        """Where a rented worker tells how it is doing. Raises ConfigError as `of`."""
        from llmhost.engines.worker_report import WorkerApi

        endpoint = self._endpoint(worker)
        if endpoint not in self._worker_apis:
            self._worker_apis[endpoint] = WorkerApi(endpoint, self._limits)
        return self._worker_apis[endpoint]

    def serves(self, worker: Worker, model: str) -> bool:
        """Whether the worker may be asked for this model.

        llama.cpp serves its one file whatever name it is asked for; other engines know their models and
        refuse the rest themselves.
        """
        return worker.engine == self._config.engine.kind and (
            worker.engine != "llama_cpp" or worker.model == model
        )

    def upstreams(self, workers: Sequence[Worker], model: str) -> Sequence[Upstream]:
        """Those of the workers that may be asked for this model, each with its client."""
        return [
            Upstream(
                worker.id,
                self.of(worker),
                worker.price_per_hour,
                worker.gpu,
                worker.machine,
                worker.digest,
            )
            for worker in workers
            if self.serves(worker, model)
        ]

    async def prepare(self, worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        """Makes the model present; a rented worker does so itself, and is followed.

        Raises EngineError for "not yet", UntrustedWorker and any other LlmhostError for "never".
        """
        try:
            async with self._trusting(worker):
                await self._prepare(worker, on_progress)
        except EngineUnavailable as error:
            if worker.provider != "static":
                raise
            # A server that llmhost does not run will not be started by waiting: say what is wrong.
            hint = error.hint or "start this server, or correct its `url` under `fleet.workers`"
            raise ProviderError(error.message, hint=hint) from error

    async def _prepare(self, worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        if self.is_rented(worker):
            await self._follow(worker, on_progress)
        else:
            await self.of(worker).ensure_model(worker.model, on_progress)

    async def probe(self, worker: Worker) -> None:
        """Asks for one token, or a vector, through the front door that questions take.

        Raises as `Engine.chat`, and ProviderError where a rented worker does not use its GPU.
        """
        engine = self.of(worker)
        async with self._trusting(worker):
            try:
                await self._chat(engine, worker.model)
            except EngineRefused:
                if not await _embeds(engine, worker.model):
                    raise
        if self.is_rented(worker):
            with suppress(EngineError):  # it has answered; what its model runs on can be asked the next time
                if (await engine.model_status(worker.model)).on_cpu:
                    raise ProviderError(
                        "its engine does not use the GPU: the model runs on the CPU",
                        hint="`llmhost up` replaces it; keep `cuda_max_good>=12.4` in `vast.offers`",
                    )

    async def _chat(self, engine: Engine, model: str) -> None:
        request = ChatRequest(model, (Message("user", "Hi"),), Sampling(max_tokens=1))
        async with aclosing(engine.chat(request)) as events:
            async for event in events:
                if isinstance(event, Done) and event.digest:
                    await self._on_served(model, event.digest)

    @asynccontextmanager
    async def _trusting(self, worker: Worker) -> AsyncIterator[None]:
        """Tells `on_untrusted` where the block finds that the worker is not what it was."""
        try:
            yield
        except UntrustedWorker:
            await self._on_untrusted(worker.id)
            raise

    async def _follow(self, worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        """Returns when the worker's own set-up is through.

        Raises:
            EngineUnavailable: it cannot be asked at the moment; another call goes on from there.
            UntrustedWorker: another server answers at its address.
            ProviderError: it says that it has failed.
        """
        on_progress(self._reached.setdefault(worker.id, Progress("installing")))
        while True:
            try:
                report = await self.worker_api(worker).progress()
            except UntrustedWorker:
                raise
            except EngineUnavailable:
                await self._sleep(_PROGRESS_POLL)
                raise
            if report.stage == "failed":
                raise ProviderError(f"its set-up failed: {report.detail or 'it does not say why'}")
            if report.stage == "ready":
                return
            self._reached[worker.id] = step = Progress(report.stage, report.fraction)
            on_progress(step)
            await self._sleep(_PROGRESS_POLL)

    def _make(self, kind: str, endpoint: Endpoint) -> HttpEngine:
        if kind == "ollama":
            from llmhost.engines.ollama import OllamaEngine

            return OllamaEngine(endpoint, self._limits)
        from llmhost.engines.openai import OpenAIEngine

        return OpenAIEngine(endpoint, self._limits)

    def is_rented(self, worker: Worker) -> bool:
        """Whether it reports on itself, and is trusted by its own certificate alone."""
        return self._config.fleet.rents and worker.provider == self._config.fleet.provider

    def _endpoint(self, worker: Worker) -> Endpoint:
        """A rented worker is trusted by its own certificate or not at all: an empty one matches none."""
        certificate = worker.certificate or ("" if self.is_rented(worker) else None)
        return Endpoint(worker.url or "", worker.token, certificate, own=worker.provider == "local")

    @property
    def _limits(self) -> EngineLimits:
        config = self._config
        return EngineLimits(
            connect_timeout=config.engine.connect_timeout,
            first_token_timeout=config.engine.first_token_timeout,
            token_timeout=config.engine.token_timeout,
            answer_timeout=config.engine.answer_timeout,
            max_answer_chars=config.limits.max_answer_chars,
            context=config.engine.context,
        )


async def _embeds(engine: Engine, model: str) -> bool:
    """Whether the model is one that gives embeddings alone: it refuses to chat."""
    with suppress(EngineRefused):
        return bool((await engine.embed(EmbedRequest(model, ("Hi",)))).vectors)
    return False


class WorkerList:
    """The workers that may be asked, read by `read` no more than once in `period` seconds, however many
    questions come meanwhile. Raises what `read` raises.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Sequence[Worker]]],
        *,
        period: float = _LIST_PERIOD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._period = period
        self._clock = clock
        self._workers: Sequence[Worker] = ()
        self._expires = -math.inf
        self._turn = asyncio.Lock()

    async def workers(self) -> Sequence[Worker]:
        async with self._turn:
            if self._clock() >= self._expires:
                self._workers = await self._read()
                self._expires = self._clock() + self._period
            return self._workers


async def workers_to_ask(
    provider: Provider, registry: FleetRegistry | None, *, ready_only: bool = False
) -> Sequence[Worker]:
    """The workers that are ready, or where there is none, those that may be by now; with `ready_only` none,
    for those who can wait until one is.

    Redis is asked first, which is quicker than the provider. Raises ProviderError, StateError.
    """
    known: Sequence[Worker] | None = None
    if registry is not None:
        with suppress(StoreError):
            known = (await registry.workers()).workers
    reachable = _reachable(known or ())
    if not reachable and not (ready_only and known is not None):
        reachable = _reachable(await provider.list())
    ready = [worker for worker in reachable if worker.state is WorkerState.READY]
    return ready if ready_only and known is not None else ready or reachable


def _reachable(workers: Sequence[Worker]) -> Sequence[Worker]:
    return [worker for worker in workers if worker.url and worker.state is not WorkerState.FAILED]
