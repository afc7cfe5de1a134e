"""The client for the Redis that the configuration names, and what every user of it needs.

In this order: connecting, the options of a connection, TLS on one side alone, the scripts that Redis
runs, and the values that it returns.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from llmhost.errors import ConfigError
from llmhost.machine.paths import expand
from llmhost.store.errors import SpeaksNoTls, WantsCertificate, WantsTls, translate_errors

if TYPE_CHECKING:
    from llmhost.config.models import RedisConfig

__all__ = ["address_options", "amount", "connect", "execute", "load_script", "text", "translate_errors"]

T = TypeVar("T")

_UNIX: dict[str, Any] = {"connection_class": UnixDomainSocketConnection}


#: connections; as many commands at once. More wait for one, at most `redis.timeout` seconds
_MAX_CONNECTIONS = 64

#: seconds; a Redis that comes back is used again after this time
_PAUSE = 5.0

#: seconds; a server that is there greets sooner
_GREETING = 1.0

#: as fast as version 3 when measured, one round trip less to connect, and no HELLO: a server that does
#: not know HELLO repeats its arguments, the password among them, in its error
_PROTOCOL = 2


def connect(config: RedisConfig, *, socket: Path | None = None) -> Redis:
    """A client that connects with its first command and answers in bytes; `aclose` it when done.

    `socket` is the embedded server's; without it, the server that `config` names. Nothing is tried twice:
    a command on a Redis that hangs fails after `config.timeout` seconds, and those after it at once. Use it
    inside `translate_errors`.

    Raises:
        ConfigError: `config` names no server, or one that cannot be: a malformed URL, a bad `ca_file`.
    """
    pool = _FailFastPool(
        max_connections=_MAX_CONNECTIONS,
        timeout=config.timeout,
        socket_timeout=config.timeout,
        socket_connect_timeout=config.timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=_PROTOCOL,
        client_name="llmhost",
        driver_info=None,
        **address_options(config, socket),
    )
    return _Client.from_pool(pool)


async def _whole(command: Coroutine[Any, Any, T]) -> T:
    """Runs a command to its end, although the task that waits for it may be cancelled.

    redis-py 8.1 does not bear that a command is cut off: of some hundred, it loses connections of its pool
    and a cancellation, so that what was to end goes on. A command ends soon: it has a time limit.
    """
    task = asyncio.ensure_future(command)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # no task may await it any more
    return await asyncio.shield(task)


class _Client(Redis):
    """As redis-py's, whose commands are never cut off."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        return await _whole(super().execute_command(*args, **options))  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> _Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Pipeline(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        return await _whole(super().execute(raise_on_error))


class _FailFastPool(BlockingConnectionPool):
    """A pool that waits only once for a server that is away.

    One question uses Redis in several steps: each would wait as long as the first. For some seconds
    after a connection could not be made, they fail at once instead.
    """

    _failure: RedisError | OSError | None = None
    _retry_at = 0.0

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        if self._failure is not None and time.monotonic() < self._retry_at:
            raise self._failure
        try:
            connection = await super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            mismatch = await _tls_mismatch(self.connection_class, self.connection_kwargs, error)
            self._failure, self._retry_at = mismatch or error, time.monotonic() + _PAUSE
            if mismatch is not None:
                raise mismatch from error
            raise
        self._failure = None
        return connection


async def execute(client: Redis, *command: Any) -> Any:
    """Runs a command that redis-py has no method for. Raises StoreError."""
    with translate_errors():
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


# The options of the connection: which server, as which user, with which certificate.
#
# redis-py reads URLs itself, but takes options from them that turn the certificate check off, reads a
# malformed one as something else, and puts pieces of the password into its errors.


def address_options(config: RedisConfig, socket: Path | None) -> dict[str, Any]:
    """redis-py's options of the connection: its class, the address, database and login.

    The embedded server, at `socket`, knows no users. A URL's own login and database go before those that
    stand beside it.

    Raises:
        ConfigError: no server is named, the URL is malformed, or `ca_file` holds no certificate.
    """
    if socket is not None:
        return _UNIX | {"path": str(socket), "db": config.db}
    if config.url is not None:
        return _from_url(config, _split(config.url.get_secret_value()))
    if config.host is not None:
        return _tcp(config, config.host, config.port, config.tls) | {"db": config.db} | _login(config)
    raise ConfigError("no Redis server is named", hint="set `redis.url` or `redis.host`")


