"""The routes of Ollama's API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from llmhost.engines.engine import ModelDetails
from llmhost.errors import LlmhostError, StoreError
from llmhost.gateway import embeddings, ollama, ollama_models
from llmhost.gateway.chat import Chat, ChatWriter
from llmhost.gateway.embeddings import Embeddings
from llmhost.gateway.exchange import Exchange
from llmhost.gateway.faults import Forbidden
from llmhost.gateway.fleets import ServedFleet, ServedFleets
from llmhost.gateway.ollama_models import Described

__all__ = ["OllamaApi"]

Ask = Callable[[Exchange, Sequence[Chat], ChatWriter], Awaitable[None]]
#: path, handler, and the method: None is any
RouteOf = tuple[str, Callable[[Exchange], Awaitable[None]], str | None]
#: seconds that a worker has to say something of its model, and for which that holds
_DETAILS_TIMEOUT = 2.0
_DETAILS_LAST = 10.0


class OllamaApi:
    """`ask` answers a chat; `max_body` is in bytes."""

    def __init__(self, fleets: ServedFleets, ask: Ask, embed: Embeddings, *, max_body: int) -> None:
        self._fleets = fleets
        self._ask = ask
        self._embeddings = embed
        self._max_body = max_body
        self._since = datetime.now(UTC)
        #: what workers said of each model, and when they are asked again
        self._known: dict[str, tuple[float, ModelDetails]] = {}

    def routes(self) -> Iterator[RouteOf]:
        yield "/api/version", self._version, "GET"
        yield "/api/tags", self._tags, "GET"
        yield "/api/ps", self._running, "GET"
        yield "/api/show", self._show, "POST"
        yield "/api/chat", self._chat, "POST"
        yield "/api/generate", self._generate, "POST"
        yield "/api/embed", self._embed, "POST"
        yield "/api/embeddings", self._embed_prompt, "POST"
        for path, instead in ollama_models.REFUSED.items():
            yield path, _refusing(instead), None

    async def _version(self, exchange: Exchange) -> None:
        await exchange.reply(200, {"version": ollama_models.API_VERSION})

    async def _tags(self, exchange: Exchange) -> None:
        fleets = self._visible(exchange)
        models = [await self._of_fleet(name, fleet) for name, fleet in fleets.named()]
        # The embedding model is not loaded for a list: preparing one that is not llmhost's own takes a while.
        models += [ollama_models.of_embedder(name, 0, self._since) for name in fleets.embedders]
        await exchange.reply(200, {"models": [model.listed() for model in models]})

    async def _running(self, exchange: Exchange) -> None:
        fleets = [fleet for fleet in self._visible(exchange).fleets if await fleet.ready()]
        models = [await self._of_fleet(fleet.model, fleet) for fleet in fleets]
        await exchange.reply(200, {"models": [model.running() for model in models]})

    async def _show(self, exchange: Exchange) -> None:
        name = (await exchange.read(ollama_models.SHOW_BODY, self._max_body)).wanted
        fleets = self._visible(exchange)
        if (embedder := fleets.embedder_of(name)) is not None:
            max_tokens = await self._embeddings.max_tokens(embedder)
            described = ollama_models.of_embedder(name, max_tokens, self._since)
        else:
            described = await self._of_fleet(name, fleets.of(name))
        await exchange.reply(200, described.shown())

    async def _chat(self, exchange: Exchange) -> None:
        body = await exchange.read(ollama.CHAT_BODY, self._max_body)
        writer = ollama.ChatWriter(body.model)
        if body.messages:
            await self._ask(exchange, [ollama.chat_of(body)], writer)
        else:
            self._visible(exchange).of(body.model)
            await exchange.reply(200, writer.loaded(unloads=body.unloads))

    async def _generate(self, exchange: Exchange) -> None:
        body = await exchange.read(ollama.GENERATE_BODY, self._max_body)
        chat, writer = ollama.generated_chat_of(body), ollama.GenerateWriter(body.model)
        if body.prompt or body.images:
            await self._ask(exchange, [chat], writer)
        else:
            self._visible(exchange).of(body.model)
            await exchange.reply(200, writer.loaded(unloads=body.unloads))

    async def _embed(self, exchange: Exchange) -> None:
        body = await exchange.read(embeddings.EMBED_BODY, self._max_body)
        await embeddings.reply(exchange, self._embeddings.embed(body, exchange))

    async def _embed_prompt(self, exchange: Exchange) -> None:
        body = await exchange.read(embeddings.PROMPT_BODY, self._max_body)
        await embeddings.reply(exchange, self._embeddings.prompt(body, exchange))

    def _visible(self, exchange: Exchange) -> ServedFleets:
        """What the caller may know of."""
        return self._fleets.limited_to(exchange.caller.models)

    async def _of_fleet(self, name: str, fleet: ServedFleet) -> Described:
        digest, sessions = "", fleet.answerer.sessions
        if sessions is not None:
            with suppress(StoreError):
                digest = await sessions.weights.digest(fleet.model)
        return ollama_models.of_fleet(name, fleet.config, digest, await self._details(fleet), self._since)

    async def _details(self, fleet: ServedFleet) -> ModelDetails:
        """What a worker says of the model, if there is one that does so in time."""
        now, name = asyncio.get_running_loop().time(), fleet.model
        known = self._known.get(name)
        if known is None or now > known[0]:
            details = ModelDetails()
            with suppress(LlmhostError, TimeoutError):
                if fleet.details is not None:
                    async with asyncio.timeout(_DETAILS_TIMEOUT):
                        details = await fleet.details()
            known = self._known[name] = now + _DETAILS_LAST, details
        return known[1]


def _refusing(instead: str) -> Callable[[Exchange], Awaitable[None]]:
    async def refuse(_: Exchange) -> None:
        raise Forbidden("models are not changed here", hint=instead)

    return refuse
