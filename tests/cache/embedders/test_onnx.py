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


def test_texts_are_embedded_together_as_each_alone(minilm: OnnxEmbedder) -> None:
    texts = ["What is Redis?", "Why is the sky blue today?", "What was Redis?", "Hi"]

    together = minilm.embed_texts(texts, cut=False)

    for text, one in zip(texts, together, strict=True):
        assert one is not None
        np.testing.assert_allclose(one.vector, minilm.embed(text), atol=1e-5)
    assert [one.tokens for one in together if one] == [7, 9, 7, 3]


def test_of_a_text_that_is_too_long_the_beginning_is_embedded_where_that_is_wanted(
    minilm: OnnxEmbedder,
) -> None:
    beginning, whole = "word " * 254, "word " * 300

    (cut,) = minilm.embed_texts([whole], cut=True)

    assert cut is not None
    assert cut.tokens == minilm.max_tokens == 256
    np.testing.assert_allclose(cut.vector, minilm.embed(beginning), atol=1e-5)
    assert minilm.embed_texts([whole, "Hi"], cut=False)[0] is None


@settings(max_examples=50)
@given(text=st.text(max_size=60))
def test_whatever_is_embedded_has_unit_length(minilm: OnnxEmbedder, text: str) -> None:
    vector = minilm.embed(text)

    if vector is not None:
        assert vector.shape == (384,)
        assert vector.dtype == np.float32
        assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)
