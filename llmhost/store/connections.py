"""Clients whose commands are never cut off, and pools that wait only once for a server that is away: of one
address, or of the master that Sentinel names.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, SSLConnection
from redis.asyncio.client import Pipeline
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from llmhost.store.errors import SpeaksNoTls, WantsCertificate, WantsTls

__all__ = [
    "MAX_CONNECTIONS",
    "Client",
    "FailFastPool",
    "NeverCutPipeline",
    "SentinelPool",
    "client_of",
]

T = TypeVar("T")

#: connections; as many commands at once. More wait for one, at most `redis.timeout` seconds
MAX_CONNECTIONS = 64

#: seconds; a Redis that comes back is used again after this time
_PAUSE = 5.0

#: seconds; a server that is there greets sooner
_GREETING = 1.0


async def _whole(command: Coroutine[Any, Any, T]) -> T:
    """Runs a command to its end, although the task that waits for it may be cancelled.

    redis-py 8.1 does not bear that a command is cut off: of some hundred, it loses connections of its pool
    and a cancellation, so that what was to end goes on. A command ends soon: it has a time limit.
    """
    task = asyncio.ensure_future(command)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # no task may await it any more
    return await asyncio.shield(task)


class Client(Redis):
    """As redis-py's, whose commands are never cut off."""

    #: whether a name of a key decides which of several servers has it: see store/keys.py
    sharded = False

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return await _whole(super().execute_command(*args, **options))  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> NeverCutPipeline:
        return NeverCutPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


def client_of(pool: ConnectionPool) -> Client:
    """A client that closes the pool with itself."""
    client = Client(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


class NeverCutPipeline(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        return await _whole(super().execute(raise_on_error))


class FailFastPool(BlockingConnectionPool):
    """A pool that waits only once for a server that is away.

    One question uses Redis in several steps: each would wait as long as the first. For `pause` seconds
    (5 by default) after a connection could not be made, they fail at once instead.
    """

    _failure: RedisError | OSError | None = None
    _retry_at = 0.0

    def __init__(self, *args: Any, pause: float | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._pause = _PAUSE if pause is None else pause

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        if self._failure is not None and time.monotonic() < self._retry_at:
            raise self._failure.with_traceback(None)  # else it would hold the frames of all who met it
        try:
            connection = await super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            mismatch = await _tls_mismatch(self.connection_class, self.connection_kwargs, error)
            self._failure, self._retry_at = mismatch or error, time.monotonic() + self._pause
            if mismatch is not None:
                raise mismatch from error
            raise
        self._failure = None
        return connection


class SentinelPool(SentinelConnectionPool, FailFastPool):
    """Asks Sentinel for the master with each new connection."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Those to the sentinels too, where all are to end."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.aclose()


# TLS on one side alone: a server that expects the other only closes the connection, or waits.


#: what a plain connection meets where TLS is wanted; the classes below them are answers
_CLOSED = (RedisConnectionError, InvalidResponse)


async def _tls_mismatch(
    kind: type[Any], options: Mapping[str, Any], error: RedisError | OSError
) -> RedisError | None:
    """The cause of an `error` of connecting, where the port answers when it is spoken to the other way."""
    host, port, tls = options.get("host"), options.get("port", 0), kind is SSLConnection
    of_system = isinstance(error, OSError) and not isinstance(error, TimeoutError | ssl.SSLError)
    was_closed = of_system or type(error) in _CLOSED
    if host is None or not (tls or was_closed):
        return None
    at = f"connecting to {host}:{port}."
    try:
        async with asyncio.timeout(min(options["socket_timeout"], _GREETING)):
            if not tls:
                await _wants_certificate(host, port, listens=False)
                return WantsTls(at)
            if await _answers_plainly(host, port):
                return SpeaksNoTls(at)
            trusted = not isinstance(error.__cause__ or error.__context__, ssl.SSLError)
            if was_closed and trusted and "ssl_certfile" not in options:
                return WantsCertificate(at) if await _wants_certificate(host, port) else None
    except (OSError, TimeoutError):
        return None
    return None


async def _answers_plainly(host: str, port: int) -> bool:
    """A server that wants a password says so: an error of Redis is an answer, too."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"PING\r\n")
        return await reader.read(1) in (b"+", b"-")
    except ConnectionError:  # as TLS ends it
        return False
    finally:
        writer.close()


async def _wants_certificate(host: str, port: int, *, listens: bool = True) -> bool:
    """Whether a TLS server that is listened to ends the connection, as one does that asks for the client's
    certificate. Raises OSError where none speaks TLS. Nothing but the handshake is sent, so the server's
    certificate need not be checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        if listens:
            return not await reader.read(1)  # it has nothing to say first, so this is the end
    except ssl.SSLError as error:
        return "CERTIFICATE_REQUIRED" in (error.reason or "")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return False
