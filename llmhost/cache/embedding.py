"""The contract of an embedder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Embedder"]


class Embedder(Protocol):
    """Turns a question into a vector of unit length.

    `id` names model, weights and variant: vectors of two ids are never compared.
    """

    id: str
    dimensions: int

    def embed(self, text: str) -> NDArray[np.float32] | None:
        """A float32 vector of shape (dimensions,), or None where the model cannot read the whole text: it
        is too long, or has characters that the model does not know. Then only a part of it would be
        compared, and two different questions could look the same.

        Safe to call from several threads at once. Raises ModelError where the model fails.
        """
        ...
