"""What the cache takes of its Redis, and how that Redis is doing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from llmhost.cache.keys import Keys
from llmhost.errors import StoreRefused
from llmhost.store.client import translate_errors
from llmhost.store.values import text

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["CacheUsage", "cache_usage"]

#: keys; how many Redis looks at in one step of a scan
_SCAN_STEP = 1000

#: entries; enough for a mean, few enough for a server that is far away
_SAMPLE = 32


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """`entries` counts the answers that could be served now. The other figures but `bytes_per_entry`
    are the whole server's, since it started; None where the server does not tell.
    """

    used_memory_bytes: int | None
    entries: int
    bytes_per_entry: int | None
    evicted: int | None
    expired: int | None
    keyspace_hits: int | None
    keyspace_misses: int | None


async def cache_usage(client: Redis, keys: Keys) -> CacheUsage:
    """Raises StoreError where Redis is away."""
    with translate_errors():
        info = await client.info()
        found = client.scan_iter(match=keys.response("*"), count=_SCAN_STEP)
        entries = {text(key).rpartition(":")[2] async for key in found}
    return CacheUsage(
        used_memory_bytes=_whole(info, "used_memory"),
        entries=len(entries),
        bytes_per_entry=await _bytes_per_entry(client, keys, list(islice(entries, _SAMPLE))),
        evicted=_whole(info, "evicted_keys"),
        expired=_whole(info, "expired_keys"),
        keyspace_hits=_whole(info, "keyspace_hits"),
        keyspace_misses=_whole(info, "keyspace_misses"),
    )


async def _bytes_per_entry(client: Redis, keys: Keys, sample: Sequence[str]) -> int | None:
    """The mean of the sample: its three keys, and its vector once more in the index."""
    if not sample:
        return None
    try:
        with translate_errors():
            pipeline = client.pipeline(transaction=False)
            for entry in sample:
                for key in (keys.response(entry), keys.embedding(entry), keys.metadata(entry)):
                    pipeline.memory_usage(key)
                pipeline.hstrlen(keys.embedding(entry), "vector")
            sizes = await pipeline.execute()
    except StoreRefused:
        return None  # a hosted Redis may forbid MEMORY USAGE
    totals = [sum(size or 0 for size in sizes[at : at + 4]) for at in range(0, len(sizes), 4)]
    return round(statistics.fmean(totals))


def _whole(info: dict[str, Any], name: str) -> int | None:
    value = info.get(name)
    return value if isinstance(value, int) else None
