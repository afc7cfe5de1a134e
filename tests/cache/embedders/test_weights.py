from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmhost.cache.embedders.weights import Source, digest, fetch, fingerprint, locate, refuse_custom_code
from llmhost.errors import ModelError

MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "modules.json").write_text(json.dumps(MODULES))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    return folder


def test_a_name_comes_from_the_hub_and_without_an_owner_from_sentence_transformers() -> None:
    assert locate("all-mpnet-base-v2") == locate("sentence-transformers/all-mpnet-base-v2")
    assert locate("someone/some-model") == Source("someone/some-model", None)


def test_a_folder_in_the_working_folder_does_not_take_the_place_of_a_published_model(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.rename(model.parent / "all-mpnet-base-v2")
    monkeypatch.chdir(model.parent)

    assert locate("all-mpnet-base-v2").folder is None
    assert locate("./all-mpnet-base-v2").folder == model.parent / "all-mpnet-base-v2"


def test_a_folder_under_the_home_folder_can_be_named_by_a_tilde(model: Path) -> None:
    model.rename(Path.home() / "mine")

    assert locate("~/mine").folder == Path.home() / "mine"


@pytest.mark.parametrize("name", ["", "two words", "a/b/c", "a//b", "https://example.org/m", "a/../b", "-x"])
def test_what_is_neither_a_folder_nor_a_name_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="neither a folder nor the name"):
        locate(name)


@pytest.mark.parametrize(
    ("folder", "words"), [("nothing", "is not there"), ("", "holds no sentence-transformers model")]
)
def test_a_folder_without_a_model_is_named(tmp_path: Path, folder: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        locate(str(tmp_path / folder))

    assert caught.value.hint is not None


def test_a_model_that_cannot_be_fetched_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="nobody/nothing is not on this machine") as caught:
        fetch(Source("nobody/nothing", None))

    assert "cache.embedder" in str(caught.value.hint)


@pytest.mark.parametrize("file", ["model.safetensors", "1_Pooling/config.json", "modules.json"])
def test_the_digest_changes_with_everything_that_vectors_depend_on(model: Path, file: str) -> None:
    before = digest(model)
    with (model / file).open("a") as opened:
        opened.write(" ")

    assert digest(model) != before


@pytest.mark.parametrize("file", ["README.md", "checkpoints/model.safetensors", "onnx/config.json"])
def test_the_digest_does_not_depend_on_other_files(model: Path, file: str) -> None:
    before = digest(model)
    (model / file).parent.mkdir(exist_ok=True)
    (model / file).write_text("something else")

    assert digest(model) == before


def test_code_that_a_model_brings_is_refused(model: Path) -> None:
    refuse_custom_code(model)
    modules = [*MODULES, {"idx": 2, "name": "2", "path": "", "type": "mine.Module"}]
    (model / "modules.json").write_text(json.dumps(modules))

    with pytest.raises(ModelError, match=r"code of its own.*mine\.Module"):
        refuse_custom_code(model)


@pytest.mark.parametrize("path", ["/etc", "../secrets", "a/../../b"])
def test_a_model_cannot_point_outside_of_its_folder(model: Path, path: str) -> None:
    (model / "modules.json").write_text(json.dumps([MODULES[0] | {"path": path}]))

    with pytest.raises(ModelError, match="outside of the model"):
        fingerprint(model)


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"path": ""}]', "7", "\x00"])
def test_a_damaged_list_of_modules_is_an_error(model: Path, text: str) -> None:
    (model / "modules.json").write_text(text)

    with pytest.raises(ModelError, match=r"modules\.json is damaged"):
        digest(model)
