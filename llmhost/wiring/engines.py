"""Clients for the engines of workers, and how a worker is tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress

from llmhost.config.models import Config
from llmhost.engines.engine import ChatRequest, Endpoint, Engine, EngineLimits, Message, Progress, Sampling
from llmhost.errors import EngineUnavailable, ProviderError, StoreError
from llmhost.fleet.models import Worker, WorkerState
from llmhost.fleet.provider import Provider
from llmhost.fleet.registry import FleetRegistry

__all__ = ["Engines", "workers_to_ask"]


class Engines:
    """One client for each worker, made when it is first asked for; `aclose` it when done."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._made: dict[Worker, Engine] = {}
        self._open = AsyncExitStack()

    async def aclose(self) -> None:
        await self._open.aclose()

    def of(self, worker: Worker) -> Engine:
        """The client for this worker's engine. Raises ConfigError for a URL or token that cannot be."""
        if worker not in self._made:
            self._made[worker] = engine = self._make(worker)
            self._open.push_async_callback(engine.aclose)
        return self._made[worker]

    def serves(self, worker: Worker, model: str) -> bool:
        """Whether the worker may be asked for this model.

        llama.cpp serves its one file whatever name it is asked for; other engines know their models and
        refuse the rest themselves.
        """
        return worker.engine == self._config.engine.kind and (
            worker.engine != "llama_cpp" or worker.model == model
        )

    async def prepare(self, worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        """Makes the model present. Raises EngineError for "not yet", any other LlmhostError for "never"."""
        try:
            await self.of(worker).ensure_model(worker.model, on_progress)
        except EngineUnavailable as error:
            if worker.provider != "static":
                raise
            # Nobody is about to start somebody else's server: waiting would only hide what is wrong.
            hint = "start this server, or correct its `url` and `token` under `fleet.workers`"
            raise ProviderError(error.message, hint=hint) from error

    async def probe(self, worker: Worker) -> None:
        """Asks for one token through the front door that questions take. Raises as `Engine.chat`."""
        request = ChatRequest(worker.model, (Message("user", "Hi"),), Sampling(max_tokens=1))
        async with aclosing(self.of(worker).chat(request)) as events:
            async for _ in events:
                pass

    def _make(self, worker: Worker) -> Engine:
        config = self._config
        endpoint = Endpoint(worker.url or "", worker.token)
        limits = EngineLimits(
            connect_timeout=config.engine.connect_timeout,
            first_token_timeout=config.engine.first_token_timeout,
            token_timeout=config.engine.token_timeout,
            answer_timeout=config.engine.answer_timeout,
            max_answer_chars=config.limits.max_answer_chars,
        )
        if worker.engine == "ollama":
            from llmhost.engines.ollama import OllamaEngine

            return OllamaEngine(endpoint, limits)
        from llmhost.engines.openai import OpenAIEngine

        return OpenAIEngine(endpoint, limits)


async def workers_to_ask(provider: Provider, registry: FleetRegistry | None) -> Sequence[Worker]:
    """The workers that are ready, or where there is none, those that may be by now.

    Redis is asked first, which is quicker than the provider. Raises ProviderError, StateError.
    """
    known: Sequence[Worker] = ()
    if registry is not None:
        with suppress(StoreError):
            known = (await registry.workers()).workers
    reachable = _reachable(known) or _reachable(await provider.list())
    return [worker for worker in reachable if worker.state is WorkerState.READY] or reachable


def _reachable(workers: Sequence[Worker]) -> Sequence[Worker]:
    return [worker for worker in workers if worker.url and worker.state is not WorkerState.FAILED]
