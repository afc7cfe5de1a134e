from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.embedders import exports
from llmhost.cache.embedders.exports import FORMAT, MANIFEST, Manifest, read, remembered, sizes, verify, write
from llmhost.cache.embedders.weights import Source, fingerprint, locate, sha256
from llmhost.errors import ModelError, StateError

EXPORT = "m-00000000-fp32"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return locate(str(folder))


def publish(export: str = EXPORT, text: str = "{}") -> None:
    folder = exports.new_folder()
    (folder / MANIFEST).write_text(text)
    exports.publish(folder, export)


def remember(source: Source) -> None:
    assert source.folder is not None
    exports.remember(source, fingerprint(source.folder), EXPORT)


def leftovers() -> list[Path]:
    return list(exports.folder_of(EXPORT).parent.glob(".tmp-*"))


def test_a_model_has_an_id_from_its_export_until_its_files_change(source: Source) -> None:
    assert remembered(source) is None
    publish()
    remember(source)
    assert remembered(source) == EXPORT

    assert source.folder is not None
    os.utime(source.folder / "config.json", ns=(1, 1))
    assert remembered(source) is None


def test_a_model_whose_export_was_deleted_has_no_id(source: Source) -> None:
    publish()
    remember(source)
    exports.discard(EXPORT)

    assert remembered(source) is None


def test_a_model_from_the_hub_is_the_one_that_was_exported() -> None:
    publish()
    source = Source("someone/model", None)
    exports.remember(source, {}, EXPORT)

    assert remembered(source) == EXPORT


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"id": 1}'])
def test_a_damaged_note_is_as_good_as_none(source: Source, text: str) -> None:
    publish()
    remember(source)
    (note,) = (exports.folder_of(EXPORT).parent / "sources").iterdir()
    note.write_text(text)

    assert remembered(source) is None


def test_publishing_replaces_an_older_export_and_is_private() -> None:
    publish(text="old")
    publish(text="new")

    folder = exports.folder_of(EXPORT)
    assert (folder / MANIFEST).read_text() == "new"
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]


def test_what_a_crash_left_is_swept_by_the_next_export() -> None:
    (exports.new_folder() / "model.onnx").write_bytes(b"half")
    publish()

    with exports.exclusive():
        assert leftovers() == []
    assert exports.is_there(EXPORT)


def test_a_cache_folder_that_cannot_be_used_is_an_error() -> None:
    folder = Path(os.environ["LLMHOST_CACHE_DIR"])
    folder.mkdir()
    (folder / "embedders").write_text("in the way")

    with pytest.raises(StateError, match="cannot use the folder"):
        exports.folder_of(EXPORT)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"graph")
    return folder


def manifest_of(folder: Path) -> Manifest:
    return Manifest(
        id="m-00000000-fp32",
        model="m",
        weights="0" * 64,
        dimensions=384,
        max_tokens=256,
        prefix="",
        unknown_token=None,
        inputs=["input_ids"],
        files=sizes(folder, ["model.onnx"]),
        sha256={"model.onnx": sha256(folder / "model.onnx")},
        versions={"torch": "2"},
    )


def test_what_was_written_is_read(export: Path) -> None:
    write(export, manifest_of(export))

    assert read(export) == manifest_of(export)


@pytest.mark.parametrize("content", [b"gra", None], ids=["cut short", "missing"])
def test_a_file_that_is_not_there_in_full_is_noticed(export: Path, content: bytes | None) -> None:
    write(export, manifest_of(export))
    (export / "model.onnx").unlink()
    if content is not None:
        (export / "model.onnx").write_bytes(content)

    with pytest.raises(ModelError, match="damaged"):
        read(export)


def test_a_file_of_the_same_length_but_other_bytes_is_found_by_its_hash(export: Path) -> None:
    write(export, manifest_of(export))
    verify(export)
    (export / "model.onnx").write_bytes(b"GRAPH")

    with pytest.raises(ModelError, match="damaged"):
        verify(export)


def test_an_export_of_another_format_is_not_used(export: Path) -> None:
    values = asdict(manifest_of(export)) | {"format": FORMAT + 1}
    (export / MANIFEST).write_text(json.dumps(values))

    with pytest.raises(ModelError, match="damaged"):
        read(export)


@given(st.one_of(st.text(), st.recursive(st.none() | st.text(), st.lists).map(json.dumps)))
def test_whatever_stands_in_the_manifest_is_read_or_refused(export: Path, text: str) -> None:
    (export / MANIFEST).write_text(text, encoding="utf-8", errors="replace")

    with pytest.raises(ModelError, match="damaged"):
        read(export)
