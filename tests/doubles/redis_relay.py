"""What lies between llmhost and its Redis: a way that can be slow, break, or lead to another server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class RedisRelay:
    """Hands bytes on from its own `port` to that of a server on 127.0.0.1, both ways."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        #: cleared, no answer of Redis passes
        self.answers = asyncio.Event()
        self.answers.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def lead_to(self, target: int) -> None:
        """From now on to another server; the connections to the old one break."""
        self.target = target
        await self.cut()

    async def cut(self) -> None:
        """Breaks all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = [writer]
        try:
            from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self.target)
            ends.append(to_redis)
            await asyncio.gather(self._copy(reader, to_redis), self._copy(from_redis, writer, self.answers))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in ends:
                end.transport.abort()
                with suppress(OSError):
                    await end.wait_closed()
            self._tasks.discard(task)

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event | None = None
    ) -> None:
        while data := await reader.read(65536):
            if gate is not None:
                await gate.wait()
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def redis_relay(target: int) -> AsyncIterator[RedisRelay]:
    relay = RedisRelay(target)
    listener = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = listener.sockets[0].getsockname()[1]
    yield relay
    listener.close()
    relay.answers.set()
    await relay.cut()
    await listener.wait_closed()
