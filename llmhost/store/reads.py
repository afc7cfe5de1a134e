"""Reading what several ask for at the same moment in one round trip to Redis."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import TYPE_CHECKING

from redis.asyncio import Redis

if TYPE_CHECKING:
    from asyncio import Future, Task

__all__ = ["SharedReads"]


class SharedReads:
    """GETs of one moment become one MGET: under load a command costs more than what it brings.

    Who asks may be cancelled. The command goes on, as a task that belongs to nobody, so that none of its
    connection is lost (see `store.client`). A key of another type has no value.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._asked: dict[str, list[Future[bytes | None]]] = {}
        self._reading: set[Task[None]] = set()

    async def get(self, key: str) -> bytes | None:
        """The value; raises as the client does."""
        value: Future[bytes | None] = asyncio.get_running_loop().create_future()
        first = not self._asked
        self._asked.setdefault(key, []).append(value)
        if first:
            task = asyncio.create_task(self._read())  # begins when all that is ready now has asked
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        return await value

    async def _read(self) -> None:
        asked, self._asked = self._asked, {}
        try:
            # Not the client's own method, which makes another task that nobody cancels.
            found = await Redis.execute_command(self._client, "MGET", *asked)  # type: ignore[no-untyped-call]
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
