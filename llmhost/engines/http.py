"""What every engine over HTTP shares: one client, its limits, and the translation of every fault."""

from __future__ import annotations

import json
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import ClassVar

import httpx

from llmhost.engines.engine import ChatRequest, Delta, Done, Endpoint, EngineLimits, ModelStatus, Progress
from llmhost.engines.faults import HttpStatus, before_first_token, transport_faults
from llmhost.engines.lines import LineSplitter
from llmhost.engines.patience import Patience
from llmhost.engines.wire import BadReply, Event, JsonObject, Reader, Thinking, parse_object
from llmhost.errors import ConfigError, StreamBroken

__all__ = ["HttpEngine"]

#: seconds; a server that works on an answer still tells its version and its models at once
_STATUS_TIMEOUT = 5.0

#: a connection for each request: llama.cpp closes one after a streamed answer without saying so, and
#: whoever asks on it in that moment is not answered (seen with one question in ten)
_ONE_EACH = httpx.Limits(max_connections=None, max_keepalive_connections=0)

#: bytes; the list of models of a large Ollama has some hundred kB
_MAX_BODY = 16 << 20

#: bytes; an explanation of an error, of which one line is shown
_MAX_ERROR = 64 << 10


class HttpEngine(ABC):
    """An engine behind HTTP. A backend says how a request is written and how a line is read.

    The worker is spoken to directly: a proxy from the environment would see every prompt and token.
    """

    chat_path: ClassVar[str]

    def __init__(self, endpoint: Endpoint, limits: EngineLimits | None = None) -> None:
        """Raises ConfigError for a URL or token that HTTP cannot carry."""
        self._base = endpoint.url.rstrip("/")
        self._token = endpoint.token
        self._limits = limits or EngineLimits()
        self._where = _address(self._base)
        self._client: httpx.AsyncClient | None = None
        if self._token is not None and not (self._token.isascii() and self._token.isprintable()):
            raise ConfigError(f"the token of {self._where} has characters that HTTP cannot carry")

    @abstractmethod
    def _payload(self, request: ChatRequest) -> JsonObject:
        """The body that asks for a streamed answer."""

    @abstractmethod
    def _reader(self) -> Reader:
        """A reader for one answer."""

    @abstractmethod
    async def model_status(self, model: str) -> ModelStatus: ...

    @abstractmethod
    async def ensure_model(self, model: str, on_progress: Callable[[Progress], None]) -> None: ...

    @abstractmethod
    async def version(self) -> str: ...

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Delta | Done, None]:
        """Streams the answer; see `Engine.chat`."""
        started = False
        try:
            async with aclosing(self._events(request)) as events:
                async for event in events:
                    if not isinstance(event, Thinking):
                        started = True
                        yield event
        except BadReply as fault:
            if not started:
                raise before_first_token(self._where, fault) from fault
            raise StreamBroken(f"the answer broke off: {self._where} {fault}", hint="ask again") from fault

    async def aclose(self) -> None:
        """Closes connections. Asking twice is fine."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _events(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        limits = self._limits
        patience = Patience(limits.first_token_timeout, limits.token_timeout, limits.answer_timeout)
        reader, length = self._reader(), 0
        async with self._stream(self.chat_path, self._payload(request), patience) as lines:
            async for line in lines:
                for event in reader.read(line):
                    if isinstance(event, Delta):
                        length += len(event.text)
                        self._check_length(length)
                    yield event
                    if isinstance(event, Done):
                        return
                    patience.renew()
        raise BadReply("ended the answer without an end mark")

    def _check_length(self, length: int) -> None:
        if length > self._limits.max_answer_chars:
            raise BadReply(
                f"sent more than the {self._limits.max_answer_chars} characters of `limits.max_answer_chars`"
            )

    async def _get(self, path: str) -> JsonObject:
        """A small JSON object. Raises BadReply, HttpStatus."""
        patience = Patience(_STATUS_TIMEOUT, _STATUS_TIMEOUT, _STATUS_TIMEOUT)
        async with self._send("GET", path, None, patience) as response:
            return parse_object(await _body(response, patience, _MAX_BODY))

    @asynccontextmanager
    async def _stream(
        self, path: str, payload: JsonObject, patience: Patience
    ) -> AsyncIterator[AsyncGenerator[str, None]]:
        """The lines of what the engine answers to a POST. Raises BadReply, HttpStatus."""
        async with (
            self._send("POST", path, payload, patience) as response,
            aclosing(_lines(response, patience)) as lines,
        ):
            yield lines

    @asynccontextmanager
    async def _send(
        self, method: str, path: str, payload: JsonObject | None, patience: Patience
    ) -> AsyncIterator[httpx.Response]:
        client = self._connected()
        content = None if payload is None else json.dumps(payload)
        request = client.build_request(method, self._base + path, content=content)
        with transport_faults():
            response = await patience.wait(client.send(request, stream=True))
        try:
            if response.status_code != httpx.codes.OK:
                raise await self._status(response, patience)
            yield response
        finally:
            await response.aclose()

    async def _status(self, response: httpx.Response, patience: Patience) -> HttpStatus:
        body = ""
        with suppress(BadReply):  # the status alone says enough
            body = await _body(response, patience, _MAX_ERROR)
        if self._token:  # a proxy's debug page may show the request's headers
            body = body.replace(self._token, "…")
        return HttpStatus(response.status_code, body)

    def _connected(self) -> httpx.AsyncClient:
        if self._client is None:
            headers = {
                "Accept-Encoding": "identity",
                "Connection": "close",
                "Content-Type": "application/json",
            }
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token}"
            self._client = httpx.AsyncClient(
                headers=headers,
                verify=_tls(self._base),
                trust_env=False,
                timeout=httpx.Timeout(None, connect=self._limits.connect_timeout),
                limits=_ONE_EACH,
            )
        return self._client

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Faults of a conversation that streams no answer become EngineUnavailable or EngineRefused."""
        try:
            yield
        except BadReply as fault:
            raise before_first_token(self._where, fault) from fault


def _address(url: str) -> str:
    """Scheme, host and port: what may be shown of a URL that could hold a password."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError("a worker's URL cannot be read", hint="check `fleet.workers`") from error
    return f"{parsed.scheme}://{parsed.netloc.decode()}"


def _tls(url: str) -> ssl.SSLContext:
    """Certificates are always checked. Without TLS, the authorities need not be loaded: 40 ms saved."""
    if url.startswith("https:"):
        return httpx.create_ssl_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def _lines(response: httpx.Response, patience: Patience) -> AsyncGenerator[str, None]:
    splitter = LineSplitter()
    async with aclosing(_chunks(response, patience)) as chunks:
        async for chunk in chunks:
            for line in splitter.feed(chunk):
                yield line
    if rest := splitter.rest():
        yield rest


async def _chunks(response: httpx.Response, patience: Patience) -> AsyncGenerator[bytes, None]:
    stream = response.aiter_raw()
    while True:
        with transport_faults():
            chunk = await patience.wait(anext(stream, None))
        if chunk is None:
            return
        yield chunk


async def _body(response: httpx.Response, patience: Patience, limit: int) -> str:
    body = bytearray()
    async with aclosing(_chunks(response, patience)) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise BadReply(f"sent more than {limit} bytes")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadReply("sent text that is not UTF-8") from error
