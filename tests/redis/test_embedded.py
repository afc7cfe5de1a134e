"""The embedded server's life."""

from __future__ import annotations

from pathlib import Path

from llmhost.redis.embedded import EmbeddedRedis


async def test_it_starts_and_stops(embedded: EmbeddedRedis, redis_folder: Path) -> None:
    assert not await embedded.is_running()
    socket = await embedded.ensure_running()
    assert socket == redis_folder / "redis.sock"
    assert await embedded.is_running()
    assert embedded.pid is not None
    assert await embedded.stop()
    assert embedded.pid is None
    assert not await embedded.stop()
