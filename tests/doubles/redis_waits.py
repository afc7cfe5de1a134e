"""How often a process waits for Redis: what is under way at the same time counts once."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection


class RedisWaits:
    """Of all connections of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._waiting: set[int] = set()
        send, read = AbstractConnection.send_packed_command, AbstractConnection.read_response

        async def counted_send(connection: Any, *arguments: Any, **options: Any) -> None:
            self.count += not self._waiting
            self._waiting.add(id(connection))
            await send(connection, *arguments, **options)

        async def counted_read(connection: Any, *arguments: Any, **options: Any) -> Any:
            try:
                return await read(connection, *arguments, **options)
            finally:
                self._waiting.discard(id(connection))

        monkeypatch.setattr(AbstractConnection, "send_packed_command", counted_send)
        monkeypatch.setattr(AbstractConnection, "read_response", counted_read)

    async def of(self, step: Coroutine[Any, Any, Any]) -> int:
        self.count = 0
        await step
        assert not self._waiting
        return self.count
