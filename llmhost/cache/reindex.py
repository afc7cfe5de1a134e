"""Moves all entries to another index, or to another embedding model, while other processes serve.

These write to both indexes as soon as they know of the new one: `indexes/in_force.py`. What is in the new one
already is not moved again, so that a run that was cut off is continued by the next.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING

from llmhost.cache import walk
from llmhost.cache.contracts import Embedder, Index
from llmhost.cache.indexes.choose import IndexKind, read_layout, remove_index, server_indexes
from llmhost.cache.indexes.in_force import LAYOUT_PERIOD
from llmhost.cache.stored import decode_entry, pack_entry
from llmhost.errors import StateError, StoreRefused, UsageError
from llmhost.store.client import load_script, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from redis.asyncio import Redis

    _Vector = NDArray[np.float32]

__all__ = ["Reindexed", "Reindexer"]

#: additions at once; more gain nothing, as Redis does one after the other
_AT_ONCE = 16
#: how much longer than its period a process may take to look at the layout
_SLACK = 1.2


@dataclass(slots=True)
class Reindexed:
    """`entries` that were looked at; of them, how many were added to the index, how many of these were
    embedded for it, and how many records of an older llmhost were brought up to date. `other_embedder`:
    found by another embedding model than the configured one, and left so. `lost`: in no index, since their
    own model is not the configured one. `removed_keys`: of indexes that are in use no more."""

    index: IndexKind
    before: IndexKind | None
    step: str = ""
    entries: int = 0
    added: int = 0
    embedded: int = 0
    updated: int = 0
    other_embedder: int = 0
    lost: int = 0
    removed_keys: int = 0


@dataclass(eq=False)
class Reindexer:
    """`make` gives the index of a kind, an embedder's id and its dimensions; `embedder_source` the configured
    embedding model. With `re_embed`, all entries are found by that from then on.
    """

    client: Redis
    keys: NamespaceKeys
    _: KW_ONLY
    make: Callable[[IndexKind, str, int], Index]
    embedder_source: Callable[[], Awaitable[Embedder]]
    embedder_id: str
    re_embed: bool = False
    #: seconds; how long it takes until other processes know of a change
    period: float = LAYOUT_PERIOD
    tell: Callable[[Reindexed], None] = lambda _: None
    _indexes: dict[tuple[IndexKind, str, int], Index] = field(default_factory=dict)
    _sources: Sequence[IndexKind] = ()

    async def run(self, wanted: IndexKind | None) -> Reindexed:
        """Moves the entries to the index `wanted`; None: to the one that is being built, else the best of
        this server. Raises UsageError where the server does not have it, StoreError, ModelError, and
        StateError where another run builds another index meanwhile.
        """
        done = await self._begin(wanted)
        changes = done.before != done.index
        known_at = time.monotonic() + self.period * _SLACK
        await self._move_all(done, "moving entries")
        if changes:
            await self._wait(done, known_at, "waiting until all processes write to both indexes")
            before = (done.entries, done.updated)
            await self._move_all(done, "moving what was stored meanwhile")
            done.entries, done.updated = before
            await self._switch(done)
            known_at = time.monotonic() + self.period * _SLACK
            await self._wait(done, known_at, "waiting until all processes use the new index")
        await self._remove_others(done)
        return done

    async def _begin(self, wanted: IndexKind | None) -> Reindexed:
        layout, indexes = (
            await read_layout(self.client, self.keys),
            await server_indexes(self.client, self.keys),
        )
        kind = wanted or layout.building or indexes.possible[0]
        if kind not in indexes.possible:
            why = "does not let this user use" if kind in indexes.forbidden else "does not have"
            raise UsageError(
                f"this Redis {why} the index {kind}", hint=f"it has: {', '.join(indexes.possible)}"
            )
        self._sources = [source for source in indexes.possible if source != kind]
        if layout.building is not None and layout.building != kind:
            await remove_index(self.client, self.keys, layout.building)
        with translate_errors():
            if layout.index == kind:
                await self.client.hdel(self.keys.layout, "building")
            else:
                await self.client.hset(self.keys.layout, "building", kind)
        return Reindexed(kind, layout.index)

    async def _move_all(self, done: Reindexed, step: str) -> None:
        done.step, done.other_embedder, done.lost = step, 0, 0
        async for names in walk.names(self.client, self.keys):
            records = await walk.read_records(self.client, self.keys, names)
            groups = defaultdict(list)
            for record in records:
                if record.stored.embedder or self.re_embed:
                    groups[record.stored.scope, self._embedder_of(record)].append(record)
            limit = asyncio.Semaphore(_AT_ONCE)
            await asyncio.gather(
                *(
                    self._move(done, limit, scope, embedder, group)
                    for (scope, embedder), group in groups.items()
                )
            )
            grouped = {record.entry for group in groups.values() for record in group}
            others = [record for record in records if record.is_old and record.entry not in grouped]
            await self._renew(done, [(record, "", 0) for record in others])
            done.entries += len(records)
            self.tell(done)

    def _embedder_of(self, record: walk.Record) -> str:
        return self.embedder_id if self.re_embed else record.stored.embedder

    async def _move(
        self, done: Reindexed, limit: asyncio.Semaphore, scope: str, embedder: str, records: list[walk.Record]
    ) -> None:
        """The entries of one scope that are to be found by one embedder."""
        own = embedder == self.embedder_id
        done.other_embedder += 0 if own else len(records)
        dimensions = (await self.embedder_source()).dimensions if own else records[0].stored.dimensions
        async with limit:
            vectors = await self._kept(done.index, scope, embedder, dimensions, records)
        missing = [record for record in records if record.entry not in vectors]
        if missing:
            async with limit:
                found: dict[str, _Vector] = {}
                for kind in self._sources:
                    rest = [record for record in missing if record.entry not in found]
                    found |= await self._kept(kind, scope, embedder, dimensions, rest)
            rest = [record for record in missing if record.entry not in found]
            if own:
                embedded = await self._embed(rest)
                done.embedded += len(embedded)
                found |= embedded
            else:
                done.lost += len(rest)
            await self._add(done, limit, scope, embedder, found)
            vectors |= found
        await self._renew(
            done,
            [
                (record, embedder, dimensions) if record.entry in vectors else (record, "", 0)
                for record in records
                if record.is_old or record.stored.embedder != embedder
            ],
        )

    async def _kept(
        self, kind: IndexKind, scope: str, embedder: str, dimensions: int, records: Sequence[walk.Record]
    ) -> dict[str, _Vector]:
        """The vectors that an index has. One that is damaged has none."""
        entries = [record.entry for record in records]
        if not (entries and dimensions):
            return {}
        try:
            vectors = await self._index(kind, embedder, dimensions).vectors(scope, entries)
        except StoreRefused:
            return {}
        return {entry: one for entry, one in zip(entries, vectors, strict=True) if one is not None}

    async def _embed(self, records: Sequence[walk.Record]) -> dict[str, _Vector]:
        """Those that the model can read."""
        if not records:
            return {}
        embedder = await self.embedder_source()
        questions = [record.question for record in records]
        vectors = await asyncio.to_thread(lambda: [embedder.embed(question) for question in questions])
        pairs = zip(records, vectors, strict=True)
        return {record.entry: vector for record, vector in pairs if vector is not None}

    async def _add(
        self,
        done: Reindexed,
        limit: asyncio.Semaphore,
        scope: str,
        embedder: str,
        vectors: dict[str, _Vector],
    ) -> None:
        async def add(entry: str, vector: _Vector) -> None:
            async with limit:
                await self._index(done.index, embedder, len(vector)).add(scope, entry, vector)
            done.added += 1

        await asyncio.gather(*(add(entry, vector) for entry, vector in vectors.items()))

    async def _renew(self, done: Reindexed, records: Sequence[tuple[walk.Record, str, int]]) -> None:
        """Each record with the embedder and the dimensions that it is found by from now on."""
        if not records:
            return
        script = self.client.register_script(load_script("llmhost.cache", "renew_entry.lua"))
        with translate_errors():
            raws = await self.client.mget([self.keys.response(record.entry) for record, _, _ in records])
            pipeline = self.client.pipeline(transaction=False)
            for (record, embedder, dimensions), raw in zip(records, raws, strict=True):
                stored = decode_entry(raw)
                if raw is None or stored is None or stored.embedder not in ("", record.stored.embedder):
                    continue  # it was replaced meanwhile
                renewed = replace(
                    record.stored, embedder=embedder, dimensions=dimensions, answer=stored.answer
                )
                names = [self.keys.response(record.entry), self.keys.embedding(record.entry)]
                await script(keys=names, args=[raw, pack_entry(renewed)], client=pipeline)
            done.updated += sum(await pipeline.execute())

    async def _wait(self, done: Reindexed, until: float, step: str) -> None:
        done.step = step
        self.tell(done)
        await asyncio.sleep(max(until - time.monotonic(), 0))

    async def _switch(self, done: Reindexed) -> None:
        switch = self.client.register_script(load_script("llmhost.cache", "switch_index.lua"))
        with translate_errors():
            switched = await switch(keys=[self.keys.layout], args=[done.index])
        if not switched:
            raise StateError(
                f"the index {done.index} is being built no more: another `cache reindex` runs, or the cache "
                "was cleared",
                hint="run it again when the other one has ended",
            )

    async def _remove_others(self, done: Reindexed) -> None:
        done.step = "removing the old index"
        self.tell(done)
        for kind in self._sources:
            done.removed_keys += await remove_index(self.client, self.keys, kind)
        if self.re_embed:
            done.removed_keys += await remove_index(
                self.client, self.keys, done.index, kept_embedder=self.embedder_id
            )

    def _index(self, kind: IndexKind, embedder: str, dimensions: int) -> Index:
        name = (kind, embedder, dimensions)
        if name not in self._indexes:
            self._indexes[name] = self.make(*name)
        return self._indexes[name]
