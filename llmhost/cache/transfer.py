"""Entries as JSON lines, to take them to another Redis: `llmhost cache export` and `import`.

The first line says what the file is, the last how many entries it has, so that one that was cut off is told
from a whole one. Each line between them is one entry. A million of them pass through a small memory.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from llmhost.cache import walk
from llmhost.cache.contracts import Embedder, Index
from llmhost.cache.keys import ENTRY_PATTERN, cache_key
from llmhost.cache.limits import CacheLimits
from llmhost.cache.stored import StoredEntry, checked_answer, encode_answer, pack_entry
from llmhost.errors import ModelError, PartialError, StoreRefused, UsageError
from llmhost.store.client import amount, text, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from redis.asyncio import Redis

    _Vector = NDArray[np.float32]

__all__ = ["Exporter", "Imported", "Importer"]

_FORMAT = 1
#: what is counted of an entry, and is no other user's question
_COUNTS = ("hit_count", "last_accessed", "accepted", "rejected")
#: bytes; no line is read into memory that is longer
_LONGEST_LINE = 64 * 1024 * 1024
#: seconds; no entry of ours lives longer
_LONGEST_LIFE = 1e9
#: entries that are stored at once
_AT_ONCE = 16
#: bytes of lines that are in memory at once, as far as one line is not longer
_MOST_BYTES = 16 * 1024 * 1024

IndexSource = Callable[[str, int], Awaitable[Index]]


@dataclass(frozen=True, slots=True)
class _Line:
    """An entry as a file has it. Lifetimes in seconds."""

    stored: StoredEntry
    counts: Mapping[str, float]
    expires_in_s: float
    counts_expire_in_s: float
    vector: _Vector | None


@dataclass(eq=False)
class Exporter:
    """`vectors`: those of the index are written too, so that nothing is embedded at the import."""

    client: Redis
    keys: NamespaceKeys
    _: KW_ONLY
    index_source: IndexSource
    vectors: bool = False

    async def lines(self) -> AsyncIterator[str]:
        """The lines of the file. An entry that changes meanwhile may come twice, or not. Raises
        StoreError."""
        yield _json({"llmhost_cache": _FORMAT})
        count = 0
        async for names in walk.names(self.client, self.keys):
            records = await walk.read_records(self.client, self.keys, names)
            vectors = await self._vectors_of(records) if self.vectors else {}
            for record, (ttl, counts, counts_ttl) in zip(records, await self._rest(records), strict=True):
                if ttl > 0:
                    yield _encode(record.stored, counts, ttl, counts_ttl, vectors.get(record.entry))
                    count += 1
        yield _json({"entries": count})

    async def _rest(self, records: Sequence[walk.Record]) -> list[tuple[float, dict[str, float], float]]:
        """Of each: its lifetime, its counts, and theirs; seconds."""
        with translate_errors():
            pipeline = self.client.pipeline(transaction=False)
            for record in records:
                pipeline.pttl(self.keys.response(record.entry))
                pipeline.hmget(self.keys.metadata(record.entry), list(_COUNTS))
                pipeline.pttl(self.keys.metadata(record.entry))
            replies = await pipeline.execute()
        rows = []
        for ttl, values, counts_ttl in zip(replies[::3], replies[1::3], replies[2::3], strict=True):
            pairs = zip(_COUNTS, map(amount, values), strict=True)
            counts = {name: value for name, value in pairs if value is not None}
            rows.append((ttl / 1000, counts, max(counts_ttl, 0) / 1000))
        return rows

    async def _vectors_of(self, records: Sequence[walk.Record]) -> dict[str, _Vector]:
        groups = defaultdict(list)
        for record in records:
            if record.stored.dimensions:
                stored = record.stored
                groups[stored.embedder, stored.dimensions, stored.scope].append(record.entry)
        found: dict[str, _Vector] = {}
        for (embedder, dimensions, scope), entries in groups.items():
            try:
                kept = await (await self.index_source(embedder, dimensions)).vectors(scope, entries)
            except StoreRefused:  # a damaged index: the import embeds the questions
                continue
            found |= {entry: one for entry, one in zip(entries, kept, strict=True) if one is not None}
        return found


@dataclass(slots=True)
class Imported:
    """`kept`: entries that were there already, and stay as they were. `embedded`: of the imported ones, those
    whose vector was not in the file, or was another model's."""

    imported: int = 0
    kept: int = 0
    embedded: int = 0


