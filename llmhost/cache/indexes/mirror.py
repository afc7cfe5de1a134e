"""A flat index as this process sees it: the log of one scope, replayed into a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmhost.cache.models import Neighbour

__all__ = ["ENTRY_BYTES", "Mirror", "encode_record", "encode_removal"]

#: bytes; an entry's 32 hex digits
ENTRY_BYTES = 16

#: rows; what a matrix starts with, before it doubles
_FIRST_ROWS = 64


def encode_record(entry: str, vector: NDArray[np.float32]) -> bytes:
    """One record of the log: the entry's id, then its vector as little-endian float32."""
    return bytes.fromhex(entry) + vector.astype("<f4").tobytes()


def encode_removal(entry: str, dimensions: int) -> bytes:
    """A record that takes the entry out: the zero vector, which no unit vector equals."""
    return bytes.fromhex(entry) + bytes(4 * dimensions)


class Mirror:
    """The rows of one scope, in memory.

    `matrix` has shape (capacity, dimensions), float32; the first `len(ids)` rows count. A removed row
    is zero and its id empty.
    """

    def __init__(self, dimensions: int, header: bytes = b"", position: int = 0) -> None:
        self.header = header
        self.position = position
        self._dimensions = dimensions
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._matrix = np.zeros((_FIRST_ROWS, dimensions), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    def vector(self, entry: str) -> NDArray[np.float32] | None:
        """The vector of an entry, shape (dimensions,), or None."""
        row = self._rows.get(entry)
        return None if row is None else self._matrix[row]

    def replay(self, records: bytes) -> bool:
        """Takes in the records that follow `position`; False where they are no whole records."""
        layout = np.dtype([("entry", f"V{ENTRY_BYTES}"), ("vector", "<f4", (self._dimensions,))])
        if len(records) % layout.itemsize:
            return False
        log = np.frombuffer(records, dtype=layout)
        self._reserve(len(self._ids) + len(log))
        removals = np.logical_not(log["vector"].any(axis=1)).tolist()
        for raw, vector, removed in zip(log["entry"], log["vector"], removals, strict=True):
            entry = raw.tobytes().hex()
            if removed:
                self._remove(entry)
            else:
                self._put(entry, vector)
        self.position += len(records)
        return True

    def search(self, vector: NDArray[np.float32], k: int) -> Sequence[Neighbour]:
        """The k rows of highest cosine similarity, best first."""
        count = len(self._ids)
        # Row by row on one core: the threads of a matrix product wait for cores that workers may hold.
        similarities = np.vecdot(self._matrix[:count], vector)
        best = np.argpartition(similarities, count - k)[count - k :] if count > k else np.arange(count)
        ordered = best[np.argsort(-similarities[best], kind="stable")]
        return [Neighbour(self._ids[row], float(similarities[row])) for row in ordered if self._ids[row]]

    def _put(self, entry: str, vector: NDArray[np.float32]) -> None:
        row = self._rows.setdefault(entry, len(self._ids))
        if row == len(self._ids):
            self._ids.append(entry)
        self._matrix[row] = vector

    def _remove(self, entry: str) -> None:
        row = self._rows.pop(entry, None)
        if row is not None:
            self._ids[row] = ""
            self._matrix[row] = 0.0

    def _reserve(self, rows: int) -> None:
        if rows > len(self._matrix):
            grown = np.zeros((max(rows, 2 * len(self._matrix)), self._dimensions), dtype=np.float32)
            grown[: len(self._ids)] = self._matrix[: len(self._ids)]
            self._matrix = grown
