"""Reading what several ask for at the same moment in one round trip to Redis."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from redis.exceptions import TimeoutError as RedisTimeoutError

from llmhost.store.cluster import ClusterClient

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["SharedReads"]

Value = bytes | None


class SharedReads:
    """GETs of one moment become one MGET, on a connection of the client's pool that is kept for them: getting
    a connection, and asking for each value alone, is a third of the work of a hit.

    A reader may be cancelled. The command goes on, in a task of its own, so that its connection is
    not lost (see `store.client`). A key of another type has no value.
    """

    def __init__(self, client: Redis) -> None:
        #: a cluster has several pools: it splits the command itself
        self._cluster = client if isinstance(client, ClusterClient) else None
        self._pool: Any = client.connection_pool
        self._timeout: float | None = self._pool.connection_kwargs.get("socket_timeout")
        self._connection: Any = None
        #: what is to be read next, and by whom
        self._asked: dict[str, list[Future[Value]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def get(self, key: str) -> Value:
        """The value; raises as the client does."""
        return await self._wanted(key)

    async def get_all(self, keys: Sequence[str]) -> list[Value]:
        """The values; raises as the client does."""
        return list(await asyncio.gather(*map(self._wanted, keys)))

    def _wanted(self, key: str) -> Future[Value]:
        value: Future[Value] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(key, []).append(value)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())  # begins when all that is ready now has asked
        return value

    async def _read(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                found = await self._values(list(asked))
            except Exception as error:  # noqa: BLE001 - raised to everyone who asks
                for value in chain.from_iterable(asked.values()):
                    if not value.done():
                        value.set_exception(error)
            else:
                for values, one in zip(asked.values(), found, strict=True):
                    for value in values:
                        if not value.done():
                            value.set_result(one)
            finally:
                for value in chain.from_iterable(asked.values()):
                    value.cancel()  # where the loop ends; it does nothing to one that is done

    async def _values(self, keys: list[str]) -> list[Value]:
        if self._cluster is not None:
            found: list[Any] = await self._cluster.mget(keys)
            return found
        connection = self._connection
        if connection is None:
            connection = await self._pool.get_connection()
        self._connection = None
        try:
            connection.socket_timeout = None  # one limit for both, which costs less than two
            async with asyncio.timeout(self._timeout):
                await self._pool.ensure_connection(connection)
                await connection.send_command("MGET", *keys)
                values: list[Value] = await connection.read_response()
        except BaseException as error:
            connection.socket_timeout = self._timeout
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError("Timeout reading from socket") from error
            raise
        self._connection = connection
        return values
