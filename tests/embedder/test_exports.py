from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmhost.cache.embedders import exports
from llmhost.cache.embedders.load import embedder_id
from llmhost.cache.embedders.manifest import MANIFEST
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


def test_a_model_that_was_never_exported_has_no_id(source: Source) -> None:
    assert embedder_id(source.name) is None


def test_an_exported_model_has_the_id_of_its_export(source: Source) -> None:
    publish()
    remember(source)

    assert embedder_id(source.name) == EXPORT


def test_a_model_whose_files_have_changed_has_no_id(source: Source) -> None:
    publish()
    remember(source)
    assert source.folder is not None
    os.utime(source.folder / "config.json", ns=(1, 1))

    assert embedder_id(source.name) is None


def test_a_model_whose_export_was_deleted_has_no_id(source: Source) -> None:
    publish()
    remember(source)
    exports.discard(EXPORT)

    assert embedder_id(source.name) is None


def test_a_model_from_the_hub_is_the_one_that_was_exported() -> None:
    publish()
    exports.remember(Source("someone/model", None), {}, EXPORT)

    assert embedder_id("someone/model") == EXPORT


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"id": 1}'])
def test_a_damaged_note_is_as_good_as_none(source: Source, text: str) -> None:
    publish()
    remember(source)
    (note,) = (exports.folder_of(EXPORT).parent / "sources").iterdir()
    note.write_text(text)

    assert embedder_id(source.name) is None


def test_publishing_replaces_an_older_export() -> None:
    publish(text="old")
    publish(text="new")

    assert (exports.folder_of(EXPORT) / MANIFEST).read_text() == "new"


def test_what_a_crash_left_is_swept_by_the_next_export() -> None:
    (exports.new_folder() / "model.onnx").write_bytes(b"half")
    publish()

    with exports.exclusive():
        assert leftovers() == []
    assert exports.is_there(EXPORT)


def test_discarding_what_is_not_there_is_fine() -> None:
    exports.discard(EXPORT)

    assert not exports.is_there(EXPORT)


def test_everything_is_private() -> None:
    publish()

    folder = exports.folder_of(EXPORT)
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]


def test_a_cache_folder_that_cannot_be_used_is_an_error() -> None:
    folder = Path(os.environ["LLMHOST_CACHE_DIR"])
    folder.mkdir()
    (folder / "embedders").write_text("in the way")

    with pytest.raises(StateError, match="cannot use the folder"):
        exports.folder_of(EXPORT)
