from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmhost.cache.embedders.manifest import FORMAT, MANIFEST, Manifest, read, sizes, write
from llmhost.errors import ModelError


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"graph")
    return folder


def manifest_of(folder: Path) -> Manifest:
    return Manifest(
        format=FORMAT,
        id="m-00000000-fp32",
        model="m",
        weights="0" * 64,
        variant="fp32",
        dimensions=384,
        max_tokens=256,
        prefix="",
        unknown_token=None,
        inputs=["input_ids"],
        files=sizes(folder, ["model.onnx"]),
        versions={"torch": "2"},
        checked_texts=20,
        lowest_cosine=1.0,
    )


def test_what_was_written_is_read(export: Path) -> None:
    write(export, manifest_of(export))

    assert read(export) == manifest_of(export)


def test_a_file_cut_short_is_noticed(export: Path) -> None:
    write(export, manifest_of(export))
    (export / "model.onnx").write_bytes(b"gra")

    with pytest.raises(ModelError, match="damaged"):
        read(export)


def test_a_missing_file_is_noticed(export: Path) -> None:
    write(export, manifest_of(export))
    (export / "model.onnx").unlink()

    with pytest.raises(ModelError, match="damaged"):
        read(export)


def test_an_export_of_another_format_is_not_used(export: Path) -> None:
    values = asdict(manifest_of(export)) | {"format": FORMAT + 1}
    (export / MANIFEST).write_text(json.dumps(values))

    with pytest.raises(ModelError, match="damaged"):
        read(export)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(), st.recursive(st.none() | st.text(), st.lists).map(json.dumps)))
def test_whatever_stands_in_the_manifest_is_read_or_refused(export: Path, text: str) -> None:
    (export / MANIFEST).write_text(text, encoding="utf-8", errors="replace")

    with pytest.raises(ModelError, match="damaged"):
        read(export)
