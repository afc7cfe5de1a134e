"""The index in force, as a process sees it that runs for long: `llmhost cache reindex` may change it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from llmhost.cache.contracts import Index
from llmhost.cache.indexes.choose import IndexKind, read_layout
from llmhost.cache.models import Neighbour
from llmhost.errors import StoreError
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from redis.asyncio import Redis

    _Vector = NDArray[np.float32]

__all__ = ["LAYOUT_PERIOD", "IndexInForce"]

#: seconds; how long it may take until a process knows of a change
LAYOUT_PERIOD = 10.0


class IndexInForce:
    """Searches the index in force, and writes to the one that is being built as well. `make` makes the index
    of a kind; `kind` is the one in force at first. One that is `configured` stays, whatever is on record.
    """

    def __init__(
        self,
        client: Redis,
        keys: NamespaceKeys,
        make: Callable[[IndexKind], Index],
        kind: IndexKind,
        *,
        configured: bool,
    ) -> None:
        self._client = client
        self._keys = keys
        self._make = make
        self._configured = configured
        self.kind: IndexKind = kind
        #: the kind that is being built
        self.building: IndexKind | None = None
        self._made: dict[IndexKind, Index] = {}
        self._look_at = 0.0

    @property
    def bytes_per_entry(self) -> int:
        """Those of the index in force."""
        return self._index(self.kind).bytes_per_entry

    async def prepare(self, scope: str) -> bool:
        await self._look()
        return await self._index(self.kind).prepare(scope)

    async def search(self, scope: str, vector: _Vector, k: int) -> Sequence[Neighbour]:
        return await self._index(self.kind).search(scope, vector, k)

    async def add(self, scope: str, entry: str, vector: _Vector) -> None:
        await self._look()
        await self._index(self.kind).add(scope, entry, vector)
        if self.building is not None:
            with suppress(StoreError):  # `cache reindex` finds what is missing
                await self._index(self.building).add(scope, entry, vector)

    async def remove(self, scope: str, entries: Sequence[str]) -> None:
        await self._look()
        await self._index(self.kind).remove(scope, entries)
        if self.building is not None:
            await self._index(self.building).remove(scope, entries)

    async def vectors(self, scope: str, entries: Sequence[str]) -> Sequence[_Vector | None]:
        return await self._index(self.kind).vectors(scope, entries)

    def _index(self, kind: IndexKind) -> Index:
        if kind not in self._made:
            self._made[kind] = self._make(kind)
        return self._made[kind]

    async def _look(self) -> None:
        """What is on record, if the last look was a while ago. Where Redis does not tell, all stays."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LAYOUT_PERIOD
        with suppress(StoreError):
            layout = await read_layout(self._client, self._keys)
            if layout.index is not None and not self._configured:
                self.kind = layout.index
            self.building = None if layout.building == self.kind else layout.building
