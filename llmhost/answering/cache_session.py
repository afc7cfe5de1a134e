"""The cache as one question sees it: where Redis or the embedding model fails, it gives way.

Nothing here raises StoreError, ModelError or StateError. Once Redis is away, the question goes on without
it; the user is told through `WarnOnce`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from llmhost.cache.keys import CacheKey
from llmhost.cache.models import Answer, SemanticLookup, Verdict
from llmhost.cache.service import SemanticCache
from llmhost.cache.single_flight import SingleFlight
from llmhost.errors import ModelError, StateError, StoreError, StoreRefused, UntrustedWorker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CacheSession", "Memory", "WarnOnce"]


# What the user is told when something gives way: one line, not one for each step that fails.


class WarnOnce:
    """Hands sentences to `notify`, each effect and each cause only once in this process."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._told: set[str] = set()

    def warn(self, effect: str, cause: Exception) -> None:
        """Says `effect` and why, unless one of the two was told before."""
        if self._told.isdisjoint((effect, str(cause))):
            self._notify(f"{effect}: {cause}")
        self._told |= {effect, str(cause)}

    def warn_untrusted(self, worker: str, error: UntrustedWorker) -> None:
        """Says that a worker is not asked, although another one answers: it costs money and does nothing."""
        self.warn(f"worker {worker} is not asked until `llmhost up` replaces it", error)


_CACHE_OFF = "the cache is off"
_NOT_ALL = "the cache does not do all that it should"
_EXACT_ONLY = "only identical questions are answered from the cache"


class Memory:
    """The cache and its flights, for a run of questions."""

    def __init__(self, cache: SemanticCache, flights: SingleFlight, warn_once: WarnOnce) -> None:
        self.cache = cache
        self.flights = flights
        self.warn_once = warn_once

    def open(self, key: CacheKey) -> CacheSession:
        """The memory of one question."""
        return CacheSession(self, key)


class CacheSession:
    """What the cache can still do for one question; `available` turns False when Redis is away."""

    def __init__(self, memory: Memory, key: CacheKey) -> None:
        self._memory = memory
        self._cache = memory.cache
        self.key = key
        self.available = True

    async def exact(self) -> Answer | None:
        """The stored answer to the same question."""
        if not self.available:
            return None
        try:
            return await self._cache.exact(self.key)
        except StoreError as error:
            self._degrade(error)
            return None

    async def semantic(self, threshold: float | None) -> SemanticLookup:
        """What the cache has for other wordings of it."""
        if not self.available:
            return SemanticLookup()
        try:
            return await self._cache.semantic(self.key, threshold)
        except StoreError as error:
            self._degrade(error)
        except (ModelError, StateError) as error:
            self._memory.warn_once.warn(_EXACT_ONLY, error)
        return SemanticLookup()

    async def store(self, answer: Answer, vector: NDArray[np.float32] | None) -> bool:
        """Keeps the answer, under the question's vector where that is known already; says if it did."""
        if not self.available:
            return False
        try:
            await self._cache.store(self.key, answer, vector if vector is not None else await self._embed())
        except StoreError as error:
            self._degrade(error)
            return False
        return True

    async def touch(self, entry: str, now: float, verdict: Verdict | None) -> None:
        """Counts a hit on the entry that was served, with the verdict on it where it was a semantic one."""
        if self.available:
            try:
                await self._cache.touch(entry, now, verdict)
            except StoreError as error:
                self._degrade(error)

    @asynccontextmanager
    async def lead(self) -> AsyncIterator[bool]:
        """True within the block for the one that is to ask an engine; without Redis, for everyone."""
        async with AsyncExitStack() as stack:
            leads = True
            if self.available:
                try:
                    leads = await stack.enter_async_context(self._memory.flights.lead(self.key.entry))
                except StoreError as error:
                    self._degrade(error)
            yield leads

    async def wait(self) -> None:
        """Returns when the one that leads has finished, or Redis fails."""
        try:
            await self._memory.flights.wait(self.key.entry)
        except StoreError as error:
            self._degrade(error)

    async def _embed(self) -> NDArray[np.float32] | None:
        try:
            return await self._cache.embed(self.key)
        except (ModelError, StateError) as error:
            self._memory.warn_once.warn(_EXACT_ONLY, error)
            return None

    def _degrade(self, error: StoreError) -> None:
        """A Redis that is away is not asked again; one that refuses a step may still do the others."""
        if isinstance(error, StoreRefused):
            self._memory.warn_once.warn(_NOT_ALL, error)
        else:
            self.available = False
            self._memory.warn_once.warn(_CACHE_OFF, error)
