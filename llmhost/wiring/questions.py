"""The parts of the cache for one command, each built when it is first asked for."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from llmhost.config.models import CacheConfig, Config
from llmhost.errors import ModelError, StateError
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from redis.asyncio import Redis

    from llmhost.answering.cache_session import CacheSessions, WarnOnce, Weights
    from llmhost.answering.question import Question
    from llmhost.cache.calibration import Calibration, Label
    from llmhost.cache.catalog import Catalog
    from llmhost.cache.contracts import Embedder, Index, TextEmbedder
    from llmhost.cache.indexes.choose import IndexChoice, IndexKind
    from llmhost.cache.indexes.in_force import IndexInForce
    from llmhost.cache.limits import CacheLimits
    from llmhost.cache.models import Judge
    from llmhost.cache.policy import CachePolicy, Thresholds
    from llmhost.cache.reindex import Reindexed, Reindexer
    from llmhost.cache.service import SemanticCache
    from llmhost.cache.sweep import Sweeper, Swept
    from llmhost.cache.transfer import Exporter, Imported, Importer
    from llmhost.trust.labels import Labels

__all__ = ["CacheParts", "drop_audits", "make_policy", "thresholds", "verified_policy"]

_T = TypeVar("_T")

#: seconds; how long it may take until other weights, which a worker was seen to serve, count in a gateway
_DIGEST_PERIOD = 1.0


class CacheParts:
    """`note` gets a sentence about what takes a while. A model that is missing is not tried twice.

    `models` are those that were loaded: other parts with the same configuration may have them too, in another
    event loop and with another Redis.
    """

    def __init__(self, config: Config, note: Callable[[str], None]) -> None:
        self.keys = NamespaceKeys(config.cache.namespace, config.redis.has_shards)
        self._config = config
        self._note = note
        self.models: dict[str, object] = {}
        self._failed: dict[str, ModelError | StateError] = {}
        self._index_choice: IndexChoice | None = None
        self._indexes: dict[tuple[str, int], IndexInForce] = {}
        self._locks = {name: asyncio.Lock() for name in ("embedder", "policy", "index")}

    def catalog(self, client: Redis) -> Catalog:
        """The cache for people."""
        from llmhost.cache.catalog import Catalog

        async def index_source(embedder: str, dimensions: int) -> Index:
            return await self._index(client, embedder, dimensions)

        return Catalog(client, self.keys, index_source)

    def labels(self, client: Redis) -> Labels:
        """What is found out about semantic hits, and what it teaches."""
        from llmhost.cache.verifiers.load import labels_name
        from llmhost.trust.labels import Labels

        config = self._config.cache
        moves = config.max_error if config.policy == "verified" else None
        return Labels(
            client,
            self._config.fleet.name,
            max_error=moves,
            policy=labels_name(config),
            read_only=self._config.redis.cache_only,
        )

    def check_labels(self) -> None:
        """Raises ModelError where nobody here knows whose labels they are, as the verifier is missing: a
        gateway on another machine may have it, and labels."""
        from llmhost.cache.verifiers.load import verifier_id

        if self._config.cache.policy == "verified":
            verifier_id(self._config.cache.verifier)

    def sessions(
        self,
        client: Redis,
        warn_once: WarnOnce,
        judge: Judge | None = None,
        restore: Callable[[], Awaitable[None]] | None = None,
        *,
        goes_on: bool = False,
    ) -> CacheSessions:
        """The cache on the path of questions; `restore` brings Redis back, `goes_on` as in
        `Wiring.answerer`."""
        from llmhost.answering.cache_session import CacheSessions
        from llmhost.cache.single_flight import SingleFlight

        return CacheSessions(
            self.cache(client, judge),
            lambda: SingleFlight(client, self.keys),
            warn_once,
            restore=restore,
            weights=self.weights(client),
            digest_period=_DIGEST_PERIOD if goes_on else 0.0,
            second_look=self._look_again if self._looks_again else None,
        )

    @property
    def _looks_again(self) -> bool:
        """Whether admission knows what vectors say: those of the default embedder."""
        cache = self._config.cache
        return cache.admission == "careful" and cache.embedder == CacheConfig().embedder

    def _look_again(self, question: Question, vector: NDArray[np.float32]) -> Question:
        from llmhost.answering.question import look_again
        from llmhost.answering.second_look import load_second_look

        return look_again(self._config.cache, question, load_second_look().admit(question.prompt, vector))

    def weights(self, client: Redis) -> Weights:
        """What the fleet serves under its models' names."""
        from llmhost.answering.cache_session import FileWeights, OwnWeights, RecordedWeights, Weights

        engine, provider = self._config.engine, self._config.fleet.provider
        if engine.kind == "ollama":
            kind = OwnWeights if self._config.redis.cache_only else RecordedWeights
            return kind(client, self._config.fleet.name)
        if provider != "local":
            return Weights()
        from llmhost.engines.model_file import configured_digest

        return FileWeights(lambda: configured_digest(engine.model_path))

    def cache(self, client: Redis, judge: Judge | None = None) -> SemanticCache:
        """The cache itself, whose failures are raised."""
        from llmhost.cache.calibration import Calibration
        from llmhost.cache.service import SemanticCache

        config = self._config.cache

        async def embedder_source() -> tuple[Embedder, Index]:
            embedder, _ = await asyncio.gather(self.embedder(), self._choice_of_index(client))
            return embedder, await self._index(client, embedder.id, embedder.dimensions)

        @functools.cache  # made when they are first read: an exact hit never does
        def labels() -> Labels:
            return self.labels(client)

        async def calibration() -> Calibration:
            return await labels().calibration() if config.policy == "verified" else Calibration()

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
            stale_for=config.stale_for or 0.0,
            calibration=calibration,
            judge=judge,
            learn=learn,
            limits=self._limits(client),
        )

    def _limits(self, client: Redis) -> CacheLimits | None:
        from llmhost.cache.limits import CacheLimits

        config = self._config.cache
        limits = CacheLimits(client, self.keys, config.max_entries, config.max_bytes, config.longest_kept)
        return limits if limits.any else None

    async def embedder(self) -> Embedder:
        """The embedding model. Raises ModelError, StateError."""
        return await self.text_embedder()

    async def text_embedder(self) -> TextEmbedder:
        """The same, for any text. Raises ModelError, StateError."""
        from llmhost.cache.embedders.load import load_embedder

        name = self._config.cache.embedder
        return await self._once("embedder", lambda: load_embedder(name, on_progress=self._note))

    async def policy(self) -> CachePolicy:
        """What judges candidates. Raises ModelError where the verifier cannot be had: then nothing but
        identical questions may be served, and never what similarity alone would allow."""

        return await self._once("policy", lambda: make_policy(self._config.cache, self._note))

    async def _once(self, what: str, make: Callable[[], _T]) -> _T:
        async with self._locks[what]:
            if what in self._failed:
                raise self._failed[what]
            if what not in self.models:
                try:
                    self.models[what] = await asyncio.to_thread(make)
                except (ModelError, StateError) as error:
                    self._failed[what] = error
                    raise
        return self.models[what]  # type: ignore[return-value]  # one type under each name

    async def _index(self, client: Redis, embedder: str, dimensions: int) -> IndexInForce:
        """One for the whole run: it holds what it has read. Raises StoreUnavailable."""
        from llmhost.cache.indexes.in_force import IndexInForce

        choice = await self._choice_of_index(client)
        name = (embedder, dimensions)
        if name not in self._indexes:
            self._indexes[name] = IndexInForce(
                client,
                self.keys,
                lambda kind: self._index_of_kind(client, kind, embedder, dimensions),
                choice.kind,
                configured=choice.reason == "configured",
            )
        return self._indexes[name]

    def _index_of_kind(self, client: Redis, kind: IndexKind, embedder: str, dimensions: int) -> Index:
        from llmhost.cache.indexes.choose import make_index

        cache = self._config.cache
        return make_index(
            kind,
            client,
            self.keys,
            embedder=embedder,
            dimensions=dimensions,
            lifetime=cache.embedding_ttl,
            shards=cache.index_shards,
        )

    async def _choice_of_index(self, client: Redis) -> IndexChoice:
        """Redis is asked once. Raises StoreUnavailable."""
        from llmhost.cache.indexes.choose import index_in_force

        async with self._locks["index"]:
            if self._index_choice is None:
                alone = self._config.redis.cache_only  # others decide, who see what there is
                wanted = self._config.cache.index
                self._index_choice = await index_in_force(
                    client, self.keys, wanted, record=not alone, lists_keys=not alone
                )
        return self._index_choice

    async def reindexer(
        self, client: Redis, *, re_embed: bool, tell: Callable[[Reindexed], None]
    ) -> Reindexer:
        """What moves all entries to another index. Raises ModelError, StateError."""
        from llmhost.cache.reindex import Reindexer

        return Reindexer(
            client,
            self.keys,
            make=partial(self._index_of_kind, client),
            embedder_source=self.embedder,
            embedder_id=(await self.embedder()).id,
            re_embed=re_embed,
            tell=tell,
        )

    def exporter(self, client: Redis, *, vectors: bool) -> Exporter:
        """What writes entries as lines."""
        from llmhost.cache.transfer import Exporter

        return Exporter(client, self.keys, index_source=partial(self._index, client), vectors=vectors)

    def importer(self, client: Redis, tell: Callable[[Imported], None]) -> Importer:
        """What reads them."""
        from llmhost.cache.transfer import Importer

        return Importer(
            client,
            self.keys,
            embedder_source=self.embedder,
            index_source=partial(self._index, client),
            counts_ttl=self._config.cache.embedding_ttl,
            limits=self._limits(client),
            tell=tell,
        )

    def sweeper(self, client: Redis, tell: Callable[[Swept], None]) -> Sweeper:
        """What removes what expired entries have left."""
        from llmhost.cache.sweep import Sweeper

        kind = self._config.cache.index
        return Sweeper(
            client,
            self.keys,
            make=partial(self._index_of_kind, client),
            configured=None if kind == "auto" else kind,
            tell=tell,
        )


