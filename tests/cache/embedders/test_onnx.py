from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.cache.embedders.onnx import OnnxEmbedder

#: Cosine similarities measured once with sentence-transformers itself.
PAIRS = [
    ("What is artificial intelligence?", "Explain AI in simple terms", 0.761),
    ("What is machine learning?", "Explain ML in simple terms", 0.513),
    ("How do neural networks work?", "Explain deep learning basics", 0.602),
    ("What is machine learning?", "How do you bake a chocolate cake?", 0.145),
    ("Explain machine learning briefly", "What is machine learning in simple terms?", 0.842),
    ("How do I enable dark mode?", "How do I disable dark mode?", 0.927),
    ("What is 17 * 23?", "What is 17 * 24?", 0.909),
    ("Convert 5 miles to km", "Convert 50 miles to km", 0.855),
]


@pytest.mark.parametrize(("question", "other", "expected"), PAIRS)
def test_similarities_are_those_of_sentence_transformers(
    minilm: OnnxEmbedder, question: str, other: str, expected: float
) -> None:
    first, second = minilm.embed(question), minilm.embed(other)

    assert first is not None
    assert second is not None
    assert float(first @ second) == pytest.approx(expected, abs=0.002)


def test_a_text_as_long_as_the_model_reads_is_embedded(minilm: OnnxEmbedder) -> None:
    special_tokens = 2

    assert minilm.embed("a " * (256 - special_tokens)) is not None


def test_a_longer_text_is_not_cut_but_refused(minilm: OnnxEmbedder) -> None:
    special_tokens = 2

    assert minilm.embed("a " * (257 - special_tokens)) is None


def test_characters_that_the_model_does_not_know_make_a_text_unreadable(minilm: OnnxEmbedder) -> None:
    assert minilm.embed("What does the emoji 🦜 mean?") is None


def test_a_lone_surrogate_makes_a_text_unreadable(minilm: OnnxEmbedder) -> None:
    assert minilm.embed("half a pair: \ud83e") is None


@settings(max_examples=50)
@given(text=st.text(max_size=60))
def test_whatever_is_embedded_has_unit_length(minilm: OnnxEmbedder, text: str) -> None:
    vector = minilm.embed(text)

    if vector is not None:
        assert vector.shape == (384,)
        assert vector.dtype == np.float32
        assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)
