"""All entries of a namespace, some at a time: a million of them pass through a small memory, and Redis,
which is asked by SCAN, answers others in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.cache.keys import ENTRY_PATTERN
from llmhost.cache.stored import StoredEntry, read_entries
from llmhost.store.client import text, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["BATCH", "Record", "all_names", "keys_of", "names", "read_records"]

#: entries, or keys, that are worked on at once
BATCH = 256
#: keys; how many Redis looks at in one step of a scan
_SCAN_STEP = 1000


@dataclass(frozen=True, slots=True)
class Record:
    """An entry that has an answer. `is_old`: an older llmhost wrote it, with the question in another key."""

    entry: str
    stored: StoredEntry
    is_old: bool

    @property
    def question(self) -> str:
        return self.stored.question or ""


async def names(client: Redis, keys: NamespaceKeys) -> AsyncIterator[Sequence[str]]:
    """The entries' ids; one may come twice. Raises StoreError."""
    async for found in keys_of(client, keys.response("*")):
        ids = [keys.id_in(key) for key in found]
        yield [each for each in ids if ENTRY_PATTERN.fullmatch(each)]


async def all_names(client: Redis, keys: NamespaceKeys) -> set[str]:
    """The ids of all entries, each once: for a million of them, some 100 MB. Raises StoreError."""
    return {name async for some in names(client, keys) for name in some}


async def keys_of(client: Redis, pattern: str) -> AsyncIterator[Sequence[str]]:
    """The keys that match, at most `BATCH` at a time; one may come twice. Raises StoreError."""
    found: list[str] = []
    with translate_errors():
        async for key in client.scan_iter(match=pattern, count=_SCAN_STEP):
            found.append(text(key))
            if len(found) == BATCH:
                yield found
                found = []
    if found:
        yield found


async def read_records(client: Redis, keys: NamespaceKeys, entries: Sequence[str]) -> list[Record]:
    """Those that there are, and that are whole. Raises StoreError."""
    stored = await read_entries(client, keys, entries)
    pipeline = client.pipeline(transaction=False)
    for entry in entries:
        pipeline.exists(keys.embedding(entry))
    with translate_errors():
        beside = await pipeline.execute()
    return [
        Record(entry, one, bool(old))
        for entry, one, old in zip(entries, stored, beside, strict=True)
        if one is not None and one.question is not None and ENTRY_PATTERN.fullmatch(one.scope)
    ]
