"""Admission's second look: of what kind a question is by all of its words and its vector, where no rule of
`admission.txt` knows it. Pure.

Rules know the wordings that somebody thought of. What was learnt from the same requests (see
`scripts/train_admission.py`) also knows what is like them. It only ever says that an answer does not keep.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.answering.admission import PLAIN, Admitted, Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FILE", "KINDS", "SecondLook", "features", "load_second_look"]

#: what it tells apart; `plain` is whatever keeps
KINDS: tuple[Kind, ...] = ("plain", "changing", "acting", "personal", "random")

#: slots of the words and of the pairs of words that follow each other; two that share one are taken for one
_SLOTS = 2048
#: what the vector's numbers are multiplied with, to count beside the words
_VECTOR = 3.0
#: probability of being plain below which a question is of another kind
_BAR = 0.5
_BEGIN, _END = "<", ">"
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+|\?")
FILE = Path(__file__).parent / "second_look.npz"


@dataclass(frozen=True, slots=True)
class SecondLook:
    """`weights`, shape (features, kinds), and `bias`, shape (kinds,), are log-odds; `embedder` is the id of
    the embedder whose vectors they were learnt with."""

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    embedder: str

    def admit(self, text: str, vector: NDArray[np.float32]) -> Admitted:
        """Of what kind a question is that no rule knows, and the words that weigh most; `vector` is the
        question's own, of length 1."""
        probabilities = self.probabilities(text, vector)
        if probabilities[0] >= _BAR:
            return PLAIN
        kind = 1 + int(probabilities[1:].argmax())
        return Admitted(KINDS[kind], self._heaviest(text, kind))

    def probabilities(self, text: str, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of each of `KINDS`."""
        import numpy as np

        log_odds = features(text, vector) @ self.weights + self.bias
        odds = np.exp(log_odds - log_odds.max())  # none is too large for a float
        probabilities: NDArray[np.float32] = odds / odds.sum()
        return probabilities

    def _heaviest(self, text: str, kind: int) -> str:
        """The two words next to each other that speak most for this kind, the only word, or ""."""
        found = [part for part in _parts(text) if not {*part.split()} & {_BEGIN, _END}]
        speaks = self.weights[:, kind] - self.weights[:, 0]
        pairs = [part for part in found if " " in part]
        return max(pairs or found, key=lambda part: float(speaks[_slot(part)]), default="")


def features(text: str, vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is looked at: how often each word and pair of words is there, whatever the text's length, and the
    vector."""
    import numpy as np

    found = np.zeros(_SLOTS + len(vector), np.float32)
    words = 0
    for part in _parts(text):
        found[_slot(part)] += 1
        words += " " not in part
    found[:_SLOTS] /= max(words, 1) ** 0.5
    found[_SLOTS:] = _VECTOR * vector
    return found


def _parts(text: str) -> Iterator[str]:
    """The words of a text, and the pairs that follow each other; its begin and its end count as words."""
    words = [_BEGIN, *_WORD.findall(text.lower()), _END]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        yield word
        if following:
            yield f"{word} {following}"


def _slot(part: str) -> int:
    return zlib.crc32(part.encode("utf-8", "replace")) % _SLOTS


@cache
def load_second_look() -> SecondLook:
    """The one of the package."""
    import numpy as np

    with np.load(FILE, allow_pickle=False) as file:
        return SecondLook(
            file["weights"].astype(np.float32), file["bias"].astype(np.float32), str(file["embedder"])
        )
