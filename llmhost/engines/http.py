"""What every engine over HTTP shares: how an answer is streamed, and what ends it."""

from __future__ import annotations

import asyncio
import json
import math
import os
import ssl
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import httpx

from llmhost.engines.engine import (
    ChatRequest,
    Done,
    Embedded,
    EmbedRequest,
    Endpoint,
    Engine,
    EngineLimits,
    ModelDetails,
    Piece,
    Thought,
    ToolCall,
    trace_headers,
)
from llmhost.engines.faults import (
    Broken,
    HttpStatus,
    Untrusted,
    before_first_token,
    has_no_route,
    tls_context,
    transport_faults,
)
from llmhost.engines.wire import (
    BadReply,
    Characters,
    Event,
    JsonObject,
    Malformed,
    Reader,
    Thinking,
    parse,
    parse_object,
)
from llmhost.errors import ConfigError, EngineRefused, LlmhostError, StreamBroken
from llmhost.machine.sockets import listener_owner

__all__ = ["MAX_LINE", "HttpEngine", "HttpTransport", "LineSplitter", "StreamDeadlines"]


T = TypeVar("T")


class StreamDeadlines:
    """Three limits in seconds: until the first token, between two tokens, and for everything.

    Bytes alone renew nothing: a server that only sends pings is as stuck as a silent one.
    """

    def __init__(self, first: float, pause: float, total: float = math.inf) -> None:
        now = asyncio.get_running_loop().time()
        self._pause = pause
        self._end = now + total
        self._next = now + first
        self._missing = f"sent no token within {first:g} s"
        self._unfinished = f"did not finish within {total:g} s"

    def renew(self) -> None:
        """A token came: the wait for the next one starts now."""
        self._next = asyncio.get_running_loop().time() + self._pause
        self._missing = f"paused for more than {self._pause:g} s"

    async def wait(self, step: Awaitable[T]) -> T:
        """What `step` gives. Raises BadReply when it takes too long."""
        try:
            async with asyncio.timeout_at(min(self._next, self._end)):
                return await step
        except TimeoutError as error:
            late = self._end <= self._next
            raise BadReply(self._unfinished if late else self._missing) from error


#: bytes; a line brings a token or an error, some hundred bytes, so this is far off and still small
MAX_LINE = 1 << 20


class LineSplitter:
    """Fed with chunks as they come; gives back the lines that they complete, without their ends and without
    the byte order mark that the first of them may begin with.

    Raises:
        BadReply: a line is too long or not UTF-8. The lines before it have been given.
    """

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._buffer = bytearray()
        self._first = True
        self._max_line = max_line

    def feed(self, chunk: bytes) -> Iterator[str]:
        seen = len(self._buffer)
        self._buffer += chunk
        while (end := self._buffer.find(b"\n", seen)) >= 0:
            yield self._cut(end)
            del self._buffer[: end + 1]
            seen = 0
        self._check(len(self._buffer))

    def rest(self) -> str:
        """What came after the last line end."""
        return self._cut(len(self._buffer))

    def _cut(self, end: int) -> str:
        self._check(end)
        encoding, self._first = "utf-8-sig" if self._first else "utf-8", False
        try:
            return self._buffer[:end].decode(encoding).removesuffix("\r")
        except UnicodeDecodeError as error:
            raise Malformed("sent text that is not UTF-8") from error

    def _check(self, length: int) -> None:
        if length > self._max_line:
            raise BadReply(f"sent a line of more than {self._max_line} bytes")


#: seconds; a server that works on an answer still tells its version and its models at once
_STATUS_TIMEOUT = 5.0

#: a connection for each request: llama.cpp closes one after a streamed answer without saying so, and
#: a request sent on it in that moment gets no answer (seen with one question in ten)
_ONE_EACH = httpx.Limits(max_connections=None, max_keepalive_connections=0)

