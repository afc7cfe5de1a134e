"""The embedding model that comes with llmhost, loaded once for all tests of a session."""

from __future__ import annotations

import pytest

from llmhost.cache.embedders.exports import BUILTIN
from llmhost.cache.embedders.onnx import OnnxEmbedder


@pytest.fixture(scope="session")
def minilm() -> OnnxEmbedder:
    """MiniLM, ready to embed."""
    return OnnxEmbedder(BUILTIN)
