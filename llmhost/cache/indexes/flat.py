"""Exact search on any Redis: vectors in Redis, compared in this process.

The index of a scope is one string in Redis, an append-only log: a header, then records of equal size.
Each process keeps a mirror of the scopes it uses and reads only what was appended since, so that a
search costs one short round trip and one pass over a matrix, and a cold one a single read.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmhost.cache.indexes.mirror import ENTRY_BYTES, Mirror, encode_record, encode_removal
from llmhost.cache.keys import Keys
from llmhost.cache.models import Neighbour
from llmhost.errors import StoreRefused
from llmhost.store.client import load_script, translate_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from redis.asyncio import Redis

__all__ = ["FlatIndex"]

_MAGIC = b"LLMHOST1"

# magic, dimensions, a random number that is new whenever the log is: it tells a reader to start over.
_HEADER = struct.Struct("<8sI16s")

#: scopes; each conversation has one of its own, so an unbounded number would fill the memory
_MOST_MIRRORS = 256

#: bytes; Redis refuses longer strings
_LONGEST_LOG = 512 * 1024 * 1024


class FlatIndex:
    """The flat index of one embedder. `lifetime` is seconds, counted from the last record."""

    def __init__(self, client: Redis, keys: Keys, *, embedder: str, dimensions: int, lifetime: float) -> None:
        self._client = client
        self._keys = keys
        self._embedder = embedder
        self._dimensions = dimensions
        self._lifetime_ms = round(lifetime * 1000)
        self._mirrors: OrderedDict[str, tuple[asyncio.Lock, Mirror]] = OrderedDict()
        self._add = client.register_script(load_script("llmhost.cache.lua", "flat_add.lua"))
        self._read = client.register_script(load_script("llmhost.cache.lua", "flat_read.lua"))

    async def prepare(self, scope: str) -> None:
        await self._synced(scope)

    async def search(self, scope: str, vector: NDArray[np.float32], k: int) -> Sequence[Neighbour]:
        _, mirror = self._mirror(scope)
        return mirror.search(vector, k)

    async def add(self, scope: str, entry: str, vector: NDArray[np.float32]) -> None:
        mirror = await self._synced(scope)
        known = mirror.vector(entry)
        if known is None or not np.array_equal(known, vector):
            await self._append(scope, mirror, encode_record(entry, vector))

    async def remove(self, scope: str, entries: Sequence[str]) -> None:
        mirror = await self._synced(scope)
        known = [entry for entry in entries if mirror.vector(entry) is not None]
        if known:
            await self._append(
                scope, mirror, b"".join(encode_removal(entry, self._dimensions) for entry in known)
            )

    def _mirror(self, scope: str) -> tuple[asyncio.Lock, Mirror]:
        held = self._mirrors.setdefault(scope, (asyncio.Lock(), Mirror(self._dimensions)))
        self._mirrors.move_to_end(scope)
        if len(self._mirrors) > _MOST_MIRRORS:
            self._mirrors.popitem(last=False)
        return held

    async def _synced(self, scope: str) -> Mirror:
        """The mirror with all that stands in Redis now."""
        lock, _ = self._mirror(scope)
        async with lock:
            _, mirror = self._mirror(scope)
            with translate_errors():
                header, records = await self._read(
                    keys=[self._keys.index(self._embedder, scope)],
                    args=[mirror.header, mirror.position, _HEADER.size],
                )
            if header != mirror.header:
                mirror = self._fresh(header)
            if not mirror.replay(records):
                raise self._damaged()
            self._mirrors[scope] = (lock, mirror)
            return mirror

    def _fresh(self, header: bytes) -> Mirror:
        """An empty mirror of the log that begins with `header`, which is empty where there is none."""
        if not header:
            return Mirror(self._dimensions)
        if len(header) != _HEADER.size or _HEADER.unpack(header)[:2] != (_MAGIC, self._dimensions):
            raise self._damaged()
        return Mirror(self._dimensions, header, _HEADER.size)

    async def _append(self, scope: str, mirror: Mirror, records: bytes) -> None:
        if mirror.position + len(records) > _LONGEST_LOG:
            most = _LONGEST_LOG // (ENTRY_BYTES + 4 * self._dimensions)
            raise StoreRefused(
                f"the flat index holds no more than {most:,} questions in one scope",
                hint="run `llmhost cache clear`, or shorten `cache.embedding_ttl`",
            )
        header = _HEADER.pack(_MAGIC, self._dimensions, os.urandom(16))
        with translate_errors():
            await self._add(
                keys=[self._keys.index(self._embedder, scope)], args=[header, records, self._lifetime_ms]
            )

    def _damaged(self) -> StoreRefused:
        return StoreRefused(
            f"the index of embedder {self._embedder} in Redis is damaged",
            hint="run `llmhost cache clear` to start a new one",
        )
