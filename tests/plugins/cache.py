"""Fixtures for the cache: on a real Redis, with an embedder that one can follow by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from doubles.embedders import WordEmbedder

from llmhost.cache.contracts import Index
from llmhost.cache.embedders.exports import BUILTIN
from llmhost.cache.embedders.onnx import OnnxEmbedder
from llmhost.cache.indexes.choose import index_in_force
from llmhost.cache.indexes.choose import make_index as index_of_kind
from llmhost.cache.keys import CacheKey, cache_key, scope_id
from llmhost.cache.models import Answer
from llmhost.cache.policy import CachePolicy, ThresholdPolicy
from llmhost.cache.service import SemanticCache
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

MakeCache = Callable[..., SemanticCache]
MakeIndex = Callable[..., Index]


@pytest.fixture(scope="session")
def minilm() -> OnnxEmbedder:
    """The embedding model that comes with llmhost, loaded once for all tests of a session."""
    return OnnxEmbedder(BUILTIN)


@pytest.fixture
def keys() -> NamespaceKeys:
    return NamespaceKeys("test")


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def key() -> Callable[..., CacheKey]:
    """The key of a question in a scope of the given parts."""
    return lambda question, **parts: cache_key(scope_id({"tenant": "t", **parts}), question)


@pytest.fixture
def answer() -> Callable[..., Answer]:
    """A complete answer."""
    return lambda text="an answer", **changes: Answer(
        **(
            {
                "text": text,
                "model": "m",
                "timestamp": 1_700_000_000.0,
                "prompt_tokens": 10,
                "completion_tokens": 20,
                "finish_reason": "stop",
                "engine_seconds": 3.6,
                "cost_usd": 0.0005,
            }
            | changes
        )
    )


@pytest.fixture
async def make_index(redis_client: Redis, keys: NamespaceKeys) -> MakeIndex:
    """Makes the index that is in force on this server; a module can have others instead."""
    choice = await index_in_force(redis_client, keys, "auto", record=False)
    return partial(index_of_kind, choice.kind)


@pytest.fixture
def make_cache(
    redis_client: Redis, keys: NamespaceKeys, embedder: WordEmbedder, make_index: MakeIndex
) -> MakeCache:
    """A cache as one process has it; several of them share what lies in Redis."""

    def make(
        *,
        client: Redis = redis_client,
        embedder: WordEmbedder = embedder,
        policy: CachePolicy = ThresholdPolicy(0.8),  # noqa: B008  # frozen
        **others: Any,
    ) -> SemanticCache:
        dimensions = embedder.dimensions
        index = make_index(client, keys, embedder=embedder.id, dimensions=dimensions, lifetime=7200.0)

        async def source() -> tuple[WordEmbedder, Index]:
            return embedder, index

        async def policy_source() -> CachePolicy:
            return policy

        settings: dict[str, Any] = {
            "embedder_source": source,
            "policy_source": policy_source,
            "candidates": 3,
            "response_ttl": 3600.0,
            "embedding_ttl": 7200.0,
        }
        return SemanticCache(client, keys, **(settings | others))

    return make


@pytest.fixture
def cache(make_cache: MakeCache) -> SemanticCache:
    return make_cache()
