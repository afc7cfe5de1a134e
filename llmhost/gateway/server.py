"""The HTTP server under the gateway: uvicorn, with limits of time and size that it does not have itself."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llmhost.gateway.tls import Certificate

__all__ = [
    "Backlog",
    "BacklogCount",
    "GatewayServer",
    "SwappedApp",
    "listen",
    "listen_on_path",
    "may_connect",
    "use_all_descriptors",
]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: seconds in which a client must have sent a request's headers
_HEADER_TIMEOUT = 15.0
#: bytes of a request's line and headers
_MAX_HEADERS = 64 << 10
#: seconds for which a connection without a request is kept
_KEEP_ALIVE = 75
#: seconds in which a client must take more of an answer, or what is left of it at the end
_READ_TIMEOUT = 120.0
#: the share of this process's file descriptors that clients may have: workers and Redis need some, too
_CLIENTS_SHARE = 3 / 4
#: the share of connections without a request that is closed at once where there are too many
_CLOSED_SHARE = 1 / 10
#: file descriptors that are enough; some systems name no limit
_MOST_DESCRIPTORS = 65_536
#: seconds that streams have to end in when the server stops
_GRACE = 30
#: connections that wait to be accepted
_BACKLOG = 2048
#: where it is asked how many there are
_BACKLOG_PATH = "/health/backlog"


class _Protocol(HttpToolsProtocol):
    """Closes a connection whose headers are too long, or do not arrive, or whose client does not read."""

    _headers_due: asyncio.TimerHandle | None = None
    _reading_due: asyncio.TimerHandle | None = None
    #: when the request that is under way began to come, or the connection was accepted; monotonic seconds
    since = 0.0
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = time.monotonic()
        assert isinstance(self.config, _Config)  # noqa: S101 - `_server` makes it
        if not may_connect(self.client, transport.get_extra_info("socket").family, self.config.peers):
            self._close()
            return
        if len(self.connections) > self.config.most_connections:
            self._make_room()
        self._headers_due = self.loop.call_later(_HEADER_TIMEOUT, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_arrived()
        self._client_reads()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading_due = self.loop.call_later(_READ_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._client_reads()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self.cycle is not None and self.cycle.response_complete:
            self.since = time.monotonic()
        self._header_bytes = 0
        if self._headers_due is None:
            self._headers_due = self.loop.call_later(_HEADER_TIMEOUT, self._close)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._headers_arrived()
        super().on_headers_complete()

    def progress(self) -> Literal["idle", "waiting", "answering"]:
        """How far its request is: the answer is under way, or is waited for, or there is none."""
        if self.scope is not None and self.scope.get("path", "").endswith(_BACKLOG_PATH):
            return "idle"  # the request for the count does not count
        if self.cycle is not None and not self.cycle.response_complete:
            return "answering" if self.cycle.response_started else "waiting"
        return "idle" if self._headers_due is None else "waiting"

    @property
    def has_request(self) -> bool:
        """Whether a request has arrived, its headers at least, and is not answered in full."""
        return self._headers_due is None and self.progress() != "idle"

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > _MAX_HEADERS:
            raise ValueError("headers are too long")

    def _headers_arrived(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _client_reads(self) -> None:
        if self._reading_due is not None:
            self._reading_due.cancel()
            self._reading_due = None

    def _close(self) -> None:
        """Closes it, once what was written is read, which is waited for no longer than that."""
        if not self.transport.is_closing():
            self.transport.close()
            self.loop.call_later(_READ_TIMEOUT, self.transport.abort)

    def _make_room(self) -> None:
        """Closes the oldest connections without a request; where there are none, this one."""
        waiting = cast("set[_Protocol]", self.connections)
        idle = [one for one in waiting if one is not self and not one.has_request]
        idle.sort(key=lambda one: one.since)
        for one in idle[: math.ceil(len(idle) * _CLOSED_SHARE)] or [self]:
            one._close()  # noqa: SLF001 - its own class


@dataclass(frozen=True, slots=True)
class BacklogCount:
    """Connections by what they wait for, from when they were accepted: an answer that has not begun, whether
    its request has arrived or not; the rest of an answer; nothing. `oldest_s` is for how long the oldest of
    the first two has been there, in seconds.
    """

    waiting: int
    answering: int
    idle: int
    oldest_s: float


class Backlog:
    """The connections of the servers that it was given."""

    def __init__(self) -> None:
        self._servers: list[set[Any]] = []

    def add(self, connections: set[Any]) -> None:
        self._servers.append(connections)

    def count(self, now: float) -> BacklogCount:
        """`now` in monotonic seconds."""
        connections = [one for server in self._servers for one in server]
        counts = Counter(one.progress() for one in connections)
        oldest = min((one.since for one in connections if one.progress() != "idle"), default=now)
        return BacklogCount(counts["waiting"], counts["answering"], counts["idle"], round(now - oldest, 3))


class SwappedApp:
    """An application that can be replaced by another one while requests are under way."""

    def __init__(self) -> None:
        self._current: _InUse | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        current = self._current
        assert current is not None  # noqa: S101 - it serves nothing before the first `swap`
        current.begin()
        try:
            await current.app(scope, receive, send)
        finally:
            current.end()

    async def swap(self, building: AbstractAsyncContextManager[ASGIApp]) -> None:
        """From now on requests go to this one. The one before is closed when its last request has ended.

        Raises as `building`; then nothing has changed.
        """
        stack = AsyncExitStack()
        app = await stack.enter_async_context(building)
        before, self._current = self._current, _InUse(app, stack)
        if before is not None:
            task = asyncio.create_task(before.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Closes all of them: nothing is under way any more."""
        if self._current is not None:
            await self._current.aclose()
        if self._closing:
            await asyncio.wait(self._closing)


