"""The cache as one question sees it: where Redis or the embedding model fails, it degrades.

No step of the cache ends a question that a worker can answer. Once Redis is away, the question goes on
without it, and the user is warned through `WarnOnce`.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from llmhost.answering.question import Question
from llmhost.cache.keys import CacheKey
from llmhost.cache.models import Answer, Asker, Hit, SemanticLookup, Served, Verdict
from llmhost.cache.service import SemanticCache
from llmhost.cache.single_flight import Follow, Lead, SingleFlight
from llmhost.errors import LlmhostError, StateError, StoreError, StoreRefused, UntrustedWorker
from llmhost.store.client import is_sharded, text, translate_errors
from llmhost.store.keys import FleetKeys

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from redis.asyncio import Redis

__all__ = [
    "CacheSession",
    "CacheSessions",
    "Condenser",
    "FileWeights",
    "OwnWeights",
    "RecordedWeights",
    "WarnOnce",
    "Weights",
]

#: seconds; what still fails after this time is worth another line in a server's log
_WARNING_PERIOD = 600.0
#: warnings; the oldest are forgotten first, so that a server that runs for months does not grow
_MOST_WARNINGS = 256
#: seconds; how long a Redis that was away is left alone before it is looked for again
_PAUSE = 5.0


@dataclass(slots=True)
class WarnOnce:
    """Hands sentences to `notify`: each effect and each cause once in `period` seconds, however many steps
    of a question fail for it.
    """

    notify: Callable[[str], None]
    period: float = _WARNING_PERIOD
    clock: Callable[[], float] = time.monotonic
    #: when each effect and each cause was last part of a warning, oldest first
    warned: dict[str, float] = field(default_factory=dict, init=False)
    #: how often there was something to say, said or not
    warnings: int = field(default=0, init=False)

    def warn(self, effect: str, cause: Exception) -> None:
        """Says `effect` and why, unless one of the two was said within the period."""
        self.warnings += 1
        now, parts = self.clock(), (effect, str(cause))
        if all(now - self.warned.get(part, -self.period) >= self.period for part in parts):
            self.notify(f"{effect}: {cause}")
        for part in parts:
            said = self.warned.pop(part, now)
            self.warned[part] = now if now - said >= self.period else said
        while len(self.warned) > _MOST_WARNINGS:
            del self.warned[next(iter(self.warned))]

    def warn_untrusted(self, worker: str, error: UntrustedWorker) -> None:
        """Says that a worker is not asked, although another one answers: it costs money and does nothing."""
        self.warn(f"worker {worker} is not asked until `llmhost up` replaces it", error)


class Weights:
    """What a fleet serves under the names of its models: nothing that has a name of its own."""

    async def digest(self, model: str) -> str:  # noqa: ARG002
        """The digest of the weights that the fleet is known to serve as `model`; empty where none is known.
        Raises StoreError."""
        return ""

    async def seen(self, model: str, digest: str) -> None:
        """A worker was seen to serve `model` from the weights with this digest. Raises StoreError."""


class RecordedWeights(Weights):
    """As workers were last seen to serve them, in Redis, so that it is known without a worker."""

    def __init__(self, client: Redis, fleet: str) -> None:
        self._client = client
        self._key = FleetKeys(fleet, is_sharded(client)).weights

    async def digest(self, model: str) -> str:
        with translate_errors():
            return text(await self._client.hget(self._key, model) or b"")

    async def seen(self, model: str, digest: str) -> None:
        with translate_errors():
            await self._client.hset(self._key, model, digest)


class OwnWeights(RecordedWeights):
    """As this process saw its engine serve them, else as they are recorded; for a user who may not record
    them."""

    def __init__(self, client: Redis, fleet: str) -> None:
        super().__init__(client, fleet)
        self._seen: dict[str, str] = {}

    async def digest(self, model: str) -> str:
        return self._seen.get(model) or await super().digest(model)

    async def seen(self, model: str, digest: str) -> None:
        self._seen[model] = digest


class FileWeights(Weights):
    """Those of the one file that the configuration names; `read` gives its digest, and blocks."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    async def digest(self, model: str) -> str:  # noqa: ARG002
        return await asyncio.to_thread(self._read)


class Condenser(Protocol):
    """Says what the last turn of a conversation asks."""

    async def condense(self, question: Question) -> Question | None:
        """The question that it asks, so that it stands alone; None where that is not known. Bounded in time.
        Raises StoreError where Redis is away."""
        ...


_CACHE_OFF = "the cache is off"
_NOT_ALL = "the cache does not do all that it should"
_EXACT_ONLY = "only identical questions are answered from the cache"


