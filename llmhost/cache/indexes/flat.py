"""Search on any Redis: vectors in Redis, one byte a number, compared in this process.

The index of a scope is one string in Redis, an append-only log: a header, then records of equal size.
Each process keeps a mirror of the scopes it uses and reads only what was appended since, so that a
search costs one short round trip and one pass over a matrix, and a cold one a single read. A log whose
records are mostly out of date is rewritten by the process that adds to it.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmhost.cache.indexes.checks import check_vector, damaged
from llmhost.cache.models import Neighbour
from llmhost.errors import StoreRefused
from llmhost.store.client import load_script, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["ENTRY_BYTES", "FlatIndex", "Mirror", "dimensions_of", "encode_record", "encode_removal"]

#: bytes; an entry's 32 hex digits
ENTRY_BYTES = 16
#: rows; what a matrix starts with, before it doubles
_FIRST_ROWS = 64
#: rows that are compared number by number; docs/architecture.md says what fewer of them would miss
_SHORTLIST = 128
#: the largest number of a vector becomes this, and the others by the same factor
_LARGEST_CODE = 127


def encode_record(entry: str, vector: NDArray[np.float32]) -> bytes:
    """One record of the log: the entry's id, then a signed byte for each number of its vector."""
    return bytes.fromhex(entry) + _codes(vector[np.newaxis]).tobytes()


def encode_removal(entry: str, dimensions: int) -> bytes:
    """A record that takes the entry out: the zero vector, which no unit vector equals."""
    return bytes.fromhex(entry) + bytes(dimensions)