@dataclass(eq=False)
class Importer:
    """`counts_ttl`, seconds, is the lifetime of counts of which the file says none. With `limits`, each entry
    evicts those that were used the longest time ago, of the file and of the cache."""

    client: Redis
    keys: NamespaceKeys
    _: KW_ONLY
    embedder_source: Callable[[], Awaitable[Embedder]]
    index_source: IndexSource
    counts_ttl: float
    limits: CacheLimits | None = None
    tell: Callable[[Imported], None] = lambda _: None

    async def run(self, name: str, file: BinaryIO) -> Imported:
        """Reads a file; `name` is for people. Raises UsageError where it is no export, or of another version;
        PartialError where it is cut off or damaged: what stands before is imported; StoreError, ModelError.
        """
        done = Imported()
        _check_head(name, file.readline(_LONGEST_LINE))
        lines = _Lines(name, file)
        try:
            while part := list(lines.take(walk.BATCH)):
                await self._store(done, part)
                self.tell(done)
        except PartialError as error:
            await self._store(done, lines.read)
            read = f"{done.imported:,} imported, {done.kept:,} were there already"
            raise PartialError(f"{error.message}; {read}", hint=error.hint) from error
        return done

    async def _store(self, done: Imported, lines: Sequence[_Line]) -> None:
        keys = [cache_key(line.stored.scope, line.stored.question or "") for line in lines]
        with translate_errors():
            pipeline = self.client.pipeline(transaction=False)
            for key in keys:
                pipeline.exists(self.keys.response(key.entry))
            there = await pipeline.execute()
        new = [line for line, exists in zip(lines, there, strict=True) if not exists]
        done.kept += len(lines) - len(new)
        if not new:
            return
        embedder = await self.embedder_source()
        vectors = await self._vectors(done, embedder, new)
        index = await self.index_source(embedder.id, embedder.dimensions)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def store(line: _Line, vector: _Vector | None) -> None:
            key = cache_key(line.stored.scope, line.stored.question or "")
            async with limit:
                size = await self._write(key.entry, line, embedder, vector is not None)
                if not size:
                    done.kept += 1
                    return
                done.imported += 1
                if vector is not None:
                    await index.add(key.scope, key.entry, vector)
                    size += index.bytes_per_entry
                if self.limits is not None:
                    last_use = _last_use(line, time.time(), self.limits.lifetime)
                    if too_many := await self.limits.stored(key.entry, size, last_use):
                        await self.limits.evict(too_many, embedder.id, index)

        await asyncio.gather(*(store(*pair) for pair in zip(new, vectors, strict=True)))

    async def _vectors(
        self, done: Imported, embedder: Embedder, lines: Sequence[_Line]
    ) -> list[_Vector | None]:
        vectors = [_usable(line, embedder) for line in lines]
        missing = [at for at, vector in enumerate(vectors) if vector is None]
        questions = [lines[at].stored.question or "" for at in missing]
        embedded = await asyncio.to_thread(lambda: [embedder.embed(question) for question in questions])
        for at, vector in zip(missing, embedded, strict=True):
            vectors[at] = vector
        done.embedded += len(missing)
        return vectors

    async def _write(self, entry: str, line: _Line, embedder: Embedder, has_vector: bool) -> int:
        """Its bytes; 0 where there is one by now."""
        stored = StoredEntry(
            question=line.stored.question,
            scope=line.stored.scope,
            embedder=embedder.id if has_vector else "",
            dimensions=embedder.dimensions if has_vector else 0,
            answer=line.stored.answer,
        )
        packed, lifetime = pack_entry(stored), max(round(line.expires_in_s * 1000), 1)
        with translate_errors():
            if not await self.client.set(self.keys.response(entry), packed, px=lifetime, nx=True):
                return 0
            if line.counts:
                pipeline = self.client.pipeline(transaction=True)
                counts: dict[Any, Any] = {name: f"{value:.15g}" for name, value in line.counts.items()}
                pipeline.hset(self.keys.metadata(entry), mapping=counts)
                seconds = line.counts_expire_in_s or self.counts_ttl
                pipeline.pexpire(self.keys.metadata(entry), max(round(seconds * 1000), 1))
                await pipeline.execute()
        return len(packed)