class _InUse:
    def __init__(self, app: ASGIApp, parts: AsyncExitStack) -> None:
        self.app = app
        self._parts = parts
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self) -> None:
        """A request comes."""
        self._requests += 1
        self._idle.clear()

    def end(self) -> None:
        """A request has ended."""
        self._requests -= 1
        if not self._requests:
            self._idle.set()

    async def aclose(self) -> None:
        await self._idle.wait()
        await self._parts.aclose()


class _Config(uvicorn.Config):
    """Only `peers` may connect; None: every address may. Beyond `most_connections`, idle ones are closed."""

    peers: Network | None = None
    most_connections = 0


def may_connect(client: tuple[str, int] | None, family: int, peers: Network | None) -> bool:
    """Whether the client is a peer. One without an address must have come through a Unix socket, whose
    permissions guard it: a TCP connection that its client has reset at once has no address any more, and
    would pass for such a one.
    """
    if client is None:
        return family == socket.AF_UNIX
    if peers is None:
        return True
    address = ipaddress.ip_address(client[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address) in peers


class GatewayServer:
    """Serves an application on sockets that listen already, until it is stopped.

    With a `certificate` over TLS, but on Unix sockets. `behind` is the address or network of a proxy: only
    it may connect, and the client is the one that its `X-Forwarded-For` names.
    """

    def __init__(
        self,
        app: ASGIApp,
        sockets: Sequence[socket.socket],
        backlog: Backlog | None = None,
        *,
        certificate: Certificate | None = None,
        behind: str | None = None,
    ) -> None:
        peers = None if behind is None else ipaddress.ip_network(behind, strict=False)
        if peers is not None:
            app = cast(ASGIApp, ProxyHeadersMiddleware(cast(Any, app), str(peers)))
        plain = [one for one in sockets if one.family == socket.AF_UNIX or certificate is None]
        others = [one for one in sockets if one not in plain]
        self._certificate = certificate
        self._servers = [
            (_server(app, tls, peers), group)
            for group, tls in ((plain, None), (others, certificate))
            if group
        ]
        if backlog is not None:
            for server, _ in self._servers:
                backlog.add(server.server_state.connections)

    async def run(self) -> None:
        """Serves until `stop`, or until it is cancelled: requests under way are then ended in both cases,
        those that are stopped after they had their time."""
        serving = asyncio.gather(*(server.serve(sockets=group) for server, group in self._servers))
        watching = None if self._certificate is None else asyncio.create_task(self._certificate.watch())
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self.stop()
            await serving
            raise
        finally:
            if watching is not None:
                watching.cancel()

    def stop(self) -> None:
        for server, _ in self._servers:
            server.should_exit = True


def _server(app: ASGIApp, certificate: Certificate | None, peers: Network | None) -> _Server:
    config = _Config(
        app,
        http=_Protocol,
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    config.peers = peers
    config.most_connections = int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * _CLIENTS_SHARE)
    return _Server(config)


def use_all_descriptors() -> None:
    """Lets this process have as many connections as the system allows: a shell's limit is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if most > soft:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command's, which cancels what it runs."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    # What is accepted inherits it; asyncio sets it only where the protocol was named. Without it, the second
    # write of an answer waits 40 ms for the client to acknowledge the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    return listener


def listen_on_path(path: Path) -> socket.socket:
    """A Unix socket for this user alone; it replaces one that no program listens on. Raises OSError."""
    if path.is_socket() and not _is_listened_on(path):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    listener.setblocking(False)
    return listener


def _is_listened_on(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True