def _codes(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Vectors as signed bytes, one scale for each; a cosine moves by less than 0.002."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    scaled = vectors * (_LARGEST_CODE / np.where(largest > 0, largest, 1))
    return np.rint(scaled).astype(np.int8)


class Mirror:
    """The log of one scope, replayed into a matrix in this process.

    `matrix` has shape (capacity, dimensions), int8; the first `len(ids)` rows count. A removed row
    is zero and its id empty. `signs` has a bit for every number of the matrix, set where it is positive:
    shape (dimensions / 64, capacity), uint64, so that a search reads an eighth of the matrix.
    """

    def __init__(self, dimensions: int, header: bytes = b"", position: int = 0) -> None:
        self.header = header
        self.position = position
        #: the record that ends at `position`, empty where none does
        self.last = b""
        #: bytes of the log in Redis, when it last said so
        self.length = position
        #: whether it was ever compared with what is in Redis
        self.was_read = False
        self._dimensions = dimensions
        self._number = "<f4" if self.is_old else "i1"
        self._layout = np.dtype([("entry", f"V{ENTRY_BYTES}"), ("vector", self._number, (dimensions,))])
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._matrix = np.zeros((0, dimensions), dtype=np.int8)
        self._lengths = np.zeros(0, dtype=np.float32)
        self._signs = _signs(self._matrix)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_old(self) -> bool:
        """Whether an older llmhost wrote the log: four bytes a number."""
        return self.header.startswith(_OLD_MAGIC)

    @property
    def is_wasteful(self) -> bool:
        """Whether the log is worth rewriting."""
        is_read = self.position == self.length
        return self.is_old or (is_read and self.count > 2 * len(self) + _SPARE_RECORDS)

    @property
    def is_behind(self) -> bool:
        """Whether the log had better be read before it is added to."""
        return not self.was_read or self.length - self.position > _MAX_UNREAD * self._layout.itemsize

    @property
    def count(self) -> int:
        """The records in Redis, also those that are out of date or not read yet."""
        return max(self.length - len(self.header), 0) // self._layout.itemsize

    def items(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """The entries and their vectors."""
        return ((entry, self._matrix[row] / self._lengths[row]) for entry, row in self._rows.items())

    def vector(self, entry: str) -> NDArray[np.float32] | None:
        """The vector of an entry, shape (dimensions,), or None."""
        row = self._rows.get(entry)
        return None if row is None else self._matrix[row] / self._lengths[row]

    def has(self, entry: str, vector: NDArray[np.float32]) -> bool:
        """Whether this vector of the entry is there."""
        row = self._rows.get(entry)
        return row is not None and np.array_equal(self._matrix[row], _codes(vector[np.newaxis])[0])

    def records(self) -> bytes:
        """What is there as records, each entry once."""
        rows = list(self._rows.values())
        log = np.empty(len(rows), dtype=[("entry", f"V{ENTRY_BYTES}"), ("vector", "i1", (self._dimensions,))])
        if rows:
            log["entry"] = np.frombuffer(bytes.fromhex("".join(self._rows)), dtype=f"V{ENTRY_BYTES}")
            log["vector"] = self._matrix[rows]
        return log.tobytes()

    def replay(self, records: bytes) -> bool:
        """Takes in the records that follow `position`; False where they are no whole records."""
        if len(records) % self._layout.itemsize:
            return False
        if not records:
            return True
        log = np.frombuffer(records, dtype=self._layout)
        entries, vectors = log["entry"].tobytes().hex(), log["vector"]
        codes = _codes(np.nan_to_num(vectors, posinf=0, neginf=0)) if self.is_old else vectors
        removals = np.logical_not(codes.any(axis=1)).tolist()
        digits = 2 * ENTRY_BYTES
        rows = [
            self._row(entries[digits * number : digits * (number + 1)], removed)
            for number, removed in enumerate(removals)
        ]
        missing = len(self._ids) - len(self._matrix)
        if missing > 0:
            room = max(missing, len(self._matrix), _FIRST_ROWS)
            self._matrix = np.pad(self._matrix, ((0, room), (0, 0)))
            self._lengths = np.pad(self._lengths, (0, room))
            self._signs = np.pad(self._signs, ((0, 0), (0, room)))
        # Where a row comes twice, the later record stays.
        self._matrix[rows] = codes
        self._lengths[rows] = np.maximum(np.linalg.norm(codes.astype(np.float32), axis=1), 1)
        self._signs[:, rows] = _signs(codes)
        self.position += len(records)
        self.last = records[-self._layout.itemsize :]
        self.length = max(self.length, self.position)
        return True

    def note_added(self, records: bytes, length: int, new_header: bytes) -> None:
        """The log ends with these records now, and may have others that were not read. `new_header` is what a
        log that was empty begins with."""
        if not self.header:
            self.header, self.position = new_header, len(new_header)
        self.length = max(self.length, length)
        if self.position + len(records) == length:
            self.replay(records)

    def search(self, vector: NDArray[np.float32], k: int) -> Sequence[Neighbour]:
        """The k rows of highest cosine similarity, best first; see docs/architecture.md, "The flat index"."""
        rows = self._shortlist(vector)
        # Row by row on one core: the threads of a matrix product wait for cores that workers may hold.
        similarities = np.vecdot(self._matrix[rows].astype(np.float32), vector)
        similarities /= np.maximum(self._lengths[rows], 1)
        best = np.argsort(-similarities, kind="stable")[:k]
        found = zip(rows[best].tolist(), similarities[best].tolist(), strict=True)
        # Rounding can put the cosine of two equal vectors a hair above 1.
        return [Neighbour(self._ids[row], min(cosine, 1.0)) for row, cosine in found if self._ids[row]]

    def _shortlist(self, vector: NDArray[np.float32]) -> NDArray[np.intp]:
        """The rows whose signs differ from the vector's in the fewest places, and all that tie with them."""
        count = len(self._ids)
        if count <= _SHORTLIST:
            return np.arange(count)
        differing = np.bitwise_count(self._signs[:, :count] ^ _signs(_codes(vector[np.newaxis])))
        distances = differing.sum(axis=0, dtype=np.uint16)
        return np.flatnonzero(distances <= np.partition(distances, _SHORTLIST)[_SHORTLIST])

    def _row(self, entry: str, removed: bool) -> int:
        """The row that a record of this entry sets."""
        new = len(self._ids)
        row = self._rows.pop(entry, new) if removed else self._rows.setdefault(entry, new)
        if row == new:
            self._ids.append("")
        self._ids[row] = "" if removed else entry
        return row


def _signs(codes: NDArray[np.int8]) -> NDArray[np.uint64]:
    """The signs of vectors, shape (count, dimensions), as bits, shape (dimensions / 64 rounded up, count)."""
    packed = np.packbits(codes > 0, axis=1)
    words = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), dtype=np.uint8)
    words[:, : packed.shape[1]] = packed
    return words.view(np.uint64).T


