"""Embedders whose similarity can be worked out by hand."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray


class WordEmbedder:
    """Each word is an axis (of a hash): questions are alike as far as they share words."""

    dimensions = 512
    max_words = 50

    def __init__(self, id: str = "words") -> None:
        self.id = id
        self.calls = 0

    def embed(self, text: str) -> NDArray[np.float32] | None:
        self.calls += 1
        words = text.lower().replace("?", "").split()
        if len(words) > self.max_words:
            return None
        vector = np.zeros(self.dimensions, dtype=np.float32)
        for word in words:
            vector[zlib.crc32(word.encode()) % self.dimensions] += 1
        return vector / np.linalg.norm(vector)


class AlikeEmbedder:
    """Every text has the same vector: what guards and verifier do not reject is served."""

    id = "alike"
    dimensions = 4

    def embed(self, text: str) -> NDArray[np.float32] | None:
        return np.full(4, 0.5, dtype=np.float32)