async def drop_audits(config: Config, client: Redis) -> None:
    """Drops what waits of every policy's hits: it holds questions and answers. Raises StoreError."""
    from llmhost.answering.audits import AuditQueue

    for policy in ("verified", "threshold"):
        await AuditQueue(client, config.fleet.name, policy).clear()


def make_policy(config: CacheConfig, note: Callable[[str], None]) -> CachePolicy:
    """The configured policy; loads the verifier where it is wanted. Blocks. Raises ModelError."""
    from llmhost.cache.policy import ThresholdPolicy

    if config.policy == "threshold":
        return ThresholdPolicy(config.threshold)
    return verified_policy(config.verifier, thresholds(config), note)


def verified_policy(verifier: str, thresholds: Thresholds, note: Callable[[str], None]) -> CachePolicy:
    """Guards, then this verifier (see `cache.verifier`), then these thresholds. Blocks. Raises ModelError."""
    from llmhost.cache.guards import objections
    from llmhost.cache.policy import VerifiedPolicy
    from llmhost.cache.verifiers.load import BUILTIN, load_verifier

    verify = load_verifier(verifier, on_progress=note).probability
    return VerifiedPolicy(objections, verify, thresholds, slow=verifier != BUILTIN)


def thresholds(config: CacheConfig) -> Thresholds:
    """The thresholds that the configuration asks for."""
    from llmhost.cache.policy import VERIFIER_FLOOR, Thresholds, threshold_with_doubt

    return Thresholds(
        serve=config.confidence,
        doubted=threshold_with_doubt(config.confidence),
        judge=config.judge_from if config.judge else None,
        floor=min(VERIFIER_FLOOR, config.confidence),
    )
