"""The gateway's routes: which path is which API's, and how an error leaves it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from llmhost import __version__
from llmhost.errors import LlmhostError
from llmhost.gateway import anthropic, embeddings, ollama, openai, openapi, responses
from llmhost.gateway.access import Access
from llmhost.gateway.asking import Questions, ask_streamed, ask_whole, read_cache_control
from llmhost.gateway.chat import Chat, ChatWriter
from llmhost.gateway.command import COMMAND_PATH, answer_command
from llmhost.gateway.embeddings import Embeddings
from llmhost.gateway.exchange import ClientGone, Exchange
from llmhost.gateway.faults import Fault, NotFound
from llmhost.gateway.fleets import ServedFleets
from llmhost.gateway.observe import Observation
from llmhost.gateway.ollama_api import OllamaApi
from llmhost.gateway.page import Page
from llmhost.gateway.responses_writer import ResponseWriter

__all__ = ["Gateway", "path_of_route"]

_log = logging.getLogger("llmhost.gateway")

Handler = Callable[[Exchange], Awaitable[None]]
ErrorShape = Callable[[Fault], object]


class Gateway:
    """Answers on one URL for all of `fleets`, to whom `access` admits. `max_body` is in bytes; `observation`
    gets each request.
    """

    def __init__(
        self,
        fleets: ServedFleets,
        access: Access,
        *,
        max_body: int,
        observation: Observation,
    ) -> None:
        self._fleets = fleets
        self._access = access
        self._observation = observation
        self._max_body = max_body
        self._questions = Questions()
        self._embeddings = Embeddings(fleets)
        self._ollama = OllamaApi(fleets, self._ask, self._embeddings, max_body=max_body)

    def app(self) -> ASGIApp:
        """The ASGI application."""
        return self._observation.of(_Application(self.routes(), self._access))

    def routes(self) -> Sequence[Route]:
        """Each path, of which `openapi` tells clients."""
        return [
            self._route("/v1/chat/completions", self._chat, "POST"),
            self._route("/v1/completions", self._completion, "POST"),
            self._route("/v1/embeddings", self._embed, "POST"),
            self._route("/v1/responses", self._response, "POST"),
            Route("/v1/messages", _anthropic(self._messages, "POST")),
            Route("/v1/messages/count_tokens", _anthropic(self._count_tokens, "POST")),
            self._by_client("/v1/models", self._models, self._anthropic_models),
            self._by_client("/v1/models/{model:path}", self._model, self._anthropic_model),
            self._route("/healthz", self._alive, "GET"),
            self._route("/readyz", self._readiness, "GET"),
            self._route("/metrics", self._metrics, "GET"),
            self._route("/health/backlog", self._backlog, "GET"),
            self._route("/openapi.json", self._openapi, "GET"),
            *(self._route(path, handler, method) for path, handler, method in Page(self._fleets).routes()),
            self._route(COMMAND_PATH, self._command, "POST"),
            *(
                self._route(path, handler, method, ollama.error)
                for path, handler, method in self._ollama.routes()
            ),
        ]

    def _route(
        self, path: str, handler: Handler, method: str | None, shape: ErrorShape = openai.error
    ) -> Route:
        return Route(path, _Endpoint(handler, shape, method))

    def _by_client(self, path: str, handler: Handler, of_anthropic: Handler) -> Route:
        endpoint = _Endpoint(handler, openai.error, "GET")
        return Route(path, _ByClient(endpoint, _anthropic(of_anthropic, "GET")))

    # OpenAI

    async def _chat(self, exchange: Exchange) -> None:
        body = await exchange.read(openai.CHAT_BODY, self._max_body)
        writer = openai.ChatWriter(body.model, include_usage=body.include_usage)
        await self._ask(exchange, [openai.chat_of(body)], writer)

    async def _completion(self, exchange: Exchange) -> None:
        body = await exchange.read(openai.COMPLETION_BODY, self._max_body)
        writer = openai.CompletionWriter(body.model, include_usage=body.include_usage)
        await self._ask(exchange, openai.completions_of(body), writer)

    async def _embed(self, exchange: Exchange) -> None:
        body = await exchange.read(embeddings.OPENAI_BODY, self._max_body)
        await embeddings.reply(exchange, self._embeddings.openai(body, exchange))

    async def _response(self, exchange: Exchange) -> None:
        body = await exchange.read(responses.RESPONSE_BODY, self._max_body)
        await self._ask(exchange, [responses.chat_of(body)], ResponseWriter(body))

    async def _models(self, exchange: Exchange) -> None:
        fleets = self._visible(exchange)
        data = [openai.model(name) for name in fleets.names]
        data += [openai.model(name, embeds=True) for name in fleets.embedders]
        await exchange.reply(200, {"object": "list", "data": data})

    async def _model(self, exchange: Exchange) -> None:
        name: str = exchange.scope["path_params"]["model"]
        embeds = self._visible(exchange).embedder_of(name) is not None
        if not embeds:
            self._visible(exchange).of(name)
        await exchange.reply(200, openai.model(name, embeds=embeds))

    # Anthropic

    async def _messages(self, exchange: Exchange) -> None:
        body = await exchange.read(anthropic.MESSAGES_BODY, self._max_body)
        chat = anthropic.chat_of(body, exchange.header("x-claude-code-session-id"))
        writer = anthropic.MessageWriter(chat, thoughts=anthropic.wants_thoughts(body))
        await self._ask(exchange, [chat], writer)

    async def _count_tokens(self, exchange: Exchange) -> None:
        body = await exchange.read(anthropic.COUNT_BODY, self._max_body)
        self._visible(exchange).of(body.model)
        await exchange.reply(200, {"input_tokens": anthropic.estimate_tokens(anthropic.chat_of(body))})

    async def _anthropic_models(self, exchange: Exchange) -> None:
        await exchange.reply(200, anthropic.model_list(self._visible(exchange).names))

    async def _anthropic_model(self, exchange: Exchange) -> None:
        name: str = exchange.scope["path_params"]["model"]
        self._visible(exchange).of(name)
        await exchange.reply(200, anthropic.model(name))

    # Life

    async def _alive(self, exchange: Exchange) -> None:
        version = {"version": __version__} if exchange.caller.is_known else {}
        await exchange.reply(200, {"status": "ok", **version})

    async def _readiness(self, exchange: Exchange) -> None:
        fleets = {fleet.config.fleet.name: await fleet.ready() for fleet in self._fleets.fleets}
        body = {"fleets": fleets} if exchange.caller.is_known else {}
        await exchange.reply(200 if all(fleets.values()) else 503, body)

    async def _command(self, exchange: Exchange) -> None:
        await answer_command(exchange, self._fleets, self._max_body)

    async def _metrics(self, exchange: Exchange) -> None:
        body, media_type = await self._observation.exposition(self._fleets)
        await exchange.reply(200, body, {"content-type": media_type})

    async def _backlog(self, exchange: Exchange) -> None:
        await exchange.reply(200, asdict(self._observation.backlog.count(time.monotonic())))

    async def _openapi(self, exchange: Exchange) -> None:
        await exchange.reply(200, openapi.document_bytes(), {"content-type": "application/json"})

    def _visible(self, exchange: Exchange) -> ServedFleets:
        """What the caller may know of."""
        return self._fleets.limited_to(exchange.caller.models)

    async def _ask(self, exchange: Exchange, chats: Sequence[Chat], writer: ChatWriter) -> None:
        """Answers the chats, which are of one model."""
        fleet = self._visible(exchange).of(chats[0].model)
        control = read_cache_control(exchange.header("cache-control"))
        if session := exchange.header("x-openwebui-chat-id"):
            chats = [replace(chat, sticky=chat.sticky or session) for chat in chats]
        if unknown := chats[0].unknown:
            exchange.headers["x-llmhost-unknown-fields"] = _names(unknown)
        questions = await self._questions.of(chats, fleet, control, exchange.caller)
        exchange.record.asks(fleet, questions)
        answer = ask_streamed if chats[0].stream else ask_whole
        await answer(exchange, fleet, questions, writer)


#: unknown fields that are named, and characters of a name: clients may send any number
_NAMED_FIELDS, _SHOWN = 10, 60


def _names(fields: Sequence[str]) -> str:
    return ", ".join(name[:_SHOWN] for name in fields[:_NAMED_FIELDS])


#: first steps of the paths that OpenAI's and Anthropic's clients find below ``/v1``
_BELOW_V1 = frozenset({"chat", "completions", "embeddings", "messages", "models", "responses"})


def path_of_route(path: str) -> str:
    """The path that a client means whose base URL has a ``/v1`` too many, or none, or a slash at its end."""
    steps = [step for step in path.split("/") if step]
    while steps[:1] == ["v1"] and steps[1:2] in (["v1"], ["api"]):
        del steps[0]
    if steps and steps[0] in _BELOW_V1:
        steps.insert(0, "v1")
    return "/" + "/".join(steps)


class _Application:
    """Gives each path to its endpoint. Those with parameters are starlette's to find, after all others."""

    def __init__(self, routes: Sequence[Route], access: Access) -> None:
        self.access = access
        self._fixed = {route.path: route.app for route in routes if "{" not in route.path}
        others = [route for route in routes if "{" in route.path]
        self._others = Router(others, redirect_slashes=False, default=_no_such_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        path = scope["path"] = path_of_route(scope["path"])
        await self._fixed.get(path, self._others)(scope, receive, send)


class _Endpoint:
    """An ASGI application that answers with `handler`, and with its errors in `shape`. `id_header` is where
    clients look for the request's id.
    """

    def __init__(
        self,
        handler: Handler,
        shape: ErrorShape,
        method: str | None = None,
        id_header: str = "x-request-id",
    ) -> None:
        self._handler = handler
        self._shape = shape
        self._method = method
        self._id_header = id_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        exchange.headers[self._id_header] = exchange.id
        try:
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            if self._method not in (None, method):
                exchange.headers["allow"] = str(self._method)
                fault = Fault(405, "method_not_allowed", f"use {self._method} here", request=exchange.id)
                await self._answer(exchange, fault)
                return
            exchange.caller = await scope["app"].access.admit(exchange)
            await self._handler(exchange)
        except ClientGone:
            return
        except LlmhostError as error:
            await self._answer(exchange, exchange.fault_of(error))
        except Exception as error:  # noqa: BLE001 - logged, and not shown
            _log.exception("%s %s failed", scope["method"], scope["path"])
            await self._answer(exchange, exchange.fault_of(error))

    async def _answer(self, exchange: Exchange, fault: Fault) -> None:
        exchange.record.error = fault.status
        if exchange.started:  # what was begun cannot be taken back, so that it is cut off
            raise ConnectionError(fault.message)
        headers = {} if fault.retry_after is None else {"retry-after": str(fault.retry_after)}
        if fault.status == 401:
            headers["www-authenticate"] = "Bearer"
        if fault.status == 408:
            headers["connection"] = "close"
        await exchange.reply(fault.status, self._shape(fault), headers)


def _anthropic(handler: Handler, method: str | None = None) -> _Endpoint:
    return _Endpoint(handler, anthropic.error, method, "request-id")


class _ByClient:
    """A path that several APIs have: Anthropic's clients send the version of theirs with each request."""

    def __init__(self, endpoint: ASGIApp, of_anthropic: ASGIApp) -> None:
        self._endpoint = endpoint
        self._of_anthropic = of_anthropic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        speaks_anthropic = any(name == b"anthropic-version" for name, _ in scope.get("headers", ()))
        await (self._of_anthropic if speaks_anthropic else self._endpoint)(scope, receive, send)


async def _refuse(exchange: Exchange) -> None:
    raise NotFound(f"there is no {exchange.scope['path'][:100]!r} here")


_no_such_path_of_ollama = _Endpoint(_refuse, ollama.error)
_no_such_path_elsewhere = _ByClient(_Endpoint(_refuse, openai.error), _anthropic(_refuse))


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    """Says so in the shape of the API that the path seems to be of."""
    of_ollama = scope["path"].startswith("/api/")
    await (_no_such_path_of_ollama if of_ollama else _no_such_path_elsewhere)(scope, receive, send)
