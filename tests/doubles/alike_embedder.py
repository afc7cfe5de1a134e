"""An embedder to which all questions are alike: what guards and verifier do not refuse is served."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class AlikeEmbedder:
    """Every text has the same vector."""

    id = "alike"
    dimensions = 4

    def embed(self, text: str) -> NDArray[np.float32] | None:
        return np.full(4, 0.5, dtype=np.float32)
