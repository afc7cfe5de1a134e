"""Removes what the cache has no use for any more, in small steps, while other processes serve.

A search removes the expired entries that it meets: this is for those that no search meets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol, cast, get_args

from llmhost.cache.contracts import Index
from llmhost.cache.indexes.choose import IndexKind, read_layout, remove_index
from llmhost.cache.indexes.flat import dimensions_of
from llmhost.cache.keys import ENTRY_PATTERN
from llmhost.cache.walk import BATCH, keys_of
from llmhost.errors import StoreRefused
from llmhost.store.client import execute, is_sharded, load_script, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Sweeper", "Swept"]

#: bytes of a log that tell what it is
_HEAD = 64
#: entries of which one script removes what is left: Redis answers no other client meanwhile
_AT_ONCE = 100


class _ListingIndex(Index, Protocol):
    async def members(self, scope: str) -> Sequence[str]: ...


@dataclass(slots=True)
class Swept:
    """`vectors` of entries that have expired; `records`, keys of such entries; `index_keys` of kinds of index
    that are not in use; `refused` why some could not be looked at, empty where all were."""

    step: str = ""
    vectors: int = 0
    records: int = 0
    index_keys: int = 0
    refused: str = ""


@dataclass(eq=False)
class Sweeper:
    """`make` gives the index of a kind, an embedder's id and its dimensions; `configured` is the kind that
    this configuration names, None where it leaves the choice."""

    client: Redis
    keys: NamespaceKeys
    _: KW_ONLY
    make: Callable[[IndexKind, str, int], Index]
    configured: IndexKind | None = None
    tell: Callable[[Swept], None] = lambda _: None

    async def run(self) -> Swept:
        """Raises StoreError."""
        done = Swept()
        layout = await read_layout(self.client, self.keys)
        used = {layout.index, layout.building, self.configured} - {None}
        for kind in get_args(IndexKind):
            if used and kind not in used:
                done.step = f"removing the index {kind}"
                done.index_keys += await remove_index(self.client, self.keys, kind)
            else:
                done.step = f"looking for expired entries in the index {kind}"
                self.tell(done)
                await self._sweep_index(done, kind)
            self.tell(done)
        done.step = "looking for what expired entries left"
        for key_of in (self.keys.embedding, self.keys.metadata):
            done.records += await self._drop_orphans(key_of("*"))
            self.tell(done)
        return done

    async def _sweep_index(self, done: Swept, kind: IndexKind) -> None:
        if kind == "query_engine":
            done.vectors += await self._drop_orphans(f"{self.keys.family('vector')}*")
            return
        async for key, family in self._keys_of_scopes(kind):
            try:
                await self._sweep_scope(done, kind, family, key)
            except StoreRefused as error:  # a damaged log, or a right that this user lacks
                done.refused = error.message
            self.tell(done)

    async def _keys_of_scopes(self, kind: IndexKind) -> AsyncIterator[tuple[str, str]]:
        """The key of each scope in an index of this kind, and its family."""
        for family in ("vectors", "vector_log") if kind == "vector_set" else ("flat", "index"):
            async for found in keys_of(self.client, f"{self.keys.family(family)}*"):
                for key in found:
                    if ENTRY_PATTERN.fullmatch(self.keys.id_in(key)):  # else a log that is being written
                        yield key, family

    async def _dimensions(self, family: str, key: str) -> int | None:
        if family != "vectors":
            return dimensions_of(await execute(self.client, "GETRANGE", key, 0, _HEAD))
        member = await execute(self.client, "VRANDMEMBER", key)
        raw = None if member is None else await execute(self.client, "VEMB", key, member, "RAW")
        return len(raw[1]) if raw else None

    async def _sweep_scope(self, done: Swept, kind: IndexKind, family: str, key: str) -> None:
        """Until no expired entry is met among those that the index lists."""
        embedder, scope = key.removeprefix(self.keys.family(family)).rpartition(":")[0], self.keys.id_in(key)
        dimensions = await self._dimensions(family, key)
        if not dimensions:
            return
        index = cast("_ListingIndex", self.make(kind, embedder, dimensions))
        while True:
            gone = await self._gone(await index.members(scope))
            if not gone:
                return
            for start in range(0, len(gone), BATCH):
                part = gone[start : start + BATCH]
                vectors = dict(zip(part, await index.vectors(scope, part), strict=True))
                await index.remove(scope, part)
                back = set(part) - set(await self._gone(part))  # replaced at this moment
                for entry in back:
                    vector = vectors[entry]
                    if vector is not None:
                        await index.add(scope, entry, vector)
                done.vectors += len(part) - len(back)

    async def _gone(self, entries: Sequence[str]) -> list[str]:
        """Those that have no answer any more."""
        gone = []
        for start in range(0, len(entries), BATCH):
            part = entries[start : start + BATCH]
            with translate_errors():
                pipeline = self.client.pipeline(transaction=False)
                for entry in part:
                    pipeline.exists(self.keys.response(entry))
                there = await pipeline.execute()
            gone += [entry for entry, exists in zip(part, there, strict=True) if not exists]
        return gone

    async def _drop_orphans(self, pattern: str) -> int:
        """Removes the keys that match and end with the name of an entry that has no answer any more. Redis
        looks and removes in one step, so that none is lost that is stored at this moment."""
        drop, dropped = self.client.register_script(load_script("llmhost.cache", "drop_orphans.lua")), 0
        async for found in keys_of(self.client, pattern):
            names = [(self.keys.id_in(key), key) for key in found]
            pairs = [(self.keys.response(name), key) for name, key in names if ENTRY_PATTERN.fullmatch(name)]
            at_once = 1 if is_sharded(self.client) else _AT_ONCE  # a script's keys are on one server
            for start in range(0, len(pairs), at_once):
                with translate_errors():
                    dropped += await drop(keys=[*chain.from_iterable(pairs[start : start + at_once])])
        return dropped
