"""A model whose files are not what its manifest says is not used: the same for embedders and verifiers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.embedders import exports
from llmhost.cache.embedders.onnx import OnnxEmbedder
from llmhost.cache.model_files import (
    ModelManifest,
    read_manifest,
    sha256,
    sizes,
    verify_files,
    write_manifest,
)
from llmhost.cache.verifiers import manifest as verifiers
from llmhost.cache.verifiers.load import FOLDER
from llmhost.cache.verifiers.onnx import OnnxVerifier
from llmhost.errors import ModelError

DAMAGED = ModelError("damaged")
FILES = ("model.onnx", "tokenizer.json")
FIELDS: dict[type[ModelManifest], dict[str, Any]] = {
    exports.Manifest: {
        "model": "m",
        "weights": "0" * 64,
        "dimensions": 384,
        "prefix": "",
        "inputs": ["input_ids"],
        "versions": {"torch": "2"},
    },
    verifiers.Manifest: {"slope": 1.0, "intercept": 0.0},
}


@pytest.fixture(params=FIELDS)
def manifest(request: pytest.FixtureRequest, tmp_path: Path) -> ModelManifest:
    """Written beside its files, which are no model."""
    for name in FILES:
        (tmp_path / name).write_bytes(b"0123456789")
    kind: type[ModelManifest] = request.param
    made = kind(
        id="small",
        max_tokens=64,
        unknown_token=100,
        files=sizes(tmp_path, FILES),
        sha256={name: sha256(tmp_path / name) for name in FILES},
        **FIELDS[kind],
    )
    write_manifest(tmp_path / "manifest.json", made)
    return made


def say(**changes: object) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def test_what_was_written_is_read(manifest: ModelManifest, tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "manifest.json", type(manifest), DAMAGED) == manifest


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.with_name("model.onnx").unlink(),
        lambda path: path.with_name("tokenizer.json").unlink(),
        lambda path: path.with_name("model.onnx").write_bytes(b"01234"),
        lambda path: path.write_text(""),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"id": "half"}'),
        lambda path: path.write_bytes(b"\xff\xfe"),
        say(format=9),
        say(files=None),
        say(new=1),
    ],
)
def test_what_is_missing_cut_short_or_foreign_is_refused(
    manifest: ModelManifest, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    damage(tmp_path / "manifest.json")
    with pytest.raises(ModelError, match="damaged"):
        read_manifest(tmp_path / "manifest.json", type(manifest), DAMAGED)


@pytest.mark.parametrize(
    "change", [{"slope": float("nan")}, {"intercept": float("inf")}, {"max_tokens": "many"}], ids=str
)
def test_a_verifier_needs_numbers_to_calibrate_with(change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"id": "v", "max_tokens": 64, "unknown_token": 100, "files": {}, "sha256": {}}
    with pytest.raises((ValueError, TypeError)):
        verifiers.Manifest(**(fields | FIELDS[verifiers.Manifest] | change))


def test_a_file_of_the_same_length_but_other_bytes_is_found_by_its_hash(
    manifest: ModelManifest, tmp_path: Path
) -> None:
    verify_files(tmp_path / "manifest.json", type(manifest), DAMAGED)
    (tmp_path / "model.onnx").write_bytes(b"9876543210")
    with pytest.raises(ModelError, match="damaged"):
        verify_files(tmp_path / "manifest.json", type(manifest), DAMAGED)


@given(st.one_of(st.text(), st.recursive(st.none() | st.text(), st.lists).map(json.dumps)))
def test_whatever_stands_in_the_manifest_is_read_or_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(ModelError, match="damaged"):
        read_manifest(tmp_path / "manifest.json", exports.Manifest, DAMAGED)


@pytest.mark.parametrize("make", [OnnxEmbedder, OnnxVerifier])
def test_a_folder_without_a_model_is_an_error_that_names_it(make: type, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"in {tmp_path}/none is missing or damaged"):
        make(tmp_path / "none")


def test_a_model_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    for name in (verifiers.MODEL, verifiers.TOKENIZER):
        (tmp_path / name).write_text("{}")
    made = verifiers.Manifest(
        id="v", max_tokens=64, unknown_token=100, files={}, sha256={}, slope=1.0, intercept=0.0
    )
    write_manifest(tmp_path / verifiers.MANIFEST, made)
    with pytest.raises(ModelError, match="missing or damaged"):
        OnnxVerifier(tmp_path)


def test_the_packaged_verifier_is_the_one_that_its_manifest_names() -> None:
    verify_files(FOLDER / verifiers.MANIFEST, verifiers.Manifest, verifiers.damaged(FOLDER))
