"""What the tests of the path of a question share."""

from __future__ import annotations

import pytest
from doubles.answering_house import House
from redis.asyncio import Redis

from llmhost.cache.service import SemanticCache
from llmhost.store.keys import NamespaceKeys


@pytest.fixture
def house(redis_client: Redis, cache: SemanticCache, keys: NamespaceKeys) -> House:
    return House(redis_client, cache, keys)
