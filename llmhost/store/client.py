"""The client for the Redis that the configuration names, and what every user of it needs.

In this order: connecting, the options of a connection, the scripts that Redis runs, and the values that it
returns.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import (
    Connection,
    ConnectionPool,
    Redis,
    Sentinel,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from llmhost.config.redis import parse_addresses
from llmhost.errors import ConfigError, StoreError
from llmhost.machine.paths import expand
from llmhost.store.cluster import ClusterClient
from llmhost.store.connections import MAX_CONNECTIONS, FailFastPool, SentinelPool, client_of
from llmhost.store.errors import translate_errors

if TYPE_CHECKING:
    from llmhost.config.redis import RedisConfig

__all__ = [
    "address_options",
    "all_ended",
    "amount",
    "connect",
    "execute",
    "is_sharded",
    "load_script",
    "place_of",
    "run_or_undo",
    "server_time",
    "text",
    "translate_errors",
]

_T = TypeVar("_T")

_UNIX: dict[str, Any] = {"connection_class": UnixDomainSocketConnection}
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


#: as fast as version 3 when measured, one round trip less to connect, and no HELLO: a server that does
#: not know HELLO repeats its arguments, the password among them, in its error
_PROTOCOL = 2


def connect(config: RedisConfig, *, socket: Path | None = None, pause: float | None = None) -> Redis:
    """A client that connects with its first command and answers in bytes; `aclose` it when done.

    `socket` is the embedded server's; without it, the server that `config` names. Nothing is tried twice:
    a command on a Redis that hangs fails after `config.timeout` seconds, and those after it at once, for
    `pause` seconds (5 by default). Use it inside `translate_errors`.

    Raises:
        ConfigError: `config` names no server, or one that cannot be: a malformed URL, a bad `ca_file`.
    """
    options: dict[str, Any] = {
        "socket_timeout": config.timeout,
        "socket_connect_timeout": config.timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": _PROTOCOL,
        "client_name": "llmhost",
        "driver_info": None,
    }
    limits: dict[str, Any] = {"max_connections": MAX_CONNECTIONS, "timeout": config.timeout, "pause": pause}
    if socket is None and config.sentinel.hosts is not None:
        return client_of(_sentinel_pool(config, limits, options))
    options |= address_options(config, socket)
    if config.cluster:
        seeds = [(options.pop("host"), options.pop("port"))]
        return ClusterClient(
            [*seeds, *(parse_addresses(config.seeds) if config.seeds else ())],
            lambda host, port: FailFastPool(**limits, **options, host=host, port=port),
        )
    client = client_of(FailFastPool(**limits, **options))
    client.sharded = config.sharded
    return client


def _sentinel_pool(config: RedisConfig, limits: dict[str, Any], options: dict[str, Any]) -> SentinelPool:
    """Connections to the master. Sentinels are asked in turn, each for `redis.timeout` at most."""
    own, secret = config.sentinel, config.sentinel.password
    tls = _tls(config) if config.tls else {}
    login = {"username": own.username, "password": secret.get_secret_value() if secret else None}
    kind = SSLConnection if tls else Connection
    sentinel = Sentinel([])  # type: ignore[no-untyped-call]
    sentinel.sentinels = [
        Redis.from_pool(ConnectionPool(kind, **options | tls | login, host=host, port=port))
        for host, port in parse_addresses(own.hosts or "")
    ]
    return SentinelPool(  # type: ignore[no-untyped-call]
        own.master, sentinel, ssl=bool(tls), **limits, **options, **tls, **_login(config), db=config.db
    )


def is_sharded(client: Redis) -> bool:
    """Whether the name of a key says on which of several servers it is; a script's keys must be on one."""
    return getattr(client, "sharded", False)


async def execute(client: Redis, *command: Any) -> Any:
    """Runs a command that redis-py has no method for. Raises StoreError."""
    with translate_errors():
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def all_ended(steps: Iterable[Awaitable[_T]]) -> list[_T]:
    """What several steps give that run at once. All have ended before the error of one is raised: one that is
    not awaited would go on in the middle of what comes next."""
    results = await asyncio.gather(*steps, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


async def run_or_undo(command: Awaitable[_T], undo: Callable[[], Awaitable[object]]) -> _T:
    """What the command gives. Redis carries it out although the task that waits for it is cancelled: then it
    is undone, once it has ended, so that the two cannot pass each other on two connections. Raises
    StoreError."""
    task = asyncio.ensure_future(command)
    try:
        with translate_errors():
            return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        with suppress(StoreError):
            await undo()
        raise


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


def place_of(config: RedisConfig) -> str:
    """Which server of the operator's, which database in it and which names of keys; the login is no part of
    it. Raises ConfigError for a malformed URL."""
    keys = " sharded" if config.has_shards else ""
    if config.sentinel.hosts is not None:
        return f"{config.sentinel.hosts} {config.sentinel.master} {config.db}{keys}"
    bare = {"tls": False, "ca_file": None, "cert_file": None, "key_file": None}
    options = address_options(config.model_copy(update=bare), None)
    host = str(options.get("host", "")).lower()
    address = options.get("path") or f"{'localhost' if host in _THIS_MACHINE else host}:{options['port']}"
    return f"{address} {options['db']}{keys}"


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
    return address | {"connection_class": SSLConnection} | _tls(config) if tls else address


def _tls(config: RedisConfig) -> dict[str, Any]:
    return {
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


@cache
def load_script(package: str, name: str) -> str:
    """The text of a Lua script in the folder ``lua`` of `package`: ``("llmhost.cache", "touch.lua")``."""
    return resources.files(package).joinpath("lua").joinpath(name).read_text(encoding="utf-8")


# Reading what Redis returns: bytes as a rule, text where a client decodes. Pure.


async def server_time(client: Redis) -> float:
    """Unix seconds by the clock of Redis, which all machines share. Raises StoreError."""
    with translate_errors():
        seconds, microseconds = await client.time()
        return float(seconds) + microseconds / 1e6


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
