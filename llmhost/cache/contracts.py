"""The contracts of what the cache is built from: an index, an embedder, a verifier.

The judge's stands in `models.py`, beside its judgement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llmhost.cache.models import Neighbour

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

__all__ = ["EmbeddedText", "Embedder", "Index", "TextEmbedder", "Verifier"]


class Index(Protocol):
    """Finds the stored questions near a vector, by scope. All vectors have unit length and the embedder's
    dimensions, float32; `search` and `add` raise ModelError for others. An entry belongs to one scope.

    What others have deleted, or Redis evicted, is not found, and never an error. Every method raises
    StoreError where Redis is away or will not write, or where a key holds something else.
    """

    @property
    def bytes_per_entry(self) -> int:
        """About what an entry takes in Redis."""
        ...

    async def prepare(self, scope: str) -> bool:
        """Loads what `search` needs; always called before it. False: the scope has no entries, so that there
        is nothing to search for."""
        ...

    async def search(self, scope: str, vector: Vector, k: int) -> Sequence[Neighbour]:
        """The k nearest of the entries that were there at the last `prepare`, most similar first. It may
        name entries that have expired since."""

    async def add(self, scope: str, entry: str, vector: Vector) -> None:
        """Makes the entry findable, replacing an earlier vector of it."""

    async def remove(self, scope: str, entries: Sequence[str]) -> None:
        """Makes entries unfindable; unknown ones are ignored."""

    async def vectors(self, scope: str, entries: Sequence[str]) -> Sequence[Vector | None]:
        """The entries' vectors, as exactly as they are kept; None for what is not there."""
        ...


class Embedder(Protocol):
    """Turns a question into a vector of unit length.

    `id` names model, weights and variant: vectors of two ids are never compared.
    """

    id: str
    dimensions: int

    def embed(self, text: str) -> Vector | None:
        """A float32 vector of shape (dimensions,), or None where the model cannot read the whole text: it
        is too long, or has characters that the model does not know. Then only a part of it would be
        compared, and two different questions could look the same.

        Safe to call from several threads at once. Raises ModelError where the model fails.
        """
        ...


@dataclass(frozen=True, slots=True)
class EmbeddedText:
    """The vector of a text, and the tokens that were read for it."""

    vector: Vector
    tokens: int


class TextEmbedder(Embedder, Protocol):
    """An embedder that is offered for other uses than the cache's, too. It reads `max_tokens` of a text."""

    max_tokens: int

    def embed_texts(self, texts: Sequence[str], *, cut: bool) -> Sequence[EmbeddedText | None]:
        """The vectors of any texts, unknown characters and all, as sentence-transformers would embed them. A
        text that is too long is cut, or without `cut` it is None.

        Safe to call from several threads at once. Raises ModelError where the model fails.
        """
        ...


class Verifier(Protocol):
    """Says how likely two wordings ask the same thing. `id` names model and weights."""

    id: str

    def probability(self, question: str, stored: str) -> float:
        """0..1, calibrated, the same for both orders. Where the model cannot read either of them whole, 0.

        Safe to call from several threads at once. Raises ModelError where the model fails.
        """
        ...
