"""Small models, made and exported once for all tests of a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles.small_models import SmallModels, build

from llmhost.cache.embedders.load import load_embedder
from llmhost.cache.embedders.weights import locate


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> SmallModels:
    tokenizer = locate("all-MiniLM-L6-v2").folder
    assert tokenizer is not None
    return build(tmp_path_factory.mktemp("small-models"), tokenizer)


@pytest.fixture(scope="session")
def small_cache(small_models: SmallModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the model "first-token" has been exported; to be copied, not written to."""
    folder = tmp_path_factory.mktemp("small-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMHOST_CACHE_DIR", str(folder))
        load_embedder(str(small_models.folder / "first-token"), on_progress=lambda _: None)
    return folder
