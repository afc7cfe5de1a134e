"""One server over HTTP: a connection for each request, its limits, and the translation of every fault."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress

import httpx

from llmhost.engines.engine import Endpoint, EngineLimits
from llmhost.engines.faults import HttpStatus, before_first_token, transport_faults
from llmhost.engines.lines import LineSplitter
from llmhost.engines.patience import Patience
from llmhost.engines.tls import tls_context
from llmhost.engines.wire import BadReply, JsonObject, parse_object
from llmhost.errors import ConfigError, LlmhostError

__all__ = ["HttpTransport"]

#: seconds; a server that works on an answer still tells its version and its models at once
_STATUS_TIMEOUT = 5.0

#: a connection for each request: llama.cpp closes one after a streamed answer without saying so, and
#: whoever asks on it in that moment is not answered (seen with one question in ten)
_ONE_EACH = httpx.Limits(max_connections=None, max_keepalive_connections=0)

#: bytes; the list of models of a large Ollama has some hundred kB
_MAX_BODY = 16 << 20

#: bytes; an explanation of an error, of which one line is shown
_MAX_ERROR = 64 << 10


class HttpTransport:
    """The way to one server; `where` is its address as people may see it.

    It is spoken to directly: a proxy from the environment would see every prompt and token.
    """

    def __init__(self, endpoint: Endpoint, limits: EngineLimits | None = None) -> None:
        """Raises ConfigError for a URL or token that HTTP cannot carry."""
        self._base = endpoint.url.rstrip("/")
        self._token = endpoint.token
        self._certificate = endpoint.certificate
        self._connect_timeout = (limits or EngineLimits()).connect_timeout
        self._client: httpx.AsyncClient | None = None
        self.where = _address(self._base)
        if self._token is not None and not (self._token.isascii() and self._token.isprintable()):
            raise ConfigError(f"the token of {self.where} has characters that HTTP cannot carry")

    async def get(self, path: str, limit: int = _MAX_BODY) -> JsonObject:
        """A JSON object of at most `limit` bytes. Raises BadReply, HttpStatus, Untrusted."""
        patience = Patience(_STATUS_TIMEOUT, _STATUS_TIMEOUT, _STATUS_TIMEOUT)
        async with self._send("GET", path, None, patience) as response:
            return parse_object(await self._body(response, patience, limit))

    @asynccontextmanager
    async def lines(
        self, path: str, payload: JsonObject, patience: Patience
    ) -> AsyncIterator[AsyncGenerator[str, None]]:
        """The lines of what the server answers to a POST. Raises BadReply, HttpStatus, Untrusted."""
        async with (
            self._send("POST", path, payload, patience) as response,
            aclosing(self._lines(response, patience)) as lines,
        ):
            yield lines

    def error(self, fault: BadReply) -> LlmhostError:
        """Our error for a fault that came before anything was shown."""
        return before_first_token(self.where, fault, pinned=self._pinned)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Faults of a conversation that streams no answer become EngineUnavailable or EngineRefused."""
        try:
            yield
        except BadReply as fault:
            raise self.error(fault) from fault

    async def aclose(self) -> None:
        """Closes connections. Asking twice is fine."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    @property
    def _pinned(self) -> bool:
        return self._certificate is not None

    @asynccontextmanager
    async def _send(
        self, method: str, path: str, payload: JsonObject | None, patience: Patience
    ) -> AsyncIterator[httpx.Response]:
        client = self._connected()
        content = None if payload is None else json.dumps(payload)
        request = client.build_request(method, self._base + path, content=content)
        with transport_faults(pinned=self._pinned):
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
            body = await self._body(response, patience, _MAX_ERROR)
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
                verify=tls_context(self._base, self._certificate),
                trust_env=False,
                timeout=httpx.Timeout(None, connect=self._connect_timeout),
                limits=_ONE_EACH,
            )
        return self._client

    async def _lines(self, response: httpx.Response, patience: Patience) -> AsyncGenerator[str, None]:
        splitter = LineSplitter()
        async with aclosing(self._chunks(response, patience)) as chunks:
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    yield line
        if rest := splitter.rest():
            yield rest

    async def _body(self, response: httpx.Response, patience: Patience, limit: int) -> str:
        body = bytearray()
        async with aclosing(self._chunks(response, patience)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > limit:
                    raise BadReply(f"sent more than {limit} bytes")
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise BadReply("sent text that is not UTF-8") from error

    async def _chunks(self, response: httpx.Response, patience: Patience) -> AsyncGenerator[bytes, None]:
        stream = response.aiter_raw()
        while True:
            with transport_faults(pinned=self._pinned):
                chunk = await patience.wait(anext(stream, None))
            if chunk is None:
                return
            yield chunk


def _address(url: str) -> str:
    """Scheme, host and port: what may be shown of a URL that could hold a password."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError("a worker's URL cannot be read", hint="check `fleet.workers`") from error
    return f"{parsed.scheme}://{parsed.netloc.decode()}"
