from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmhost.cache.embedders import exports
from llmhost.cache.embedders.exports import MANIFEST, remembered
from llmhost.cache.embedders.weights import Source, fingerprint, locate
from llmhost.errors import StateError

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
