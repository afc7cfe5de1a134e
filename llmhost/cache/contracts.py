"""The contract of an index: which stored questions are near this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from llmhost.cache.models import Neighbour

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

__all__ = ["Index"]


class Index(Protocol):
    """Vectors by scope. All vectors have unit length and the embedder's dimensions, float32.

    Every method raises StoreError where Redis is away or will not write.
    """

    async def prepare(self, scope: str) -> None:
        """Brings what `search` needs near. Always comes before it, while the question is being embedded."""

    async def search(self, scope: str, vector: Vector, k: int) -> Sequence[Neighbour]:
        """The k nearest of the entries that were there at the last `prepare`, most similar first. It may
        name entries that have expired since."""

    async def add(self, scope: str, entry: str, vector: Vector) -> None:
        """Makes the entry findable, replacing an earlier vector of it."""

    async def remove(self, scope: str, entries: Sequence[str]) -> None:
        """Makes entries unfindable; unknown ones are fine."""