@dataclass(slots=True)
class CacheSessions:
    """The cache and its flights, for a run of questions. `flights` are made when one is first needed.

    Where Redis is away, it is left alone for `pause` seconds; `restore` is awaited before it is used again,
    and raises StoreError where it is still away. `weights` says what the fleet serves under a model's name,
    and is asked no more than once in `digest_period` seconds. `condenser` None: follow-up questions are
    looked up with all turns before them. `second_look` gives a question whose kind is not settled the kind
    that its vector says; None: it stays plain.
    """

    cache: SemanticCache
    flights: Callable[[], SingleFlight]
    warn_once: WarnOnce
    restore: Callable[[], Awaitable[object]] | None = None
    weights: Weights = field(default_factory=Weights)
    pause: float = _PAUSE
    digest_period: float = 0.0
    condenser: Condenser | None = None
    second_look: Callable[[Question, NDArray[np.float32]], Question] | None = None
    clock: Callable[[], float] = time.monotonic
    sure: bool = field(default=True, init=False)
    away_until: float | None = field(default=None, init=False)
    #: by model: until when its digest need not be asked for, and the digest
    _digests: dict[str, tuple[float, str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.flights = functools.cache(self.flights)

    async def open(self, question: Question) -> CacheSession | None:
        """The session of one question, not available while Redis is left alone; None where the question must
        bypass the cache."""
        key = question.key()
        if key is None:
            return None
        session = CacheSession(self, question, key)
        if self.away_until is not None and self.clock() < self.away_until:
            session.available = session.has_redis = False
        elif not self.sure and self.restore is not None:
            try:
                await self.restore()
            except Exception as error:  # noqa: BLE001 - foreseen or not, a worker can still answer
                session.degrade(error)
            else:
                self.sure, self.away_until = True, None
        await session.place()
        return session

    async def digest(self, model: str) -> str:
        """As `Weights.digest`, asked no more than once in `digest_period`, however many questions come."""
        until, digest = self._digests.get(model, (-math.inf, ""))
        if self.clock() >= until:
            digest = await self.weights.digest(model)
            self._digests[model] = self.clock() + self.digest_period, digest
        return digest

    async def seen(self, model: str, digest: str) -> None:
        """As `Weights.seen`."""
        self._digests.pop(model, None)
        await self.weights.seen(model, digest)

    async def touch(self, *hits: Hit) -> bool:
        """Counts hits on the entries that were served; whether the cache can still be used."""
        try:
            await self.cache.touch(*hits)
        except Exception as error:  # noqa: BLE001 - foreseen or not, the questions were answered
            return self.failed(error)
        return True

    def failed(self, error: Exception) -> bool:
        """Warns of a step that failed; whether others can still be done. A Redis that is away is not asked
        again, one that refuses a step may still do the others. What was not foreseen ends the cache's part in
        this question alone."""
        if isinstance(error, StoreRefused):
            self.warn_once.warn(_NOT_ALL, error)
            return True
        if isinstance(error, StoreError):
            self.lost()
        elif not isinstance(error, LlmhostError):
            error = StateError(f"unexpected {type(error).__name__}: {error}")
        self.warn_once.warn(_CACHE_OFF, error)
        return False

    def lost(self) -> None:
        """Redis is away: no question asks it until the pause is over."""
        self.away_until = self.clock() + self.pause
        self.sure = self.restore is None


@dataclass(slots=True)
class CacheSession:
    """What the cache can still do for one question, which is settled once its vector is known. `available`
    turns False when Redis is away, and when a step fails for a reason that was not foreseen; `has_redis` only
    when Redis is away."""

    sessions: CacheSessions
    question: Question
    key: CacheKey
    available: bool = True
    has_redis: bool = True

    @property
    def flight_name(self) -> str:
        """Of one fleet: another one may serve other weights than are expected, and tell their answer. And of
        one limit: how long the answer becomes is not known before it has ended."""
        return f"{self.question.fleet}:{self.key.entry}:{self.question.sampling.max_tokens or ''}"

    async def place(self) -> None:
        """Takes the question's place among the answers of the weights that the fleet is known to serve."""
        with self._degrading():
            if self.available and (digest := await self.sessions.digest(self.question.model)):
                self.key = self.question.key(digest) or self.key

    async def exact(self) -> Answer | None:
        """The stored answer to the same question."""
        with self._degrading():
            if self.available:
                return await self.sessions.cache.exact(self.key)
        return None

    @property
    def condenses(self) -> bool:
        """Whether it may be asked what the question means without the turns before it: that asks an engine,
        and is remembered."""
        question = self.question
        wanted = self.sessions.condenser is not None and bool(question.history)
        return wanted and question.store and not question.only_cached

    async def standalone(self) -> CacheSession | None:
        """The session of the question that the last turn of a conversation asks by itself; None where that is
        not known, so that it is looked up with all turns before it. Nothing is to be stored there."""
        condenser = self.sessions.condenser
        with self._degrading():
            asks = await condenser.condense(self.question) if condenser and self.available else None
            if asks is not None and (key := asks.key()) is not None:
                session = CacheSession(self.sessions, asks, key)
                await session.place()
                return session
        return None

    async def semantic(
        self,
        threshold: float | None,
        *,
        alone: bool = True,
        usable: Callable[[Answer], bool] = lambda _: True,
    ) -> SemanticLookup:
        """What the cache has for other wordings of it. `alone`: no other question is under way, which the
        models would keep waiting. `usable`: whether an answer is not too old."""
        with self._degrading():
            if self.available:
                with self._exact_only():
                    return await self.sessions.cache.semantic(
                        self.key, threshold, alone=alone, usable=usable, refused=self._look_again
                    )
        return SemanticLookup()

    async def store(
        self,
        answer: Answer,
        vector: NDArray[np.float32] | None,
        digest: str = "",
        *,
        exact_only: bool = False,
    ) -> bool:
        """Keeps the answer of the weights with this digest, under the question's vector where that is known
        already; says if it did. `exact_only`: it is served to the same text only. The session is then at the
        entry of what was served, whatever was expected. Nothing is kept where the vector says that it is not
        to be.
        """
        with self._degrading():
            if self.available:
                key = self.question.key(digest)
                if key is not None and key != self.key:
                    self.key = key
                    await self.sessions.seen(self.question.model, digest)
                if exact_only or self.question.exact_only:
                    vector = None
                elif vector is None:
                    vector = await self._embed()
                    if vector is not None and self._look_again(vector):
                        vector = None
                if not self.question.use_cache:
                    return False
                await self.sessions.cache.store(self.key, answer, vector, self.question.lifetime)
                return True
        return False

    def hit(self, entry: str, now: float, verdict: Verdict | None) -> Hit:
        """A hit on the entry that was served, with the verdict on it where it was a semantic one. Of a
        question that is not to be stored, nothing is remembered."""
        if verdict is None or not self.question.store:
            return Hit(entry, now)
        asker = Asker(self.question.fleet, self.question.tenant, self.question.user)
        return Hit(entry, now, Served(verdict, self.key.question, asker))

    @asynccontextmanager
    async def flight(self) -> AsyncIterator[Lead | Follow | None]:
        """Within the block, whether this process is to ask an engine or follows another; None without Redis,
        where each process asks for itself."""
        stack, place = AsyncExitStack(), None
        with self._degrading():
            if self.available:
                joined = self.sessions.flights().join(self.flight_name, self.key.entry)
                place = await stack.enter_async_context(joined)
        try:
            yield place
        finally:
            with self._degrading():
                await stack.aclose()

    def _look_again(self, vector: NDArray[np.float32]) -> str:
        """Why the question's vector says that no answer to another wording is for it; "" where one may be."""
        if self.sessions.second_look is not None and not self.question.settled:
            self.question = self.sessions.second_look(self.question, vector)
        question = self.question
        if question.use_cache and not question.exact_only:
            return ""
        return f"it reads like a question of the kind {question.kind}: “{question.because}”"

    async def _embed(self) -> NDArray[np.float32] | None:
        with self._exact_only():
            return await self.sessions.cache.embed(self.key)
        return None

    @contextmanager
    def _exact_only(self) -> Iterator[None]:
        """A step that needs the models: where they fail, the same text is still found."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - as in `_degrading`
            self.sessions.warn_once.warn(_EXACT_ONLY, error)

    def _degrading(self) -> _Degrading:
        return _Degrading(self)

    def degrade(self, error: Exception) -> None:
        """As `CacheSessions.failed`."""
        if not self.sessions.failed(error):
            self.available = False
            self.has_redis = self.has_redis and not isinstance(error, StoreError)


class _Degrading:
    """A step that may fail, for whatever reason: the block ends there. No generator, which takes three times
    as long: a hit has several such steps."""

    __slots__ = ("_session",)

    def __init__(self, session: CacheSession) -> None:
        self._session = session

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, Exception):  # foreseen or not, a worker can still answer
            return False
        self._session.degrade(error)
        return True
