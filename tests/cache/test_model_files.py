"""Models as files: what was altered or cut short is never loaded."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from llmhost.cache.embedders.exports import BUILTIN
from llmhost.cache.embedders.onnx import OnnxEmbedder
from llmhost.cache.model_files import download
from llmhost.cache.verifiers.load import FOLDER as VERIFIER
from llmhost.cache.verifiers.onnx import OnnxVerifier
from llmhost.errors import ModelError


@pytest.mark.parametrize(
    ("folder", "load", "name"),
    [
        (BUILTIN, OnnxEmbedder, "tokenizer.json"),
        (BUILTIN, OnnxEmbedder, "model.data"),
        (VERIFIER, OnnxVerifier, "tokenizer.json"),
    ],
)
def test_a_packaged_model_with_an_altered_file_of_the_same_size_is_damaged(
    tmp_path: Path, folder: Path, load: Any, name: str
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    load(copy)
    altered = bytearray((copy / name).read_bytes())
    altered[len(altered) // 2] ^= 1
    (copy / name).write_bytes(altered)
    with pytest.raises(ModelError, match="damaged"):
        load(copy)


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As the Hub's own cache keeps it: links to files that are named by their hash."""
    weights, text = b"weights", b"{}"
    names = {
        "model.safetensors": (weights, hashlib.sha256(weights).hexdigest()),
        "config.json": (text, hashlib.sha1(b"blob 2\0" + text, usedforsecurity=False).hexdigest()),
    }
    folder = tmp_path / "snapshots" / "main"
    folder.mkdir(parents=True)
    (tmp_path / "blobs").mkdir()
    for name, (content, digest) in names.items():
        (tmp_path / "blobs" / digest).write_bytes(content)
        (folder / name).symlink_to(Path("..", "..", "blobs", digest))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    return folder


def test_files_that_are_what_the_hub_published_are_used(snapshot: Path) -> None:
    assert download("owner/model", ["*"], "embedding model", "hint") == snapshot


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_is_not_what_the_hub_published_is_an_error(snapshot: Path, name: str) -> None:
    (snapshot / name).write_bytes(b"altered")
    with pytest.raises(ModelError, match=f"not what the Hugging Face Hub published: {name} differs"):
        download("owner/model", ["*"], "embedding model", "hint")
