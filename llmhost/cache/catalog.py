"""The cache for operators: list entries, look at one, forget it, clear all; and what it uses of its Redis."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import astuple, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from llmhost.cache import walk
from llmhost.cache.calibration import Label
from llmhost.cache.contracts import Index
from llmhost.cache.keys import ENTRY_PATTERN
from llmhost.cache.models import Asker, Entry, ServedHit
from llmhost.cache.stored import StoredEntry, decode_entry, read_entries
from llmhost.errors import StoreRefused, UsageError
from llmhost.store.client import amount, text, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["ALL", "CacheUsage", "Catalog", "Filter", "cache_usage"]

IndexSource = Callable[[str, int], Awaitable[Index]]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are wanted; None: whatever. `scope` is the beginning of its id, `worker` a worker or a
    machine, `text` a part of the question, in either case."""

    model: str | None = None
    scope: str | None = None
    worker: str | None = None
    text: str | None = None

    def fits(self, entry: Entry) -> bool:
        """Whether the entry is wanted."""
        answer = entry.answer
        return (
            self.model in (None, answer.model)
            and (self.scope is None or entry.scope.startswith(self.scope.lower()))
            and (self.worker is None or self.worker in (answer.worker, answer.machine))
            and (self.text is None or self.text.casefold() in entry.question.casefold())
        )


ALL = Filter()


