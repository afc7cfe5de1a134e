"""Which index is in force. The processes of a namespace agree on it in Redis; each asks once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from redis.exceptions import NoPermissionError, OutOfMemoryError

from llmhost.cache.contracts import Index
from llmhost.cache.walk import keys_of
from llmhost.errors import StoreRefused
from llmhost.store.client import execute, text, translate_errors
from llmhost.store.cluster import ClusterClient, raise_lost
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = [
    "IndexChoice",
    "IndexKind",
    "Layout",
    "Reason",
    "ServerIndexes",
    "index_in_force",
    "make_index",
    "read_layout",
    "remove_index",
    "server_indexes",
]

#: best first; every server can do the last
IndexKind = Literal["vector_set", "query_engine", "flat"]

#: the families of keys of each kind; `index` is an older llmhost's
_FAMILIES: dict[IndexKind, Sequence[str]] = {
    "vector_set": ("vectors", "vector_log"),
    "query_engine": ("vector",),
    "flat": ("flat", "index"),
}
_KIND_OF = {family: kind for kind, families in _FAMILIES.items() for family in families}

#: configured; on record; what the data that lies there is in; the best that the server has; it does not say
Reason = Literal["configured", "recorded", "data", "best", "refused"]

#: what Redis says of a command that it does not have, or that no user may call
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


@dataclass(frozen=True, slots=True)
class Layout:
    """What is on record: the kind in force, and the one that `cache reindex` builds."""

    index: IndexKind | None
    building: IndexKind | None


async def read_layout(client: Redis, keys: NamespaceKeys) -> Layout:
    """Raises StoreError."""
    with translate_errors():
        index, building = await client.hmget(keys.layout, ["index", "building"])
    kinds = get_args(IndexKind)
    return Layout(_known(index, kinds), _known(building, kinds))


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
    kind: IndexKind,
    client: Redis,
    keys: NamespaceKeys,
    *,
    embedder: str,
    dimensions: int,
    lifetime: float,
    shards: int = 1,
) -> Index:
    """The index of this kind for an embedder; `lifetime` in seconds. `shards`: how many keys the vectors of a
    scope are spread over, where the kind can."""
    index = _class_of(kind)
    spread = {"shards": shards} if kind == "vector_set" else {}
    return index(client, keys, embedder=embedder, dimensions=dimensions, lifetime=lifetime, **spread)


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
    if isinstance(client, ClusterClient):
        del trials["query_engine"]  # whether one node searches the others too depends on its module
    pipeline = client.pipeline(transaction=False)
    pipeline.hget(keys.layout, "index")
    for commands in trials.values():
        for command in commands:
            pipeline.execute_command(*command)
    with translate_errors():
        recorded, *answers = await pipeline.execute(raise_on_error=False)
        raise_lost(answers)
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
    vectors, documents = keys.vectors("trial", "trial"), keys.vector_prefix("trial")
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
    """The kind of index that the entries of the namespace are in; None where there are none. Raises
    StoreError."""
    found: IndexKind | None = None
    with translate_errors():
        async for key in client.scan_iter(match=keys.any_index, count=_SCAN_STEP):
            kind = _KIND_OF.get(text(key).removeprefix(f"{keys.namespace}:").split(":")[0])
            if kind in ("vector_set", "query_engine"):
                return kind
            found = found or kind
    return found


async def remove_index(
    client: Redis, keys: NamespaceKeys, kind: IndexKind, *, kept_embedder: str | None = None
) -> int:
    """Removes all keys of this kind of index, some at a time, but not those of `kept_embedder`; says how many
    there were. Raises StoreError."""
    removed = 0
    for family in _FAMILIES[kind]:
        prefix = keys.family(family)
        kept = f"{prefix}{kept_embedder}:"
        async for found in keys_of(client, f"{prefix}*"):
            going = [key for key in found if kept_embedder is None or not key.startswith(kept)]
            if kind == "query_engine":
                for name in {key.rpartition(":")[0] for key in going}:
                    with suppress(StoreRefused):  # there is none
                        await execute(client, "FT.DROPINDEX", name)
            if going:
                with translate_errors():
                    removed += await client.unlink(*going)
    return removed


async def _record(client: Redis, keys: NamespaceKeys, kind: IndexKind) -> bytes | None:
    """What is on record then: of several who come at once, the first decides. Raises StoreError."""
    pipeline = client.pipeline(transaction=True)
    pipeline.hsetnx(keys.layout, "index", kind)
    pipeline.hget(keys.layout, "index")
    with translate_errors():
        _, recorded = await pipeline.execute()
    return recorded  # type: ignore[no-any-return]


def _known(recorded: bytes | str | None, possible: Sequence[IndexKind]) -> IndexKind | None:
    """None also for a kind that this server or this llmhost does not have."""
    return next((kind for kind in possible if recorded == kind.encode()), None)
