"""The limit of the cache: each stored entry evicts a few of the least recently used ones.

Redis evicts by itself what does not fit into its memory. This is for a limit below that: of a cache that
shares its Redis, or that is to cost no more than so much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from llmhost.cache.contracts import Index
from llmhost.cache.stored import read_entries
from llmhost.store.client import load_script, text, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["CacheLimits"]

#: entries evicted for each one stored, at most: a cache whose limit was lowered shrinks in steps
_AT_ONCE = 10
#: bytes that a key takes in Redis besides its name and value
_KEY_BYTES = 130


@dataclass(eq=False)
class CacheLimits:
    """The limits of one namespace; 0 for none. Bytes are estimated from what was stored lately. `lifetime` is
    the longest that an answer has, seconds. All methods raise StoreError."""

    client: Redis
    keys: NamespaceKeys
    max_entries: int
    max_bytes: int
    lifetime: float

    def __post_init__(self) -> None:
        self._note = self.client.register_script(load_script("llmhost.cache", "limit.lua"))

    @property
    def any(self) -> bool:
        return bool(self.max_entries or self.max_bytes)

    async def stored(self, entry: str, size: int, at: float) -> Sequence[str]:
        """Notes an entry of `size` bytes, index included, stored at `at`, Unix seconds. Names a few that have
        to go."""
        with translate_errors():
            gone = await self._note(
                keys=[self.keys.recent, self.keys.volume],
                args=[
                    entry,
                    at,
                    size + _KEY_BYTES,
                    self.max_entries,
                    self.max_bytes,
                    _AT_ONCE,
                    self.lifetime,
                ],
            )
        return [text(name) for name in gone]

    async def used(self, entries: Iterable[tuple[str, float]]) -> None:
        """They were served at these times, Unix seconds."""
        with translate_errors():
            await self.client.zadd(self.keys.recent, dict(entries), xx=True)

    async def evict(self, entries: Sequence[str], embedder: str, index: Index) -> None:
        """Takes them out of the cache, and of the embedder's index. One in the index of another embedder
        leaves it with the next search that finds it."""
        stored = await read_entries(self.client, self.keys, entries)
        names = [(self.keys.response(entry), self.keys.metadata(entry)) for entry in entries]
        with translate_errors():
            await self.client.unlink(*chain.from_iterable(names))
        scopes: dict[str, list[str]] = {}
        for entry, read in zip(entries, stored, strict=True):
            if read is not None and read.embedder == embedder:
                scopes.setdefault(read.scope, []).append(entry)
        for scope, ours in scopes.items():
            await index.remove(scope, ours)
