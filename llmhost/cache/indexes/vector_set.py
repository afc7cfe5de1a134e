"""Approximate search by Redis itself, 8.0 or newer: a vector set (VADD, VSIM) for each scope.

A vector set of one entry costs 3 KB, and most scopes are one conversation. So a scope begins as a log like
those of the flat index, and the process that adds one entry too many moves it to a vector set. Every search
reads both, which keeps each step of a move safe: an entry is in the set before it leaves the log, and is
named once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmhost.cache.indexes.checks import check_vector, damaged
from llmhost.cache.indexes.flat import ENTRY_BYTES, FlatIndex
from llmhost.cache.models import Neighbour
from llmhost.errors import StoreRefused
from llmhost.store.client import all_ended, execute, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["MOST_IN_LOG", "MOST_LISTED", "VectorSetIndex"]

#: entries; such a log is a third as large as a set, as fast, and exact: docs/architecture.md, "The indexes"
MOST_IN_LOG = 64
#: entries that are listed at once
MOST_LISTED = 1000
#: entries; Redis adds them in one step, and answers no other client meanwhile
_MOVED_AT_ONCE = 32
#: links of an entry, and candidates that are looked at to find them, and at a search. Of 100,000 clustered
#: entries, it finds the nearest to 100 %; with 8 links, 150 bytes less, to 87 %
_LINKS, _BUILD_EFFORT, _EFFORT = 16, 200, 100
#: bytes of an entry in a set besides its numbers: its name and its links
_NODE_BYTES = 770
#: scopes of which this process remembers that they have a set
_MOST_KNOWN = 4096

_Vector = NDArray[np.float32]


class VectorSetIndex:
    """The vector sets of one embedder. `lifetime` is seconds, counted from the last addition to a scope.
    A scope of at most `most_in_log` entries has no set; that of a larger one is `shards` sets, which are
    searched at once. Which one an entry is in follows from its name; where there were fewer before, it may be
    in another of them, so all are asked for it.

    The sets do not know when an entry expires: who meets one that has, removes it.
    """

    def __init__(
        self,
        client: Redis,
        keys: NamespaceKeys,
        *,
        embedder: str,
        dimensions: int,
        lifetime: float,
        most_in_log: int = MOST_IN_LOG,
        shards: int = 1,
    ) -> None:
        self._client = client
        self._keys = keys
        self._embedder = embedder
        self._dimensions = dimensions
        self.bytes_per_entry = dimensions + _NODE_BYTES
        self._lifetime_ms = round(lifetime * 1000)
        self._most_in_log = most_in_log
        self._shards = shards
        self._small = FlatIndex(
            client,
            keys,
            embedder=embedder,
            dimensions=dimensions,
            lifetime=lifetime,
            logs=keys.vector_log,
        )
        #: scopes that had a set when they were last looked at, the newest last
        self._large: dict[str, None] = {}

    async def prepare(self, scope: str) -> bool:
        if scope in self._large:
            await self._small.prepare(scope)
            return True
        # Two commands at once instead of one script: in a cluster, the keys may be on two nodes.
        logged, exists = await asyncio.gather(self._small.prepare(scope), self._exists(scope))
        self._note(scope, large=exists)
        return logged or exists

    async def search(self, scope: str, vector: _Vector, k: int) -> Sequence[Neighbour]:
        check_vector(vector, self._embedder, self._dimensions)
        small = await self._small.search(scope, vector, k)
        if scope not in self._large:
            return small
        options = ["FP32", _encode(vector), "WITHSCORES", "COUNT", k, "EF", max(_EFFORT, k)]
        with self._translate():
            found = await all_ended(execute(self._client, "VSIM", key, *options) for key in self._sets(scope))
        self._note(scope, large=any(found))  # it may have been evicted
        # Where an entry is in both, a process that knew of no set may have put a newer vector into the log.
        both = {near.entry: near for near in (*chain.from_iterable(map(_neighbours, found)), *small)}
        return sorted(both.values(), key=lambda near: -near.similarity)[:k]

    async def add(self, scope: str, entry: str, vector: _Vector) -> None:
        check_vector(vector, self._embedder, self._dimensions)
        if scope in self._large:
            await asyncio.gather(self._add_to_set(scope, [(entry, vector)]), self._small.prepare(scope))
            if self._small.mirror(scope).vector(entry) is not None:
                await self._small.remove(scope, [entry])
            if len(self._small.mirror(scope)) > 0:  # of a move that was cut off
                await self._move(scope)
            return
        await self._small.add(scope, entry, vector)
        if self._small.mirror(scope).count > self._most_in_log:
            await self._small.prepare(scope)
            if len(self._small.mirror(scope)) > self._most_in_log:
                await self._move(scope)

    async def remove(self, scope: str, entries: Sequence[str]) -> None:
        await asyncio.gather(self._small.remove(scope, entries), self._remove_from_set(scope, entries))

    async def vectors(self, scope: str, entries: Sequence[str]) -> Sequence[_Vector | None]:
        with self._translate():
            pipeline = self._client.pipeline(transaction=False)
            for entry in entries:
                for key in self._sets(scope):
                    pipeline.execute_command("VEMB", key, bytes.fromhex(entry), "RAW")
            in_log, in_set = await asyncio.gather(self._small.vectors(scope, entries), pipeline.execute())
        raws = (
            next(filter(None, in_set[at : at + self._shards]), None)
            for at in range(0, len(in_set), self._shards)
        )
        return [
            _decode(raw, self._dimensions) if logged is None else logged
            for logged, raw in zip(in_log, raws, strict=True)
        ]

    async def members(self, scope: str) -> Sequence[str]:
        """The entries of a scope; of a set with more than `MOST_LISTED`, a random sample of that size."""
        small = await self._small.members(scope)
        with self._translate():
            large = await all_ended(
                execute(self._client, "VRANDMEMBER", key, MOST_LISTED) for key in self._sets(scope)
            )
        ours = [name.hex() for names in large for name in names or () if len(name) == ENTRY_BYTES]
        return [*dict.fromkeys((*small, *ours))]

    async def _move(self, scope: str) -> None:
        """Moves the log, as it was last read, to the set. A crash leaves entries in both; the next addition
        moves them."""
        log = self._small.mirror(scope)
        entries, header, position = list(log.items()), log.header, log.position  # more may be read meanwhile
        for start in range(0, len(entries), _MOVED_AT_ONCE):
            await self._add_to_set(scope, entries[start : start + _MOVED_AT_ONCE])
        self._note(scope, large=True)
        await self._small.drop(scope, header, position)

    async def _add_to_set(self, scope: str, entries: Sequence[tuple[str, _Vector]]) -> None:
        parts: dict[str, list[tuple[str, _Vector]]] = {}
        for entry, vector in entries:
            parts.setdefault(self._set_of(scope, entry), []).append((entry, vector))
        with self._translate():
            await all_ended(self._add_to(*part) for part in parts.items())

    async def _add_to(self, key: str, entries: Sequence[tuple[str, _Vector]]) -> None:
        """In one transaction, so that no set is left without a lifetime."""
        pipeline = self._client.pipeline(transaction=True)
        for entry, vector in entries:
            command = ["VADD", key, "FP32", _encode(vector), bytes.fromhex(entry)]
            pipeline.execute_command(*command, "Q8", "EF", _BUILD_EFFORT, "M", _LINKS)
        pipeline.pexpire(key, self._lifetime_ms)
        await pipeline.execute()

    async def _remove_from_set(self, scope: str, entries: Sequence[str]) -> None:
        with self._translate():
            pipeline = self._client.pipeline(transaction=False)
            for key in self._sets(scope):
                for entry in entries:
                    pipeline.execute_command("VREM", key, bytes.fromhex(entry))
            await pipeline.execute()

    async def _exists(self, scope: str) -> bool:
        with translate_errors():
            return bool(await self._client.exists(*self._sets(scope)))

    def _note(self, scope: str, *, large: bool) -> None:
        self._large.pop(scope, None)
        if large:
            self._large[scope] = None
            if len(self._large) > _MOST_KNOWN:
                del self._large[next(iter(self._large))]

    def _sets(self, scope: str) -> Sequence[str]:
        return [self._keys.vectors(self._embedder, scope, shard) for shard in range(self._shards)]

    def _set_of(self, scope: str, entry: str) -> str:
        """An entry's name is a hash."""
        return self._keys.vectors(self._embedder, scope, int(entry[:8], 16) % self._shards)

    @contextmanager
    def _translate(self) -> Iterator[None]:
        try:
            with translate_errors():
                yield
        except StoreRefused as error:
            # A set of other dimensions, links or numbers: another program's.
            if "mismatch" in error.args[0]:
                raise damaged(self._embedder) from None
            raise


def _encode(vector: _Vector) -> bytes:
    return vector.astype("<f4").tobytes()


def _decode(raw: Sequence[Any] | None, dimensions: int) -> _Vector | None:
    """What VEMB RAW says of an entry: the kind of its numbers, these, the length before, and the largest."""
    if not raw or len(raw[1]) != dimensions:
        return None
    codes = np.frombuffer(raw[1], dtype=np.int8).astype(np.float32)
    length = np.linalg.norm(codes)
    return codes / length if length else None


def _neighbours(found: Sequence[bytes]) -> Iterator[Neighbour]:
    """VSIM's answer: names and scores, which are 1 for the same direction and 0 for the opposite one."""
    for name, score in zip(found[::2], found[1::2], strict=True):
        similarity = 2 * float(score) - 1
        if len(name) == ENTRY_BYTES and math.isfinite(similarity):
            yield Neighbour(name.hex(), min(similarity, 1.0))