_MAGIC, _OLD_MAGIC = b"LLMHOST2", b"LLMHOST1"

# magic, dimensions, a random number that is new whenever the log is: it tells a reader to start over.
_HEADER = struct.Struct("<8sI16s")
#: scopes; each conversation has one of its own, so an unbounded number would fill the memory
_MOST_MIRRORS = 256
#: bytes; Redis refuses longer strings
_LONGEST_LOG = 512 * 1024 * 1024
#: records that others may have added while this process adds without reading
_MAX_UNREAD = 32
#: records that may be out of date besides one for each that is not
_SPARE_RECORDS = 64
#: bytes of a log that are sent to Redis at once
_PART = 4 * 1024 * 1024
#: milliseconds that a part of a new log is kept for
_PART_LIFETIME = 60_000
#: tries to append to a log while other processes rewrite it
_TRIES = 5


class FlatIndex:
    """The flat index of one embedder. `lifetime` is seconds, counted from the last record. `logs` names the
    log of an embedder and a scope, where it is not the index's own."""

    def __init__(
        self,
        client: Redis,
        keys: NamespaceKeys,
        *,
        embedder: str,
        dimensions: int,
        lifetime: float,
        logs: Callable[[str, str], str] | None = None,
    ) -> None:
        self._client = client
        self._log_of, self._old_log_of = logs or keys.flat, logs or keys.index
        self._embedder = embedder
        self._dimensions = dimensions
        self.bytes_per_entry = ENTRY_BYTES + dimensions
        self._lifetime_ms = round(lifetime * 1000)
        self._mirrors: OrderedDict[str, tuple[asyncio.Lock, Mirror]] = OrderedDict()
        self._add = client.register_script(load_script("llmhost.cache", "flat_add.lua"))
        self._read = client.register_script(load_script("llmhost.cache", "flat_read.lua"))
        self._swap = client.register_script(load_script("llmhost.cache", "flat_swap.lua"))
        self._drop = client.register_script(load_script("llmhost.cache", "flat_drop.lua"))

    async def prepare(self, scope: str) -> bool:
        return len(await self._synced(scope)) > 0

    async def search(self, scope: str, vector: NDArray[np.float32], k: int) -> Sequence[Neighbour]:
        check_vector(vector, self._embedder, self._dimensions)
        return self.mirror(scope).search(vector, k)

    async def add(self, scope: str, entry: str, vector: NDArray[np.float32]) -> None:
        check_vector(vector, self._embedder, self._dimensions)
        mirror = self.mirror(scope)  # as it was read beside the embedding
        for _ in range(_TRIES):
            may_add = not (mirror.is_behind or mirror.has(entry, vector))
            if may_add and await self._append(scope, mirror, encode_record(entry, vector)):
                return
            mirror = await self._synced(scope)
            if mirror.has(entry, vector):
                return

    async def remove(self, scope: str, entries: Sequence[str]) -> None:
        for _ in range(_TRIES):
            mirror = await self._synced(scope)
            known = [entry for entry in entries if mirror.vector(entry) is not None]
            records = b"".join(encode_removal(entry, self._dimensions) for entry in known)
            if not known or await self._append(scope, mirror, records):
                return

    async def vectors(self, scope: str, entries: Sequence[str]) -> Sequence[NDArray[np.float32] | None]:
        mirror = await self._synced(scope)
        return [mirror.vector(entry) for entry in entries]

    async def members(self, scope: str) -> Sequence[str]:
        """The entries of a scope."""
        return [entry for entry, _ in (await self._synced(scope)).items()]

    def mirror(self, scope: str) -> Mirror:
        """The scope as it was when it was last read."""
        return self._mirror(scope)[1]

    async def drop(self, scope: str, header: bytes, position: int) -> bool:
        """Deletes the log with this header if it ends at this position, so that nothing was added to it."""
        name = self._old_log(scope) if header.startswith(_OLD_MAGIC) else self._log(scope)
        with translate_errors():
            dropped = await self._drop(keys=[name], args=[header, position])
        if dropped:
            self._mirrors.pop(scope, None)
        return bool(dropped)

    def _mirror(self, scope: str) -> tuple[asyncio.Lock, Mirror]:
        held = self._mirrors.setdefault(scope, (asyncio.Lock(), Mirror(self._dimensions)))
        self._mirrors.move_to_end(scope)
        if len(self._mirrors) > _MOST_MIRRORS:
            self._mirrors.popitem(last=False)
        return held

    async def _synced(self, scope: str) -> Mirror:
        """The mirror, with all that is in Redis now."""
        lock, _ = self._mirror(scope)
        async with lock:
            _, mirror = self._mirror(scope)
            with translate_errors():
                header, start, records = await self._read(
                    keys=[self._log(scope), self._old_log(scope)],
                    args=[mirror.header, mirror.position, _HEADER.size, mirror.last],
                )
            sound = True
            # A new log, or none where it is empty; or one that is not what it was.
            if header != mirror.header or (header and start != mirror.position):
                mirror = Mirror(self._dimensions, header, len(header))
                sound = not header or _is_sound(header, self._dimensions)
            if not (sound and mirror.replay(records)):
                raise damaged(self._embedder)
            mirror.was_read = True
            self._mirrors[scope] = (lock, mirror)
            return mirror

    async def _append(self, scope: str, mirror: Mirror, records: bytes) -> bool:
        """False where the log is not the one that was mirrored, or was just rewritten."""
        if mirror.is_wasteful and (await self._compact(scope, mirror) or mirror.is_old):
            return False
        if mirror.position + len(records) > _LONGEST_LOG:
            most = _LONGEST_LOG // (ENTRY_BYTES + self._dimensions)
            raise StoreRefused(
                f"the flat index holds no more than {most:,} questions in one scope",
                hint="use a Redis of version 8 or newer, run `llmhost cache clear`, or shorten "
                "`cache.embedding_ttl`",
            )
        new_header = self._new_header()
        async with self._mirror(scope)[0]:
            with translate_errors():
                length = await self._add(
                    keys=[self._log(scope)], args=[mirror.header, new_header, records, self._lifetime_ms]
                )
            if length and self.mirror(scope) is mirror:
                mirror.note_added(records, length, new_header)
        return bool(length)

    async def _compact(self, scope: str, mirror: Mirror) -> bool:
        """Rewrites the log, each entry once; False where it stays, since records were appended meanwhile."""
        old = self._old_log(scope) if mirror.is_old else self._log(scope)
        new = f"{self._log(scope)}:{os.urandom(8).hex()}"
        header, length, log = mirror.header, mirror.position, self._new_header() + mirror.records()
        with translate_errors():
            for start in range(0, len(log), _PART):
                pipeline = self._client.pipeline(transaction=True)
                pipeline.append(new, log[start : start + _PART])
                pipeline.pexpire(new, _PART_LIFETIME)
                await pipeline.execute()
            swapped = await self._swap(
                keys=[new, old, self._log(scope)], args=[header, length, self._lifetime_ms]
            )
        return bool(swapped)

    def _log(self, scope: str) -> str:
        return self._log_of(self._embedder, scope)

    def _old_log(self, scope: str) -> str:
        return self._old_log_of(self._embedder, scope)

    def _new_header(self) -> bytes:
        return _HEADER.pack(_MAGIC, self._dimensions, os.urandom(16))


def dimensions_of(log: bytes) -> int | None:
    """The dimensions of the vectors in a log, of which this is the beginning; None where it is none."""
    if len(log) < _HEADER.size:
        return None
    magic, dimensions, _ = _HEADER.unpack(log[: _HEADER.size])
    return dimensions if magic in (_MAGIC, _OLD_MAGIC) else None


def _is_sound(header: bytes, dimensions: int) -> bool:
    if len(header) != _HEADER.size:
        return False
    magic, read, _ = _HEADER.unpack(header)
    return magic in (_MAGIC, _OLD_MAGIC) and read == dimensions
