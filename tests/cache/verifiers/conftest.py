"""The built-in verifier, loaded once for all tests."""

from __future__ import annotations

import pytest

from llmhost.cache.verifiers.load import FOLDER
from llmhost.cache.verifiers.onnx import OnnxVerifier


@pytest.fixture(scope="session")
def builtin() -> OnnxVerifier:
    return OnnxVerifier(FOLDER)
