"""The real embedding model, exported once for all tests of a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmhost.cache.embedders.load import load_embedder
from llmhost.cache.embedders.onnx import OnnxEmbedder

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="session")
def minilm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which MiniLM has been exported; not to be written to. Takes about 15 s, once."""
    folder = tmp_path_factory.mktemp("minilm-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMHOST_CACHE_DIR", str(folder))
        load_embedder(MINILM, on_progress=lambda _: None)
    return folder


@pytest.fixture(scope="session")
def minilm(minilm_cache: Path) -> OnnxEmbedder:
    """MiniLM, ready to embed."""
    (manifest,) = (minilm_cache / "embedders").glob("all-MiniLM-L6-v2-*/manifest.json")
    return OnnxEmbedder(manifest.parent)


@pytest.fixture
def exported_cache(minilm_cache: Path) -> Path:
    """This test's own cache folder, where llmhost finds MiniLM exported already."""
    folder = Path(os.environ["LLMHOST_CACHE_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "embedders").symlink_to(minilm_cache / "embedders")
    return folder
