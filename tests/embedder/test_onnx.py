from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.cache.embedders.load import embedder_id, load_embedder
from llmhost.cache.embedders.onnx import OnnxEmbedder

pytestmark = pytest.mark.slow

MINILM = "sentence-transformers/all-MiniLM-L6-v2"

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


def test_the_export_agrees_with_the_original_on_every_text(minilm: OnnxEmbedder) -> None:
    assert minilm.manifest.checked_texts >= 20
    assert minilm.manifest.lowest_cosine >= 0.9999


def test_the_id_names_model_weights_and_variant(minilm: OnnxEmbedder) -> None:
    assert minilm.id == f"all-MiniLM-L6-v2-{minilm.manifest.weights[:8]}-fp32"


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


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=60))
def test_whatever_is_embedded_has_unit_length(minilm: OnnxEmbedder, text: str) -> None:
    vector = minilm.embed(text)

    if vector is not None:
        assert vector.shape == (384,)
        assert vector.dtype == np.float32
        assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.usefixtures("exported_cache")
def test_an_exported_model_is_loaded_without_a_word(minilm: OnnxEmbedder) -> None:
    said: list[str] = []

    embedder = load_embedder(MINILM, on_progress=said.append)

    assert said == []
    assert embedder.id == minilm.id == embedder_id(MINILM)


def loaded_modules(script: str) -> set[str]:
    command = [sys.executable, "-c", f"{script}\nimport sys\nprint(*sys.modules)"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name for name in output.split() if "." not in name}


@pytest.mark.usefixtures("exported_cache")
def test_embedding_imports_no_torch() -> None:
    modules = loaded_modules(
        "from llmhost.cache.embedders.load import load_embedder\n"
        f"load_embedder({MINILM!r}, on_progress=print).embed('x')"
    )

    assert "onnxruntime" in modules
    assert modules & {"torch", "transformers", "sentence_transformers", "onnx", "huggingface_hub"} == set()


@pytest.mark.usefixtures("exported_cache")
def test_finding_the_id_imports_nothing_heavy() -> None:
    modules = loaded_modules(
        f"from llmhost.cache.embedders.load import embedder_id\nassert embedder_id({MINILM!r})"
    )

    assert modules & {"onnxruntime", "tokenizers", "numpy", "torch", "pydantic"} == set()


def test_the_export_is_private(minilm_cache: Path) -> None:
    folder = minilm_cache / "embedders"

    assert [path.stat().st_mode & 0o777 for path in (folder, *folder.glob("all-MiniLM*"))] == [0o700] * 2
