"""Which server a configuration means, as whom, and with which certificate: redis-py's connection options.

redis-py reads URLs itself, but takes options from them that turn the certificate check off, reads a
malformed one as something else, and puts pieces of the password into its errors.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import SSLConnection, UnixDomainSocketConnection

from llmhost.errors import ConfigError

if TYPE_CHECKING:
    from llmhost.config.models import RedisConfig

__all__ = ["address_options"]


def address_options(config: RedisConfig, socket: Path | None) -> dict[str, Any]:
    """Options of the connection: its class, the address, database and login.

    The embedded server, at `socket`, knows no users. A URL's own login and database go before those that
    stand beside it.

    Raises:
        ConfigError: no server is named, the URL is malformed, or `ca_file` holds no certificate.
    """
    if socket is not None:
        return _unix(str(socket)) | {"db": config.db}
    if config.url is not None:
        return _from_url(config, _split(config.url.get_secret_value()))
    if config.host is not None:
        return _host(config, config.host, config.port, config.tls) | {"db": config.db} | _login(config)
    raise ConfigError("no Redis server is named", hint="set `redis.url` or `redis.host`")


def _from_url(config: RedisConfig, parts: SplitResult) -> dict[str, Any]:
    rest = {"db": _database(config, parts)} | _login(config, parts.username, parts.password)
    if parts.scheme == "unix":
        return _unix(unquote(parts.path)) | rest
    tls = config.tls or parts.scheme == "rediss"
    return _host(config, parts.hostname or "", parts.port or config.port, tls) | rest


def _split(url: str) -> SplitResult:
    """A URL that means what it looks like. A password that was not escaped turns up as port, path, query
    or fragment and in the cause's own words, so none of them is shown."""
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
        "`user:password@` before the host; in a password write %40 for @, %2F for /, %3F for ? and %23 for #",
    )


def _database(config: RedisConfig, parts: SplitResult) -> int:
    path = "" if parts.scheme == "unix" else parts.path.strip("/")
    number = parse_qs(parts.query).get("db", [path])[0]
    if not number:
        return config.db
    if not (number.isascii() and number.isdigit()):
        raise _bad_url()
    return int(number)


def _login(config: RedisConfig, username: str | None = None, password: str | None = None) -> dict[str, Any]:
    beside = config.password.get_secret_value() if config.password else None
    return {
        "username": unquote(username) if username else config.username or None,
        "password": unquote(password) if password else beside or None,
    }


def _unix(path: str) -> dict[str, Any]:
    return {"connection_class": UnixDomainSocketConnection, "path": path}


def _host(config: RedisConfig, host: str, port: int, tls: bool) -> dict[str, Any]:
    return {"host": host, "port": port} | (_tls(config) if tls else {})


def _tls(config: RedisConfig) -> dict[str, Any]:
    return {
        "connection_class": SSLConnection,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        "ssl_ca_certs": _authority(config.ca_file) if config.ca_file else None,
    }


def _authority(ca_file: str) -> str:
    path = str(Path(ca_file).expanduser())
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(
            f"`redis.ca_file` {path} cannot be used: {reason}",
            hint="name a PEM file with the certificate of the authority",
        ) from error
    return path