@dataclass(frozen=True, slots=True)
class Catalog:
    """All entries of one namespace. `index_source` gives the index of an embedder's id and dimensions.

    Every method raises StoreError where Redis is away.
    """

    client: Redis
    keys: NamespaceKeys
    index_source: IndexSource

    async def entries(self, wanted: Filter = ALL, most: int | None = None) -> Sequence[Entry]:
        """The entries, last used first; no more than `most` of them are in memory."""
        return (await self.last_used(wanted, most))[0]

    async def last_used(self, wanted: Filter, most: int | None = None) -> tuple[Sequence[Entry], int]:
        """As `entries`, and how many there are in all."""
        kept: list[tuple[float, str, Entry]] = []
        names = set[str]()
        async for entry in self.matching(wanted):
            if entry.entry in names:
                continue  # a scan may name one twice
            names.add(entry.entry)
            row = (entry.last_accessed, entry.entry, entry)
            if most is None or len(kept) < most:
                heapq.heappush(kept, row)
            else:
                heapq.heappushpop(kept, row)
        kept.sort(key=lambda row: (-row[0], row[1]))
        return [entry for _, _, entry in kept], len(names)

    async def matching(self, wanted: Filter) -> AsyncIterator[Entry]:
        """The entries in no order; one may come twice."""
        async for names in walk.names(self.client, self.keys):
            for entry in await self._read(names):
                if entry is not None and wanted.fits(entry):
                    yield entry

    async def most_used(self, most: int, looked_at: int) -> Sequence[Entry]:
        """The entries that were served most, the first of them most often, among the first `looked_at`."""
        best: list[tuple[int, str]] = []
        seen = set[str]()
        async for names in walk.names(self.client, self.keys):
            new = [name for name in names if name not in seen]
            seen.update(new)
            with translate_errors():
                pipeline = self.client.pipeline(transaction=False)
                for name in new:
                    pipeline.hget(self.keys.metadata(name), "hit_count")
                counts = await pipeline.execute()
            for name, raw in zip(new, counts, strict=True):
                if hits := int(amount(raw) or 0):
                    heapq.heappush(best, (hits, name))
            while len(best) > most:
                heapq.heappop(best)
            if len(seen) >= looked_at:
                break
        entries = await self._read([name for _, name in best])
        return sorted(filter(None, entries), key=lambda entry: (-entry.hit_count, entry.entry))

    async def count(self) -> int:
        """How many entries there are."""
        return len(await walk.all_names(self.client, self.keys))

    async def sizes(self, entries: Sequence[Entry]) -> Sequence[int | None]:
        """About what each takes in Redis, in bytes, with its vector; None where the server does not tell."""
        try:
            with translate_errors():
                pipeline = self.client.pipeline(transaction=False)
                for entry in entries:
                    pipeline.memory_usage(self.keys.response(entry.entry))
                    pipeline.memory_usage(self.keys.metadata(entry.entry))
                replies = await pipeline.execute()
        except StoreRefused:
            return [None] * len(entries)  # a hosted Redis may forbid MEMORY USAGE
        pairs = zip(entries, replies[::2], replies[1::2], strict=True)
        return [(answer or 0) + (counts or 0) + entry.dimensions for entry, answer, counts in pairs]

    async def find(self, prefix: str) -> Entry:
        """The one entry whose id begins with `prefix`. Raises UsageError where no entry, or more than one,
        begins so.
        """
        matching = [
            name for name in await walk.all_names(self.client, self.keys) if name.startswith(prefix.lower())
        ]
        if len(matching) > 1:
            raise UsageError(f"{len(matching)} entries begin with {prefix!r}", hint="give more of its digits")
        entry = (await self._read(matching))[0] if matching else None
        if entry is None:
            raise UsageError(f"no entry begins with {prefix!r}", hint="`llmhost cache ls` lists them")
        return entry

    async def forget(self, entry: Entry) -> Label | None:
        """Removes the entry: question, answer, counts and vector. Returns the label if its last answer to
        another wording was wrong; None where it never gave one, or was removed meanwhile."""
        with translate_errors():
            pipeline = self.client.pipeline(transaction=True)
            pipeline.hmget(self.keys.metadata(entry.entry), ["served_raw", "served_doubts"])
            pipeline.unlink(
                self.keys.response(entry.entry),
                self.keys.metadata(entry.entry),
                self.keys.embedding(entry.entry),
            )
            served, _ = await pipeline.execute()
        if entry.dimensions:
            index = await self.index_source(entry.embedder, entry.dimensions)
            await index.remove(entry.scope, [entry.entry])
        raw, doubts = _judged(*served)
        return None if raw is None else Label("forget", False, raw, doubts)

    async def served_hits(self, asker: Asker, count: int) -> Sequence[ServedHit]:
        """The entries that were last served to other wordings of this asker, newest first; those that were
        forgotten since are left out."""
        with translate_errors():
            key = self.keys.served(*astuple(asker))
            rows: Any
            rows = await self.client.zrange(key, 0, count - 1, desc=True, withscores=True)
        served = [(text(name), at) for name, at in rows if ENTRY_PATTERN.fullmatch(text(name))]
        return [hit for hit in await self._served_hits(served) if hit is not None]

    async def served_hit(self, asker: Asker, entry: str) -> ServedHit | None:
        """The one of this entry, if it was served to this asker."""
        with translate_errors():
            at = await self.client.zscore(self.keys.served(*astuple(asker)), entry)
        return None if at is None else (await self._served_hits([(entry, at)]))[0]

    async def drop_served_hit(self, asker: Asker, entry: str) -> bool:
        """It is listed no more, until it is served again; False where it was not listed."""
        with translate_errors():
            return bool(await self.client.zrem(self.keys.served(*astuple(asker)), entry))

    async def _served_hits(self, served: Sequence[tuple[str, float]]) -> list[ServedHit | None]:
        if not served:
            return []
        with translate_errors():
            pipeline = self.client.pipeline(transaction=False)
            for name, _ in served:
                pipeline.hmget(self.keys.metadata(name), ["served_question", "served_raw", "served_doubts"])
            noted = await pipeline.execute()
        entries = await self._read([name for name, _ in served])
        return [
            None if entry is None or asked is None else ServedHit(entry, text(asked), at, *_judged(*judged))
            for (_, at), (asked, *judged), entry in zip(served, noted, entries, strict=True)
        ]

    async def served_to(self, entry: Entry) -> str | None:
        """The other question that got the entry's answer last; None where there was none, or it was not
        noted."""
        with translate_errors():
            served = await self.client.hget(self.keys.metadata(entry.entry), "served_question")
        return None if served is None else text(served)

    async def forget_of(self, worker: str) -> Sequence[str]:
        """Removes every entry whose answer this worker, or this machine, gave; names them."""
        return await self.forget_matching(Filter(worker=worker))

    async def forget_matching(self, wanted: Filter) -> Sequence[str]:
        """Removes all entries that are wanted; names them."""
        forgotten: dict[str, None] = {}
        async for entry in self.matching(wanted):
            await self.forget(entry)
            forgotten[entry.entry] = None
        return list(forgotten)

    async def clear(self) -> int:
        """Removes everything of this namespace and nothing else; says how many entries there were."""
        entries = 0
        for pattern in self.keys.everything():
            async for found in walk.keys_of(self.client, pattern):
                with translate_errors():
                    removed = await self.client.unlink(*found)
                if pattern.startswith(self.keys.family("response")):
                    entries += removed
        return entries

    async def _read(self, names: Sequence[str]) -> list[Entry | None]:
        stored = await read_entries(self.client, self.keys, names)
        with translate_errors():
            pipeline = self.client.pipeline(transaction=False)
            for name in names:
                pipeline.hmget(self.keys.metadata(name), ["hit_count", "last_accessed"])
                pipeline.pttl(self.keys.response(name))
            replies = await pipeline.execute()
        rows = zip(names, stored, replies[::2], replies[1::2], strict=True)
        return [_entry(*row) for row in rows]


