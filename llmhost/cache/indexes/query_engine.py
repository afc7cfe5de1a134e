"""Approximate search by Redis's query engine (FT.*): Redis Cloud and Enterprise, Redis Stack, Redis 8.

One index for an embedder covers all its scopes. Each entry is a hash of its own, so that Redis expires and
evicts it by itself. The first process creates the index, and Redis fills it from the hashes that are there:
it may be dropped at any time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmhost.cache.indexes.checks import check_vector
from llmhost.cache.keys import ENTRY_PATTERN
from llmhost.cache.models import Neighbour
from llmhost.errors import StoreRefused
from llmhost.store.client import execute, text, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["QueryEngineIndex"]

#: two bytes a number: an entry costs 2.6 KB, with four 4.5 KB; both find the same
_NUMBER = "<f2"
#: bytes of an entry besides its numbers, which lie in its hash and in the index
_DOCUMENT_BYTES = 1100
#: what Redis says of an index that there is not
_GONE = ("no such index", "unknown index name")
#: links of an entry to others, and the candidates that are looked at to find them, and at a search
_LINKS, _BUILD_EFFORT, _EFFORT = 16, 200, 100
#: milliseconds; after 500 of its own, Redis answers with the nearest that it has found by then
_TIMEOUT = 2000

_Vector = NDArray[np.float32]


class QueryEngineIndex:
    """The index of one embedder. `lifetime` is seconds, of each entry."""

    def __init__(
        self, client: Redis, keys: NamespaceKeys, *, embedder: str, dimensions: int, lifetime: float
    ) -> None:
        self._client = client
        self._keys = keys
        self._embedder = embedder
        self._dimensions = dimensions
        self.bytes_per_entry = 4 * dimensions + _DOCUMENT_BYTES
        self._lifetime_ms = round(lifetime * 1000)
        self._prefix = keys.vector_prefix(embedder)
        self._name = self._prefix.removesuffix(":")
        self._is_ready = False

    async def prepare(self, scope: str) -> bool:  # noqa: ARG002
        """Redis has all that a search needs, and is not asked beforehand what there is."""
        return True

    async def search(self, scope: str, vector: _Vector, k: int) -> Sequence[Neighbour]:
        check_vector(vector, self._embedder, self._dimensions)
        await self._ensure_index()
        try:
            found = await self._nearest(scope, vector, k)
        except StoreRefused:  # the index may have been dropped, or replaced
            self._is_ready = False
            await self._ensure_index()
            found = await self._nearest(scope, vector, k)
        return list(self._neighbours(found))

    async def add(self, scope: str, entry: str, vector: _Vector) -> None:
        check_vector(vector, self._embedder, self._dimensions)
        await self._ensure_index()
        key = self._keys.vector(self._embedder, entry)
        with translate_errors():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.hset(key, mapping={"s": scope, "v": vector.astype(_NUMBER).tobytes()})
            pipeline.pexpire(key, self._lifetime_ms)
            await pipeline.execute()

    async def remove(self, scope: str, entries: Sequence[str]) -> None:  # noqa: ARG002  # they have no other
        with translate_errors():
            pipeline = self._client.pipeline(transaction=False)
            for entry in entries:
                pipeline.unlink(self._keys.vector(self._embedder, entry))
            await pipeline.execute()

    async def vectors(self, scope: str, entries: Sequence[str]) -> Sequence[_Vector | None]:
        with translate_errors():
            pipeline = self._client.pipeline(transaction=False)
            for entry in entries:
                pipeline.hmget(self._keys.vector(self._embedder, entry), "s", "v")
            kept = await pipeline.execute()
        return [self._decode(raw) if owner == scope.encode() else None for owner, raw in kept]

    async def _nearest(self, scope: str, vector: _Vector, k: int) -> Sequence[Any]:
        query = f"(@s:{{{scope}}})=>[KNN {k} @v $q EF_RUNTIME {max(_EFFORT, k)} AS d]"
        command = ["FT.SEARCH", self._name, query, "PARAMS", 2, "q", vector.astype(_NUMBER).tobytes()]
        command += ["SORTBY", "d", "RETURN", 1, "d", "LIMIT", 0, k, "TIMEOUT", _TIMEOUT, "DIALECT", 2]
        found: Sequence[Any] = await execute(self._client, *command)
        return found

    def _neighbours(self, found: Sequence[Any]) -> Iterator[Neighbour]:
        """FT.SEARCH's answer: a count, then keys, each with its fields. An entry that expires at this moment
        has none."""
        for key, fields in zip(found[1::2], found[2::2], strict=True):
            entry = self._keys.id_in(text(key))
            similarity = 1 - float(_pairs(fields).get("d", math.nan))
            if ENTRY_PATTERN.fullmatch(entry) and math.isfinite(similarity):
                yield Neighbour(entry, min(similarity, 1.0))

    def _decode(self, raw: bytes | None) -> _Vector | None:
        if raw is None or len(raw) != self._dimensions * np.dtype(_NUMBER).itemsize:
            return None
        vector = np.frombuffer(raw, dtype=_NUMBER).astype(np.float32)
        length = float(np.linalg.norm(vector))
        return vector / np.float32(length) if math.isfinite(length) and length else None

    async def _ensure_index(self) -> None:
        """Creates the index where there is none, and replaces one of another schema. Redis is asked once."""
        if self._is_ready:
            return
        try:
            information = _pairs(await execute(self._client, "FT.INFO", self._name))
        except StoreRefused as error:
            if not _is_gone(error):
                raise
            await self._make_index()
        else:
            if not self._has_this_schema(information):
                await self._drop_index()
                await self._make_index()
        self._is_ready = True

    async def _make_index(self) -> None:
        options = [part for pair in self._options().items() for part in pair]
        command = ["FT.CREATE", self._name, "ON", "HASH", "PREFIX", 1, self._prefix]
        command += ["SCHEMA", "s", "TAG", "v", "VECTOR", "HNSW", len(options), *options]
        try:
            await execute(self._client, *command)
        except StoreRefused as error:
            if "already exists" not in error.args[0]:  # another process was faster
                raise

    async def _drop_index(self) -> None:
        """The hashes stay."""
        try:
            await execute(self._client, "FT.DROPINDEX", self._name)
        except StoreRefused as error:
            if not _is_gone(error):
                raise

    def _options(self) -> dict[str, str | int]:
        return {
            "TYPE": "FLOAT16",
            "DIM": self._dimensions,
            "DISTANCE_METRIC": "COSINE",
            "M": _LINKS,
            "EF_CONSTRUCTION": _BUILD_EFFORT,
        }

    def _has_this_schema(self, information: Mapping[str, Any]) -> bool:
        """What a server does not tell of an index counts as being so."""
        prefixes = _pairs(information.get("index_definition")).get("prefixes", [])
        fields = [_pairs(field) for field in information.get("attributes", [])]
        kinds = {text(field.get("identifier", b"")): text(field.get("type", b"")) for field in fields}
        if [text(prefix) for prefix in prefixes] != [self._prefix] or kinds != {"s": "TAG", "v": "VECTOR"}:
            return False
        (vector,) = (field for field in fields if text(field["type"]) == "VECTOR")
        wanted = {"algorithm": "HNSW"} | {name.lower(): value for name, value in self._options().items()}
        wanted["data_type"] = wanted.pop("type")
        return all(_word(vector.get(name, value)) == str(value) for name, value in wanted.items())


def _is_gone(error: StoreRefused) -> bool:
    return any(words in error.args[0].lower() for words in _GONE)


def _word(value: bytes | str | int) -> str:
    return str(value) if isinstance(value, int) else text(value)


def _pairs(flat: Sequence[Any] | None) -> dict[str, Any]:
    """Names and values in turn, as version 2 of the protocol has them, by name."""
    flat = flat or []
    return {_word(name).lower(): value for name, value in zip(flat[::2], flat[1::2], strict=False)}
