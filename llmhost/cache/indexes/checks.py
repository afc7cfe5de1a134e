"""What every index refuses, and how it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmhost.errors import ModelError, StoreRefused

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_vector", "damaged"]

#: how far the square of a length may be from 1; an embedder's rounding is far below
_MAX_DEVIATION = 0.01


def check_vector(vector: NDArray[np.float32], embedder: str, dimensions: int) -> None:
    """Raises ModelError for a vector that no index may get: it has other dimensions, or not the length 1, as
    one has that is zero or holds NaN."""
    if vector.shape != (dimensions,):
        raise ModelError(
            f"the embedding model {embedder} gave a vector of {vector.size} numbers, not {dimensions}",
            hint="check `cache.embedder`; `llmhost cache reindex` takes the cache to another model",
        )
    if not abs(float(np.vdot(vector, vector)) - 1) < _MAX_DEVIATION:  # NaN compares as False
        raise ModelError(
            f"the embedding model {embedder} gave a vector that does not have the length 1",
            hint="its weights may be damaged: check `cache.embedder`",
        )


def damaged(embedder: str) -> StoreRefused:
    return StoreRefused(
        f"the index of embedder {embedder} in Redis is damaged",
        hint="run `llmhost cache clear` to start a new one",
    )