#: to a rented worker, whose proxy says when it closes one, a connection is kept for the next request: a new
#: one takes two round trips, which between continents are 200 ms. The proxy keeps it for 75 seconds
_KEPT_FOR = 30.0  #: seconds
_KEPT = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEPT_FOR)
#: connections that are kept to a worker
_MOST_KEPT = 4
#: seconds; a kept connection on which nothing comes for so long before a request is silent
_SILENCE = 0.001
#: turns of the loop that bytes take from the socket to who reads them, at most
_TURNS = 5
#: seconds; by then the end of a body has followed the end mark of an answer
_END_OF_BODY = 0.25

#: bytes; the list of models of a large Ollama has some hundred kB
_MAX_BODY = 16 << 20

#: bytes; an explanation of an error, of which one line is shown
_MAX_ERROR = 64 << 10


class HttpTransport:
    """The way to one server; `where` is its address as people may see it.

    It is spoken to directly: a proxy from the environment would see every prompt and token.
    """

    def __init__(self, endpoint: Endpoint, limits: EngineLimits, *, keeps: bool = False) -> None:
        """`keeps`: connections to a rented worker are kept for the next request; then `aclose` is needed.
        Raises ConfigError for a URL or token that HTTP cannot carry."""
        self._keeps = keeps and endpoint.certificate is not None
        self._base = endpoint.url.rstrip("/")
        self._token = endpoint.token
        self._certificate = endpoint.certificate
        self._extensions = {"trace": _refuse_others} if endpoint.own else {}
        self._timeouts = httpx.Timeout(None, connect=limits.connect_timeout).as_dict()
        self._tls: ssl.SSLContext | None = None
        self._open: set[httpx.AsyncHTTPTransport] = set()
        #: what is open, and not in use, and what ends that; the newest is the last
        self._kept: dict[httpx.AsyncHTTPTransport, asyncio.TimerHandle] = {}
        self._closing: asyncio.Future[None] | None = None
        self.where = _address(self._base)
        if self._token is not None and not (self._token.isascii() and self._token.isprintable()):
            raise ConfigError(f"the token of {self.where} has characters that HTTP cannot carry")

    async def get(self, path: str, limit: int = _MAX_BODY) -> JsonObject:
        """A JSON object of at most `limit` bytes. Raises BadReply, Malformed, HttpStatus, Untrusted."""
        return parse_object(await self._read("GET", path, limit))

    async def post(
        self, path: str, payload: JsonObject, deadlines: StreamDeadlines | None = None
    ) -> JsonObject:
        """The JSON object that the server answers to a POST. Raises as `get`."""
        return parse_object(await self._read("POST", path, _MAX_BODY, payload, deadlines))

    async def get_any(self, path: str) -> Any:
        """Any JSON value. Raises as `get`."""
        return parse(await self._read("GET", path, _MAX_BODY))

    async def _read(
        self,
        method: str,
        path: str,
        limit: int,
        payload: JsonObject | None = None,
        deadlines: StreamDeadlines | None = None,
    ) -> str:
        deadlines = deadlines or StreamDeadlines(_STATUS_TIMEOUT, _STATUS_TIMEOUT, _STATUS_TIMEOUT)
        async with self._send(method, path, payload, deadlines) as response:
            return await self._body(response, deadlines, limit)

    @asynccontextmanager
    async def lines(
        self, path: str, payload: JsonObject, deadlines: StreamDeadlines
    ) -> AsyncIterator[AsyncGenerator[str, None]]:
        """The lines of what the server answers to a POST. Raises BadReply, HttpStatus, Untrusted."""
        async with (
            self._send("POST", path, payload, deadlines) as response,
            aclosing(self._lines(response, deadlines)) as lines,
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

    async def retire(self) -> None:
        """Closes the connections that are kept: there are to be no more requests than those in flight."""
        self._keeps = False
        kept, self._kept = self._kept, {}
        for timer in kept.values():
            timer.cancel()
        for connection in kept:
            await connection.aclose()

    async def aclose(self) -> None:
        """Closes all connections, those of requests in flight, too. Asking twice is fine."""
        await self.retire()
        for connection in [*self._open]:
            await connection.aclose()

    def _expire(self, connection: httpx.AsyncHTTPTransport) -> None:
        del self._kept[connection]
        self._closing = asyncio.ensure_future(connection.aclose())

    async def rest_of(self, lines: AsyncGenerator[str, None]) -> None:
        """Reads an answer to the end of its body, where that lets its connection be kept."""
        if self._keeps:
            with suppress(BadReply, TimeoutError):
                async with asyncio.timeout(_END_OF_BODY):
                    async for _ in lines:
                        pass

    @property
    def _pinned(self) -> bool:
        return self._certificate is not None

    @asynccontextmanager
    async def _send(
        self, method: str, path: str, payload: JsonObject | None, deadlines: StreamDeadlines
    ) -> AsyncIterator[httpx.Response]:
        connection, response = await self._answered(self._request(method, path, payload), deadlines)
        is_whole = False
        try:
            if response.status_code != httpx.codes.OK:
                raise await self._status(response, deadlines)
            yield response
            is_whole = response.is_closed
        finally:
            # To its end, although the request may be cut off once more: the server would go on in vain.
            ended = self._ended(connection, response, keep=is_whole and self._keeps)
            await asyncio.shield(asyncio.ensure_future(ended))

    async def _answered(
        self, request: httpx.Request, deadlines: StreamDeadlines
    ) -> tuple[httpx.AsyncHTTPTransport, httpx.Response]:
        """The response, and the connection that it comes on."""
        if self._kept:
            kept, timer = self._kept.popitem()
            timer.cancel()
            with suppress(Broken):  # it was closed when the request was sent
                return kept, await self._answer_on(kept, request, deadlines, is_kept=True)
        connection = self._connection()
        return connection, await self._answer_on(connection, request, deadlines)

    async def _answer_on(
        self,
        connection: httpx.AsyncHTTPTransport,
        request: httpx.Request,
        deadlines: StreamDeadlines,
        *,
        is_kept: bool = False,
    ) -> httpx.Response:
        self._open.add(connection)
        try:
            if is_kept and not await _is_silent(connection):
                raise Broken("sent more than its answer")
            with transport_faults(pinned=self._pinned):
                return await deadlines.wait(connection.handle_async_request(request))
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(self._ended(connection, None)))
            raise

    async def _ended(
        self, connection: httpx.AsyncHTTPTransport, response: httpx.Response | None, *, keep: bool = False
    ) -> None:
        self._open.discard(connection)
        if keep and len(self._kept) < _MOST_KEPT:
            loop = asyncio.get_running_loop()
            self._kept[connection] = loop.call_later(_KEPT_FOR, self._expire, connection)
            return
        if response is not None:
            await response.aclose()
        await connection.aclose()

    def _connection(self) -> httpx.AsyncHTTPTransport:
        """For one request at a time. A pool of several loses those whose requests are cut off at certain
        moments."""
        if self._tls is None:
            self._tls = tls_context(self._base, self._certificate)
        limits = _KEPT if self._keeps else _ONE_EACH
        return httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=limits)

    def _request(self, method: str, path: str, payload: JsonObject | None) -> httpx.Request:
        headers = {
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "keep-alive" if self._keeps else "close",
            "Content-Type": "application/json",
            "User-Agent": "llmhost",
            **(trace_headers.get() or {}),
        }
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if self._pinned:
            # Past a rented worker's own gateway: llmhost has asked the cache itself. Where it leads the
            # others that ask the same, that gateway would wait for it, and it for the gateway.
            headers["Cache-Control"] = "no-cache, no-store"
        return httpx.Request(
            method,
            self._base + path,
            headers=headers,
            content=None if payload is None else json.dumps(payload),
            extensions={**self._extensions, "timeout": self._timeouts},
        )

    async def _status(self, response: httpx.Response, deadlines: StreamDeadlines) -> HttpStatus:
        body = ""
        with suppress(BadReply):  # the status alone says enough
            body = await self._body(response, deadlines, _MAX_ERROR)
        if self._token:  # a proxy's debug page may show the request's headers
            body = body.replace(self._token, "…")
        redirected = response.is_redirect and _without_query(response.headers.get("location", ""))
        return HttpStatus(response.status_code, body, redirected or "")

    async def _lines(self, response: httpx.Response, deadlines: StreamDeadlines) -> AsyncGenerator[str, None]:
        splitter = LineSplitter()
        async with aclosing(self._chunks(response, deadlines)) as chunks:
            async for chunk in chunks:
                for line in splitter.feed(chunk):
                    yield line
        if rest := splitter.rest():
            yield rest

    async def _body(self, response: httpx.Response, deadlines: StreamDeadlines, limit: int) -> str:
        body = bytearray()
        async with aclosing(self._chunks(response, deadlines)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > limit:
                    raise BadReply(f"sent more than {limit} bytes")
        try:
            return body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Malformed("sent text that is not UTF-8") from error

    async def _chunks(
        self, response: httpx.Response, deadlines: StreamDeadlines
    ) -> AsyncGenerator[bytes, None]:
        stream = response.aiter_bytes()  # some servers compress whatever they are asked for
        while True:
            with transport_faults(pinned=self._pinned):
                chunk = await deadlines.wait(anext(stream, None))
            if chunk is None:
                return
            yield chunk


async def _is_silent(connection: httpx.AsyncHTTPTransport) -> bool:
    """Whether nothing came on it after the last response: what did would be taken for the next one. It may
    lie in the buffer of the protocol, where no public name leads, of TLS, or of the system."""
    try:
        (pooled,) = connection._pool.connections  # noqa: SLF001
        inner: Any = pooled._connection  # type: ignore[attr-defined]  # noqa: SLF001
        if inner._h11_state.trailing_data[0]:  # noqa: SLF001
            return False
        stream = inner._network_stream  # noqa: SLF001
        read = asyncio.ensure_future(stream.read(1))
        try:
            await asyncio.wait({read}, timeout=_SILENCE)
            for _ in range(_TURNS):  # a loop that is late runs its timers before it looks at its sockets
                await asyncio.sleep(0)
            return not read.done() and not stream.get_extra_info("is_readable")
        finally:
            read.cancel()
            await asyncio.wait({read})
    except Exception:  # noqa: BLE001 - it has ended, in whatever way
        return False


async def _refuse_others(event: str, info: Mapping[str, Any]) -> None:
    """Raises Untrusted where another user's program took the connection; nothing was sent yet.

    A worker that died leaves its port to any program of this machine.
    """
    if event == "connection.connect_tcp.complete":
        stream = info["return_value"]
        owner = listener_owner(*stream.get_extra_info("server_addr")[:2])
        if owner is not None and owner != os.getuid():
            await stream.aclose()
            raise Untrusted("is another user's program by now, so nothing was sent to it")


def _address(url: str) -> str:
    """Scheme, host and port: what may be shown of a URL that could hold a password."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError("a worker's URL cannot be read", hint="check `fleet.workers`") from error
    return f"{parsed.scheme}://{parsed.netloc.decode()}"


def _without_query(url: str) -> str:
    """Where a redirect leads, without what may be secret in it: a login page is often given a token."""
    try:
        return str(httpx.URL(url).copy_with(query=None, fragment=None, userinfo=b""))
    except (httpx.InvalidURL, ValueError):
        return ""


class _Texts:
    """The texts of one answer, each of which may be cut within a character."""

    def __init__(self) -> None:
        self._characters: defaultdict[object, Characters] = defaultdict(Characters)
        self.length = 0

    def whole(self, piece: Piece) -> Piece | Thinking:
        """The piece with the characters that it completes. Raises Malformed."""
        if isinstance(piece, ToolCall):
            arguments = self._characters[piece.index].whole(piece.arguments)
            self.length += len(arguments)
            return replace(piece, arguments=arguments)
        text = self._characters[type(piece)].whole(piece.text)
        self.length += len(text)
        return replace(piece, text=text) if text else Thinking()

    def end(self) -> None:
        """Raises Malformed where one ended in the middle of a character."""
        for characters in self._characters.values():
            characters.end()


class HttpEngine(Engine, ABC):
    """An engine behind HTTP. A backend says where a request goes, how it is written, how a line is read."""

    def __init__(self, endpoint: Endpoint, limits: EngineLimits) -> None:
        """Raises ConfigError for a URL or token that HTTP cannot carry."""
        self._limits = limits
        self._transport = HttpTransport(endpoint, self._limits, keeps=True)

    @abstractmethod
    def _path(self, request: ChatRequest) -> str:
        """Where the server takes such a request."""

    @abstractmethod
    def _payload(self, request: ChatRequest) -> JsonObject:
        """The body that asks for a streamed answer."""

    @abstractmethod
    def _reader(self) -> Reader:
        """Reads one answer."""

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Piece | Done, None]:
        started = False
        try:
            async with aclosing(self._events(request)) as events:
                async for event in events:
                    # A worker that fails while it only thinks is still left for another.
                    started = started or not isinstance(event, Thinking | Thought)
                    if not isinstance(event, Thinking):
                        yield event
        except BadReply as fault:
            if not started:
                raise self._error(request, fault) from fault
            raise StreamBroken(
                f"the answer broke off: {self._transport.where} {fault}", hint="ask again"
            ) from fault

    def _error(self, request: ChatRequest, fault: BadReply) -> LlmhostError:
        """Our error for a fault that came before the answer began."""
        if request.completion is not None and has_no_route(fault):
            # Chats may be all that this server is for, which is no fault of it.
            return EngineRefused(
                "the engine only takes chats: it does not continue a text", hint="send messages instead"
            )
        return self._transport.error(fault)

    @abstractmethod
    def _embedding(self, request: EmbedRequest) -> tuple[str, JsonObject]:
        """Where texts are embedded, and the body that asks for it."""

    @abstractmethod
    def _embedded(self, reply: JsonObject) -> Embedded:
        """The vectors of a reply, in the order of their texts. Raises Malformed."""

    async def embed(self, request: EmbedRequest) -> Embedded:
        limits = self._limits
        deadlines = StreamDeadlines(
            limits.first_token_timeout, limits.first_token_timeout, limits.answer_timeout
        )
        try:
            path, payload = self._embedding(request)
            embedded = self._embedded(await self._transport.post(path, payload, deadlines))
            lengths = {len(vector) for vector in embedded.vectors}
            if len(embedded.vectors) != len(request.texts) or len(lengths) != 1:
                raise Malformed("sent other vectors than one of the same length for each text")
        except BadReply as fault:
            if has_no_route(fault):
                raise EngineRefused("the engine gives no embeddings") from fault
            raise self._transport.error(fault) from fault
        (length,) = lengths
        if request.dimensions not in (None, length):
            raise EngineRefused(f"vectors of {request.model} have {length} dimensions")
        return embedded

    async def model_details(self, model: str) -> ModelDetails:  # noqa: ARG002
        """Nothing: most servers do not tell."""
        return ModelDetails()

    async def retire(self) -> None:
        """Lets requests in flight go on, and closes their connections after them."""
        await self._transport.retire()

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _events(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        limits = self._limits
        deadlines = StreamDeadlines(limits.first_token_timeout, limits.token_timeout, limits.answer_timeout)
        read, texts = self._reader(), _Texts()
        async with self._lines(request, deadlines) as lines:
            async for line in lines:
                for event in read(line):
                    if isinstance(event, Done):
                        texts.end()
                        await self._transport.rest_of(lines)
                        yield event
                        return
                    shown = event if isinstance(event, Thinking) else texts.whole(event)
                    self._check_length(texts.length)
                    yield shown
                    deadlines.renew()
        raise BadReply("ended the answer without an end mark")

    @asynccontextmanager
    async def _lines(
        self, request: ChatRequest, deadlines: StreamDeadlines
    ) -> AsyncIterator[AsyncGenerator[str, None]]:
        """The lines of what the server answers to `request`. Raises as `HttpTransport.lines`."""
        async with self._transport.lines(self._path(request), self._payload(request), deadlines) as lines:
            yield lines

    def _check_length(self, length: int) -> None:
        if length > self._limits.max_answer_chars:
            raise BadReply(
                f"sent more than the {self._limits.max_answer_chars} characters of `limits.max_answer_chars`"
            )
