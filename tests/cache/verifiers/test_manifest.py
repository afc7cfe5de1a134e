"""A verifier whose files are not what they should be is not used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmhost.cache.verifiers import manifest as manifests
from llmhost.cache.verifiers.manifest import MANIFEST, MODEL, TOKENIZER, Manifest
from llmhost.cache.verifiers.onnx import OnnxVerifier
from llmhost.errors import ModelError

SOUND = Manifest("small", max_tokens=64, unknown_token=100, slope=1.0, intercept=0.0, sha256="", size=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All that a verifier has, though its model is none."""
    (tmp_path / MODEL).write_bytes(b"0123456789")
    (tmp_path / TOKENIZER).write_text("{}")
    manifests.write(tmp_path, SOUND)
    return tmp_path


def say(**changes: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        known = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(known | changes))

    return change


def test_what_was_written_is_read(folder: Path) -> None:
    assert manifests.read(folder) == SOUND


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MODEL).unlink(),
        lambda folder: (folder / TOKENIZER).unlink(),
        lambda folder: (folder / MODEL).write_bytes(b"01234"),
        lambda folder: (folder / MANIFEST).write_text(""),
        lambda folder: (folder / MANIFEST).write_text("[]"),
        lambda folder: (folder / MANIFEST).write_text('{"id": "half"}'),
        lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe"),
        say(format=2),
        say(slope=float("nan")),
        say(intercept=float("inf")),
        say(max_tokens="many"),
        say(unknown_token=None),
        say(new=1),
    ],
)
def test_what_is_missing_cut_short_or_foreign_is_refused(
    folder: Path, damage: Callable[[Path], object]
) -> None:
    damage(folder)
    with pytest.raises(ModelError, match="missing or damaged"):
        manifests.read(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"the verifier in {tmp_path}/none is missing or damaged") as caught:
        OnnxVerifier(tmp_path / "none")
    assert "install llmhost again" in str(caught.value.hint)


def test_a_model_that_cannot_be_loaded_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="missing or damaged"):
        OnnxVerifier(folder)


def test_the_packaged_model_is_the_one_that_its_manifest_names(builtin: OnnxVerifier) -> None:
    from llmhost.cache.verifiers.load import FOLDER

    assert manifests.digest(FOLDER) == builtin.manifest.sha256
    assert (FOLDER / MODEL).stat().st_size <= 25 * 1024 * 1024