def _judged(raw: bytes | None, doubts: bytes | None) -> tuple[float | None, tuple[str, ...]]:
    """The verifier's probability, and the guards that doubted, as `SemanticCache.touch` noted them."""
    probability = amount(raw)
    if probability is None or probability > 1:
        return None, ()
    return probability, tuple(filter(None, text(doubts or b"").split(",")))


def _entry(
    name: str, stored: StoredEntry | None, counts: Sequence[bytes | None], ttl_ms: int
) -> Entry | None:
    if stored is None or stored.question is None or ttl_ms < 0:
        return None  # it expired while we were reading
    hits, accessed = (amount(count) or 0.0 for count in counts)
    created = stored.answer.timestamp
    return Entry(
        entry=name,
        question=stored.question,
        scope=stored.scope,
        embedder=stored.embedder,
        dimensions=stored.dimensions,
        hit_count=int(hits),
        created=created,
        last_accessed=max(accessed, created),
        expires_in_s=ttl_ms / 1000,
        answer=stored.answer,
    )


# The memory that the cache uses, and the state of its Redis.

#: entries; enough for a mean, few enough for a server that is far away
_SAMPLE = 32


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """`entries` counts the answers that could be served now. The other figures but `bytes_per_entry`
    are the whole server's, since it started; None where the server does not report it.
    """

    used_memory_bytes: int | None
    entries: int
    bytes_per_entry: int | None
    evicted: int | None
    expired: int | None
    keyspace_hits: int | None
    keyspace_misses: int | None


async def cache_usage(client: Redis, keys: NamespaceKeys) -> CacheUsage:
    """Raises StoreError where Redis is away."""
    with translate_errors():
        info = await client.info()
    entries = await walk.all_names(client, keys)
    return CacheUsage(
        used_memory_bytes=_whole(info, "used_memory"),
        entries=len(entries),
        bytes_per_entry=await _bytes_per_entry(client, keys, list(islice(entries, _SAMPLE))),
        evicted=_whole(info, "evicted_keys"),
        expired=_whole(info, "expired_keys"),
        keyspace_hits=_whole(info, "keyspace_hits"),
        keyspace_misses=_whole(info, "keyspace_misses"),
    )


async def _bytes_per_entry(client: Redis, keys: NamespaceKeys, sample: Sequence[str]) -> int | None:
    """The mean of the sample: its two keys, and its vector as the flat index keeps it."""
    if not sample:
        return None
    try:
        with translate_errors():
            pipeline = client.pipeline(transaction=False)
            for entry in sample:
                pipeline.memory_usage(keys.response(entry))
                pipeline.memory_usage(keys.metadata(entry))
                pipeline.get(keys.response(entry))
            replies = await pipeline.execute()
    except StoreRefused:
        return None  # a hosted Redis may forbid MEMORY USAGE
    sizes = []
    for response, metadata, raw in zip(replies[::3], replies[1::3], replies[2::3], strict=True):
        stored = decode_entry(raw)
        sizes.append((response or 0) + (metadata or 0) + (stored.dimensions if stored else 0))
    return round(statistics.fmean(sizes))


def _whole(info: dict[str, Any], name: str) -> int | None:
    value = info.get(name)
    return value if isinstance(value, int) else None
