"""Clients for the engines of workers, and how a worker is tried."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing

from llmhost.config.models import Config
from llmhost.engines.engine import ChatRequest, Endpoint, Engine, EngineLimits, Message, Progress, Sampling
from llmhost.errors import EngineUnavailable, ProviderError
from llmhost.fleet.models import Worker

__all__ = ["Engines"]


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
