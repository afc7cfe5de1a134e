"""The parts of the cache for one command, each built when it is first asked for."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from llmhost.config.models import Config
from llmhost.errors import ModelError, StateError

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from llmhost.answering.cache_session import Memory
    from llmhost.answering.notices import Notices
    from llmhost.cache.calibration import Label, Trust
    from llmhost.cache.catalog import Catalog
    from llmhost.cache.contracts import Index
    from llmhost.cache.embedding import Embedder
    from llmhost.cache.judge import Judge
    from llmhost.cache.keys import Keys
    from llmhost.cache.policy import Policy
    from llmhost.cache.service import SemanticCache
    from llmhost.trust.labels import Labels

__all__ = ["CacheParts"]

_T = TypeVar("_T")


class CacheParts:
    """`note` is told what takes a while. A model that cannot be had is not tried twice: that takes long."""

    def __init__(self, config: Config, note: Callable[[str], None]) -> None:
        self._config = config
        self._note = note
        self._made: dict[str, object] = {}
        self._failed: dict[str, ModelError | StateError] = {}
        self._locks = {name: asyncio.Lock() for name in ("embedder", "policy")}

    @property
    def keys(self) -> Keys:
        """The names of the cache's keys."""
        from llmhost.cache.keys import Keys

        return Keys(self._config.cache.namespace)

    def catalog(self, client: Redis) -> Catalog:
        """The cache for people."""
        from llmhost.cache.catalog import Catalog

        async def index_source(embedder: str, dimensions: int) -> Index:
            return self._index(client, embedder, dimensions)

        return Catalog(client, self.keys, index_source)

    def labels(self, client: Redis) -> Labels:
        """What is found out about semantic hits, and what it teaches."""
        from llmhost.trust.labels import Labels

        config = self._config.cache
        moves = config.max_error if config.policy == "verified" else None
        return Labels(client, self._config.fleet.name, max_error=moves, policy=config.policy)

    def memory(self, client: Redis, notices: Notices, judge: Judge | None = None) -> Memory:
        """The cache on the path of questions."""
        from llmhost.answering.cache_session import Memory
        from llmhost.cache.single_flight import SingleFlight

        return Memory(self.cache(client, judge), SingleFlight(client, self.keys), notices)

    def cache(self, client: Redis, judge: Judge | None = None) -> SemanticCache:
        """The cache itself, whose failures are raised."""
        from llmhost.cache.calibration import Trust
        from llmhost.cache.service import SemanticCache

        config = self._config.cache

        async def embedder_source() -> tuple[Embedder, Index]:
            embedder = await self.embedder()
            return embedder, self._indexes(client, embedder)

        @functools.cache  # made when they are first read: an exact hit never does
        def labels() -> Labels:
            return self.labels(client)

        async def trust() -> Trust:
            return await labels().trust() if config.policy == "verified" else Trust()

        async def learn(label: Label) -> None:
            await labels().record(label, time.time())

        return SemanticCache(
            client,
            self.keys,
            embedder_source=embedder_source,
            policy_source=self.policy,
            candidates=config.candidates,
            response_ttl=config.response_ttl,
            embedding_ttl=config.embedding_ttl,
            trust=trust,
            judge=judge,
            learn=learn,
        )

    async def embedder(self) -> Embedder:
        """The embedding model. Raises ModelError, StateError."""
        from llmhost.cache.embedders.load import load_embedder

        name = self._config.cache.embedder
        return await self._once("embedder", lambda: load_embedder(name, on_progress=self._note))

    async def policy(self) -> Policy:
        """What judges candidates. Raises ModelError where the verifier cannot be had: then nothing but
        identical questions may be served, and never what similarity alone would allow."""
        from llmhost.wiring.policies import make_policy

        return await self._once("policy", lambda: make_policy(self._config.cache, self._note))

    async def prepare(self, warn: Callable[[str], None]) -> None:
        """Makes the embedding model ready for later commands; what is wrong with it is told."""
        from llmhost.cache.embedders.load import embedder_id

        name = self._config.cache.embedder
        try:
            if self._config.cache.enabled and await asyncio.to_thread(embedder_id, name) is None:
                await self.embedder()
        except (ModelError, StateError) as error:
            warn(f"only identical questions will be answered from the cache: {error}")

    async def _once(self, what: str, make: Callable[[], _T]) -> _T:
        async with self._locks[what]:
            if what in self._failed:
                raise self._failed[what]
            if what not in self._made:
                try:
                    self._made[what] = await asyncio.to_thread(make)
                except (ModelError, StateError) as error:
                    self._failed[what] = error
                    raise
        return self._made[what]  # type: ignore[return-value]  # one type under each name

    def _indexes(self, client: Redis, embedder: Embedder) -> Index:
        """One for the whole run: it holds what it has read."""
        made = self._made.get("index")
        if made is None:
            made = self._made["index"] = self._index(client, embedder.id, embedder.dimensions)
        return made  # type: ignore[return-value]

    def _index(self, client: Redis, embedder: str, dimensions: int) -> Index:
        from llmhost.cache.indexes.flat import FlatIndex

        lifetime = self._config.cache.embedding_ttl
        return FlatIndex(client, self.keys, embedder=embedder, dimensions=dimensions, lifetime=lifetime)
