from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from llmhost.cache.embedders.check import MIN_COMPARED, TEXTS, compare
from llmhost.errors import ModelError

EAST = np.array([1, 0], dtype=np.float32)


class Turned:
    """Answers every text with the reference's vector, turned by a fixed angle."""

    id = "turned"
    dimensions = 2

    def __init__(self, cosine: float, readable: int = len(TEXTS)) -> None:
        self.vector = np.array([cosine, np.sqrt(1 - cosine**2)], dtype=np.float32)
        self.readable = TEXTS[:readable]

    def embed(self, text: str) -> NDArray[np.float32] | None:
        return self.vector if text in self.readable else None


def reference(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([EAST for _ in texts])


def test_the_list_has_at_least_twenty_different_texts() -> None:
    assert len(set(TEXTS)) == len(TEXTS) >= 20


def test_a_model_that_agrees_passes_and_its_worst_cosine_is_told() -> None:
    agreement = compare(Turned(0.9995), reference, "m")

    assert agreement.texts == len(TEXTS)
    assert agreement.lowest_cosine == pytest.approx(0.9995)


@pytest.mark.parametrize("cosine", [0.9985, 0.5, -1.0, float("nan")])
def test_a_model_that_differs_is_refused(cosine: float) -> None:
    with pytest.raises(ModelError, match="differs from the original"):
        compare(Turned(cosine), reference, "m")


def test_one_text_that_differs_is_enough() -> None:
    def mostly(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = reference(texts)
        vectors[-1] = [0, 1]
        return vectors

    with pytest.raises(ModelError, match=r"cosine 0\.0"):
        compare(Turned(1.0), mostly, "m")


def test_texts_that_the_model_cannot_read_are_left_out() -> None:
    assert compare(Turned(1.0, MIN_COMPARED), reference, "m").texts == MIN_COMPARED


def test_a_model_that_reads_hardly_anything_is_refused() -> None:
    with pytest.raises(ModelError, match="reads only"):
        compare(Turned(1.0, MIN_COMPARED - 1), reference, "m")
