"""The cache on each kind of index that the default server has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from llmhost.cache.indexes.choose import server_indexes
from llmhost.cache.indexes.flat import FlatIndex
from llmhost.cache.indexes.vector_set import VectorSetIndex
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from plugins.cache import MakeIndex
    from redis.asyncio import Redis

#: `vector_set` with all entries in vector sets, also those of small scopes
INDEXES: dict[str, MakeIndex] = {"flat": FlatIndex, "vector_set": partial(VectorSetIndex, most_in_log=0)}


@pytest.fixture(params=INDEXES)
async def make_index(request: pytest.FixtureRequest, redis_client: Redis, keys: NamespaceKeys) -> MakeIndex:
    if request.param not in (await server_indexes(redis_client, keys)).possible:
        pytest.skip(f"this server has no {request.param}")
    return INDEXES[request.param]
