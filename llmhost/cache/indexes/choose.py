"""Which index is in force. The processes of a namespace agree on it in Redis; each asks once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from redis.exceptions import NoPermissionError, OutOfMemoryError

from llmhost.cache.contracts import Index
from llmhost.errors import StoreRefused
from llmhost.store.client import text, translate_errors
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = [
    "IndexChoice",
    "IndexKind",
    "Reason",
    "ServerIndexes",
    "index_in_force",
    "make_index",
    "server_indexes",
]

#: best first; every server can do the last
IndexKind = Literal["vector_set", "query_engine", "flat"]

#: configured; on record; what the data that lies there is in; the best that the server has; it does not say
Reason = Literal["configured", "recorded", "data", "best", "refused"]

#: what Redis says of a command that it does not have, or that nobody may use
_REFUSALS = ("unknown command", "not allowed", "not supported")
#: keys; how many Redis looks at in one step of a scan
_SCAN_STEP = 10_000


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """The kind to use, and why it is this one."""

    kind: IndexKind
    reason: Reason


@dataclass(frozen=True, slots=True)
class ServerIndexes:
    """The kinds that a server has, best first: those that this user may use, and the others."""

    possible: Sequence[IndexKind]
    forbidden: Sequence[IndexKind]


async def index_in_force(
    client: Redis,
    keys: NamespaceKeys,
    wanted: IndexKind | Literal["auto"],
    *,
    record: bool = True,
    lists_keys: bool = True,
) -> IndexChoice:
    """What this process is to use; `wanted` is `cache.index`. Where nothing is on record, the choice is
    recorded for others; without `record`, nothing is written. `lists_keys` False: the user may not list keys,
    and so cannot see entries of before there was a record.

    Entries stay in the index that they are in: where there are some, the best of the server is not taken. A
    server that refuses to tell gets the flat index. Raises StoreUnavailable.
    """
    if wanted != "auto":
        return IndexChoice(wanted, "configured")
    try:
        recorded, indexes = await _ask(client, keys)
        kind = _known(recorded, indexes.possible)
        if kind is not None:
            return IndexChoice(kind, "recorded")
        kind = await _kind_of_data(client, keys) if lists_keys else None
    except StoreRefused:
        return IndexChoice("flat", "refused")
    choice = IndexChoice(indexes.possible[0], "best")
    if kind is not None and kind in indexes.possible:
        choice = IndexChoice(kind, "data")
    if record and recorded is None:
        with suppress(StoreRefused):  # a full or read-only server, which takes no entries either
            first = _known(await _record(client, keys, choice.kind), indexes.possible)
            if first is not None and first != choice.kind:
                return IndexChoice(first, "recorded")
    return choice


async def server_indexes(client: Redis, keys: NamespaceKeys) -> ServerIndexes:
    """What can be chosen from. Raises StoreError."""
    return (await _ask(client, keys))[1]


def make_index(
    kind: IndexKind, client: Redis, keys: NamespaceKeys, *, embedder: str, dimensions: int, lifetime: float
) -> Index:
    """The index of this kind for an embedder; `lifetime` in seconds."""
    index = _class_of(kind)
    return index(client, keys, embedder=embedder, dimensions=dimensions, lifetime=lifetime)


def _class_of(kind: IndexKind) -> Callable[..., Index]:
    if kind == "vector_set":
        from llmhost.cache.indexes.vector_set import VectorSetIndex

        return VectorSetIndex
    if kind == "query_engine":
        from llmhost.cache.indexes.query_engine import QueryEngineIndex

        return QueryEngineIndex
    from llmhost.cache.indexes.flat import FlatIndex

    return FlatIndex


async def _ask(client: Redis, keys: NamespaceKeys) -> tuple[bytes | None, ServerIndexes]:
    """What is on record, and what there is, in one round trip. Raises StoreError."""
    trials = _trials(keys)
    pipeline = client.pipeline(transaction=False)
    pipeline.hget(keys.layout, "index")
    for commands in trials.values():
        for command in commands:
            pipeline.execute_command(*command)
    with translate_errors():
        recorded, *answers = await pipeline.execute(raise_on_error=False)
        if isinstance(recorded, Exception):
            raise recorded
    possible, forbidden = list[IndexKind](), list[IndexKind]()
    for kind, commands in trials.items():
        own, answers = answers[: len(commands)], answers[len(commands) :]
        if any(map(_is_unknown, own)):
            continue
        (forbidden if any(isinstance(one, NoPermissionError) for one in own) else possible).append(kind)
    return recorded, ServerIndexes(possible, forbidden)


def _trials(keys: NamespaceKeys) -> dict[IndexKind, Sequence[tuple[Any, ...]]]:
    """For each kind, commands that show whether Redis has it and the user may use it: they name what there is
    not, or lack a part, so that nothing is written."""
    vectors, documents = keys.vectors("trial", "trial"), keys.vector("trial", "")
    return {
        "vector_set": [
            ("VADD", vectors, "FP32", b"", b"trial"),
            ("VSIM", vectors, "ELE", b"trial"),
            ("VREM", vectors, b"trial"),
        ],
        "query_engine": [
            ("FT.CREATE", documents, "ON", "HASH", "PREFIX", 1, documents, "SCHEMA"),
            ("FT.SEARCH", documents, "*"),
            ("FT.INFO", documents),
        ],
        "flat": [],
    }


def _is_unknown(answer: Any) -> bool:
    """A command that fails for what it lacks, or for want of memory, is one that there is."""
    if not isinstance(answer, Exception) or isinstance(answer, OutOfMemoryError):
        return False
    return any(words in str(answer).lower() for words in _REFUSALS)


async def _kind_of_data(client: Redis, keys: NamespaceKeys) -> IndexKind | None:
    """The kind of index that the entries of the namespace are in; None where there are none. A scope with few
    entries has a log of the flat index in a `vector_set`, too. Raises StoreError."""
    found: IndexKind | None = None
    with translate_errors():
        async for key in client.scan_iter(match=keys.any_index, count=_SCAN_STEP):
            match text(key).removeprefix(f"{keys.namespace}:").split(":")[0]:
                case "vectors":
                    return "vector_set"
                case "vector":
                    return "query_engine"
                case "flat" | "index":
                    found = "flat"
    return found


async def _record(client: Redis, keys: NamespaceKeys, kind: IndexKind) -> bytes | None:
    """What is on record then: of several who come at once, the first decides. Raises StoreError."""
    pipeline = client.pipeline(transaction=True)
    pipeline.hsetnx(keys.layout, "index", kind)
    pipeline.hget(keys.layout, "index")
    with translate_errors():
        _, recorded = await pipeline.execute()
    return recorded  # type: ignore[no-any-return]


def _known(recorded: bytes | None, possible: Sequence[IndexKind]) -> IndexKind | None:
    """None also for a kind that this server or this llmhost does not have."""
    return next((kind for kind in possible if recorded == kind.encode()), None)