class _Lines:
    """The entries of a file after its first line."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = name
        self._file = file
        self._number = 1
        self._count = 0
        self._ended = False
        #: of the last `take`
        self.read: list[_Line] = []

    def take(self, count: int) -> Iterator[_Line]:
        """At most `count` more of them, fewer where they are long. Raises PartialError at a line that is
        none, and where the file ends before its last line."""
        self.read = []
        size = 0
        while not self._ended and len(self.read) < count and size < _MOST_BYTES:
            raw = self._file.readline(_LONGEST_LINE)
            self._number += 1
            size += len(raw)
            if not raw:
                raise self._broken("ends before its last line: it was cut off")
            fields = _object(raw)
            if fields is not None and set(fields) == {"entries"}:
                if fields["entries"] != self._count:
                    raise self._broken(f"has {self._count:,} entries and says {fields['entries']}")
                self._ended = True
                return
            line = None if fields is None else _decode(fields)
            if line is None:
                cut = "" if raw.endswith(b"\n") else ", the file was cut off"
                raise self._broken(f"line {self._number:,} is no entry{cut}")
            self._count += 1
            self.read.append(line)
            yield line

    def _broken(self, what: str) -> PartialError:
        separator = ":" if what.startswith("line") else ""
        return PartialError(f"{self._name}{separator} {what}", hint="export it again, and import the rest")


def _check_head(name: str, raw: bytes) -> None:
    head = _object(raw) or {}
    if "llmhost_cache" not in head:
        raise UsageError(f"{name} is no export of a cache", hint="`llmhost cache export` writes one")
    if head["llmhost_cache"] != _FORMAT:
        raise UsageError(
            f"{name} is of version {head['llmhost_cache']}, and this llmhost reads version {_FORMAT}",
            hint="use the llmhost that wrote it, or a newer one",
        )


def _encode(
    stored: StoredEntry, counts: Mapping[str, float], ttl: float, counts_ttl: float, vector: _Vector | None
) -> str:
    fields: dict[str, Any] = {
        "question": stored.question,
        "scope": stored.scope,
        "embedder": stored.embedder,
        "answer": json.loads(encode_answer(stored.answer)),
        "expires_in_s": ttl,
    }
    if counts:
        fields |= {"counts": counts, "counts_expire_in_s": counts_ttl}
    if vector is not None:
        fields["vector"] = base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return _json(fields)


def _decode(fields: Mapping[str, Any]) -> _Line | None:
    """None where it is no entry."""
    question, scope, embedder = (fields.get(name) for name in ("question", "scope", "embedder"))
    answer = checked_answer(fields.get("answer"))
    lifetime = _seconds(fields.get("expires_in_s"))
    if answer is None or not lifetime or not (isinstance(question, str) and isinstance(embedder, str)):
        return None
    if not isinstance(scope, str) or not ENTRY_PATTERN.fullmatch(scope):
        return None
    counts = fields.get("counts") or {}
    if not isinstance(counts, dict):
        return None
    numbers = {name: _seconds(counts.get(name), most=1e15) for name in _COUNTS}
    return _Line(
        stored=StoredEntry(cache_key(scope, question).question, scope, embedder, 0, answer),
        counts={name: value for name, value in numbers.items() if value},
        expires_in_s=lifetime,
        counts_expire_in_s=_seconds(fields.get("counts_expire_in_s")),
        vector=_vector(fields.get("vector")),
    )


def _last_use(line: _Line, now: float, longest: float) -> float:
    """When an entry was stored or served last, Unix seconds: not after now, whatever the file says, and not
    longer ago than one that lives for `longest` seconds and has as much left of them."""
    used = max(line.stored.answer.timestamp, line.counts.get("last_accessed", 0.0))
    return min(now, max(used, now + line.expires_in_s - longest))


def _seconds(value: Any, most: float = _LONGEST_LIFE) -> float:
    """A number above 0; 0 where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        return 0.0
    return float(value)


def _vector(value: Any) -> _Vector | None:
    import numpy as np

    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", value):
        return None
    try:
        return np.frombuffer(base64.b64decode(value), dtype="<f4").astype(np.float32)
    except ValueError:
        return None


def _usable(line: _Line, embedder: Embedder) -> _Vector | None:
    """The line's vector, if the embedder could have made it."""
    from llmhost.cache.indexes.checks import check_vector

    vector = line.vector
    if vector is None or line.stored.embedder != embedder.id:
        return None
    try:
        check_vector(vector, embedder.id, embedder.dimensions)
    except ModelError:
        return None
    return vector


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text(raw))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _json(fields: Mapping[str, Any]) -> str:
    """ASCII only, so that no odd line break of a question breaks the file."""
    return json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
