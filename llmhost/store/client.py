"""A client for Redis, and the scripts that it runs."""

from __future__ import annotations

import time
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from llmhost.store.address import address_options
from llmhost.store.errors import translate_errors

if TYPE_CHECKING:
    from llmhost.config.models import RedisConfig

__all__ = ["connect", "load_script", "translate_errors"]

#: connections; as many commands at once. More wait for one, at most `redis.timeout` seconds
_MAX_CONNECTIONS = 64

#: seconds; a Redis that comes back is used again after this time
_PAUSE = 5.0

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
    return Redis.from_pool(pool)


class _FailFastPool(BlockingConnectionPool):
    """A pool that waits only once for a server that is away.

    One question uses Redis in several steps: each would wait as long as the first. For some seconds
    after a connection could not be made, they fail at once instead.
    """

    _failure: Exception | None = None
    _retry_at = 0.0

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        if self._failure is not None and time.monotonic() < self._retry_at:
            raise self._failure
        try:
            connection = await super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            self._failure, self._retry_at = error, time.monotonic() + _PAUSE
            raise
        self._failure = None
        return connection


@cache
def load_script(package: str, name: str) -> str:
    """The text of a Lua script that lies in `package`, such as ``("llmhost.cache.lua", "store.lua")``."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
