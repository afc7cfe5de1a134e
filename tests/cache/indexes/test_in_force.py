"""A process that runs for long follows what is on record."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from plugins.redis_servers import ClientOf

from llmhost.cache.indexes import in_force
from llmhost.cache.indexes.choose import make_index
from llmhost.cache.indexes.in_force import IndexInForce
from llmhost.store.keys import NamespaceKeys

S, E = "a" * 32, "b" * 32
VECTOR = np.eye(8, dtype=np.float32)[0]


@pytest.mark.parametrize(("configured", "kind"), [(False, "vector_set"), (True, "flat")])
async def test_what_is_on_record_counts_unless_an_index_is_configured(
    client_of: ClientOf,
    keys: NamespaceKeys,
    monkeypatch: pytest.MonkeyPatch,
    configured: bool,
    kind: str,
) -> None:
    monkeypatch.setattr(in_force, "LAYOUT_PERIOD", -1.0)
    client = client_of("redis-8.2")
    make = partial(make_index, client=client, keys=keys, embedder="e", dimensions=8, lifetime=60.0)
    index = IndexInForce(client, keys, lambda kind: make(kind), "flat", configured=configured)
    await client.hset(keys.layout, mapping={"index": "flat", "building": "vector_set"})
    await index.add(S, E, VECTOR)
    assert sorted(await client.keys("test:*")) == [
        b"test:flat:e:" + S.encode(),
        b"test:layout",
        b"test:vector_log:e:" + S.encode(),
    ]
    await client.hset(keys.layout, "index", "vector_set")
    await client.hdel(keys.layout, "building")
    await index.prepare(S)
    assert (index.kind, index.building) == (kind, None)
    assert [near.entry for near in await index.search(S, VECTOR, 1)] == [E]


async def test_between_two_looks_redis_is_not_asked(client_of: ClientOf, keys: NamespaceKeys) -> None:
    client = client_of("redis-8.2")
    make = partial(make_index, client=client, keys=keys, embedder="e", dimensions=8, lifetime=60.0)
    index = IndexInForce(client, keys, lambda kind: make(kind), "flat", configured=False)
    for _ in range(3):
        await index.prepare(S)
    assert (await client.info("commandstats"))["cmdstat_hmget"]["calls"] == 1