def _from_url(config: RedisConfig, parts: SplitResult) -> dict[str, Any]:
    unix = parts.scheme == "unix"
    database = parse_qs(parts.query).get("db", ["" if unix else parts.path.strip("/")])[0]
    if database and not (database.isascii() and database.isdigit()):
        raise _bad_url()
    rest = {"db": int(database or config.db)} | _login(config, parts.username, parts.password)
    if unix:
        return _UNIX | {"path": unquote(parts.path)} | rest
    tls = config.tls or parts.scheme == "rediss"
    return _tcp(config, parts.hostname or "", parts.port or config.port, tls) | rest


def _split(url: str) -> SplitResult:
    """A URL that means what it looks like. A password that was not escaped turns up as port, path, query
    or fragment and in the text of the cause, so none of them is shown."""
    try:
        parts = urlsplit(url)
        port_is_number = parts.port is None or parts.port > 0
    except ValueError:
        raise _bad_url() from None
    unix = parts.scheme == "unix"
    named = bool(parts.path and not parts.hostname) if unix else bool(parts.hostname)
    options = set(parse_qs(parts.query, keep_blank_values=True))
    if not (named and port_is_number) or parts.fragment or options - {"db"}:
        raise _bad_url()
    return parts


def _bad_url() -> ConfigError:
    return ConfigError(
        "`redis.url` is not an address that llmhost can use",
        hint="write redis://host[:port][/db], rediss://… for TLS or unix:///path[?db=n], with "
        "`user:password@` before the host; in a password write %25 for %, %40 for @, %2F for /, %3F for ?, "
        "%23 for #, %5B for [ and %5D for ]",
    )


def _login(config: RedisConfig, username: str | None = None, password: str | None = None) -> dict[str, Any]:
    beside = config.password.get_secret_value() if config.password else None
    return {
        "username": unquote(username) if username else config.username or None,
        "password": unquote(password) if password else beside or None,
    }


def _tcp(config: RedisConfig, host: str, port: int, tls: bool) -> dict[str, Any]:
    address: dict[str, Any] = {"host": host, "port": port}
    if not tls:
        return address
    return address | {
        "connection_class": SSLConnection,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        "ssl_ca_certs": _authority(config.ca_file) if config.ca_file else None,
        **_client_certificate(config),
    }


def _client_certificate(config: RedisConfig) -> dict[str, Any]:
    if config.cert_file is None:
        return {}
    cert, key = expand(config.cert_file), expand(config.key_file or config.cert_file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password=_no_passphrase)
    except OSError as error:
        reason = "they hold no pair" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(
            f"`redis.cert_file` {cert} and its key {key} cannot be used: {reason}",
            hint="name PEM files with the client's certificate and its key, without a passphrase",
        ) from error
    return {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}


def _no_passphrase() -> str:
    """In place of asking at the terminal."""
    return ""


def _authority(ca_file: str) -> str:
    path = str(expand(ca_file))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(
            f"`redis.ca_file` {path} cannot be used: {reason}",
            hint="name a PEM file with the certificate of the authority",
        ) from error
    return path


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


@cache
def load_script(package: str, name: str) -> str:
    """The text of a Lua script in the folder ``lua`` of `package`: ``("llmhost.cache", "touch.lua")``."""
    return resources.files(package).joinpath("lua").joinpath(name).read_text(encoding="utf-8")


# Reading what Redis returns: bytes as a rule, text where a client decodes. Pure.


def text(raw: bytes | str) -> str:
    """The value as text; bytes that are no UTF-8 are marked, not refused."""
    return raw if isinstance(raw, str) else raw.decode("utf-8", "replace")


def amount(raw: bytes | str | None) -> float | None:
    """A finite number of at least 0, or None where the value is none."""
    try:
        value = float(raw or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
