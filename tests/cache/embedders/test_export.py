"""Exports: how one is checked, and small models from a folder of weights to an embedder that runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from doubles.small_models import SmallModels
from doubles.waiting import until
from numpy.typing import NDArray

from llmhost.cache.embedders import exports
from llmhost.cache.embedders.export import MIN_COMPARED, TEXTS, compare
from llmhost.cache.embedders.load import load_embedder
from llmhost.cache.embedders.onnx import OnnxEmbedder
from llmhost.cache.embedders.weights import locate
from llmhost.errors import ModelError

PATIENCE = 120.0  #: seconds; an export takes about 10, more on a busy machine


EAST = np.array([1, 0], dtype=np.float32)


class Turned:
    """Answers every text with the reference's vector, turned by a fixed angle."""

    id = "turned"
    dimensions = 2

    def __init__(self, cosine: float, readable: int = len(TEXTS)) -> None:
        self.vector = np.array([cosine, np.sqrt(1 - cosine**2)], dtype=np.float32)
        self.readable = TEXTS[:readable]

    def embed(self, text: str) -> NDArray[np.float32] | None:
        return self.vector if text in self.readable else None


def reference(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([EAST for _ in texts])


def test_the_list_has_at_least_twenty_different_texts() -> None:
    assert len(set(TEXTS)) == len(TEXTS) >= 20


def test_a_model_that_agrees_passes_and_its_lowest_cosine_is_returned() -> None:
    assert compare(Turned(0.9995), reference, "m") == (len(TEXTS), pytest.approx(0.9995))


@pytest.mark.parametrize("cosine", [0.9985, 0.5, -1.0, float("nan")])
def test_a_model_that_differs_is_refused(cosine: float) -> None:
    with pytest.raises(ModelError, match="differs from the original"):
        compare(Turned(cosine), reference, "m")


def test_one_text_that_differs_is_enough() -> None:
    def mostly(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = reference(texts)
        vectors[-1] = [0, 1]
        return vectors

    with pytest.raises(ModelError, match=r"cosine 0\.0"):
        compare(Turned(1.0), mostly, "m")


def test_texts_that_the_model_cannot_read_are_left_out() -> None:
    assert compare(Turned(1.0, MIN_COMPARED), reference, "m")[0] == MIN_COMPARED


def test_a_model_that_reads_hardly_anything_is_refused() -> None:
    with pytest.raises(ModelError, match="reads only"):
        compare(Turned(1.0, MIN_COMPARED - 1), reference, "m")


@pytest.fixture
def prepared(small_cache: Path) -> None:
    """This test's own cache folder, with the small model "first-token" in it."""
    shutil.copytree(small_cache, os.environ["LLMHOST_CACHE_DIR"], symlinks=True)


def load(folder: Path) -> tuple[OnnxEmbedder, list[str]]:
    said: list[str] = []
    embedder = load_embedder(str(folder), on_progress=said.append)
    assert isinstance(embedder, OnnxEmbedder)
    return embedder, said


def vectors_of(embedder: OnnxEmbedder, small_models: SmallModels) -> NDArray[np.float32]:
    vectors = [embedder.embed(text) for text in small_models.texts]
    return np.stack([vector for vector in vectors if vector is not None])


@pytest.mark.slow
@pytest.mark.usefixtures("prepared")
def test_a_model_that_takes_the_first_token_and_does_not_normalise_gives_the_same_vectors(
    small_models: SmallModels,
) -> None:
    embedder, said = load(small_models.folder / "first-token")

    assert said == []
    assert embedder.manifest.max_tokens == 64
    np.testing.assert_allclose(
        vectors_of(embedder, small_models), small_models.expected("first-token"), atol=1e-5
    )


@pytest.mark.slow
def test_a_model_with_a_prompt_and_a_layer_on_top_gives_the_same_vectors(small_models: SmallModels) -> None:
    embedder, said = load(small_models.folder / "prompted")

    assert said == ["Preparing the embedding model (once, about 15 s) …"]
    assert (embedder.dimensions, embedder.manifest.prefix) == (16, "question: ")
    np.testing.assert_allclose(
        vectors_of(embedder, small_models), small_models.expected("prompted"), atol=1e-5
    )


@pytest.mark.slow
def test_a_model_that_cannot_be_exported_truly_is_refused(small_models: SmallModels) -> None:
    name = str(small_models.folder / "prompt-left-out")

    with pytest.raises(ModelError, match="differs from the original"):
        load_embedder(name, on_progress=lambda _: None)

    assert exports.remembered(locate(name)) is None


@pytest.mark.slow
@pytest.mark.usefixtures("prepared")
def test_other_weights_in_the_same_folder_are_another_embedder(
    small_models: SmallModels, tmp_path: Path
) -> None:
    folder = tmp_path / "first-token"
    shutil.copytree(small_models.folder / "first-token", folder)
    before, _ = load(folder)
    shutil.copy(small_models.folder / "other-weights" / "model.safetensors", folder)

    after, said = load(folder)

    assert after.id != before.id
    assert said != []
    np.testing.assert_allclose(
        vectors_of(after, small_models), small_models.expected("other-weights"), atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.usefixtures("prepared")
def test_a_damaged_export_is_made_again(small_models: SmallModels) -> None:
    name = small_models.folder / "first-token"
    known = exports.remembered(locate(str(name)))
    assert known is not None
    weights = exports.folder_of(known) / "model.data"
    os.truncate(weights, weights.stat().st_size - 1)

    embedder, said = load(name)

    assert embedder.id == known
    assert said != []
    assert embedder.embed("a") is not None


def start_loading(name: Path) -> subprocess.Popen[str]:
    script = (
        "import sys; from llmhost.cache.embedders.load import load_embedder; "
        "print(load_embedder(sys.argv[1], on_progress=lambda _: None).id)"
    )
    return subprocess.Popen([sys.executable, "-c", script, str(name)], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_at_once_export_once(small_models: SmallModels) -> None:
    processes = [start_loading(small_models.folder / "first-token") for _ in range(2)]

    identifiers = [process.communicate(timeout=PATIENCE)[0].strip() for process in processes]

    assert len(set(identifiers)) == 1
    # A second export would have put the first one out of the way, and left it to be swept.
    root = exports.folder_of(identifiers[0]).parent
    assert sorted(path.name for path in root.iterdir()) == sorted([".lock", "sources", identifiers[0]])


@pytest.mark.slow
async def test_an_export_that_was_killed_leaves_nothing_that_counts(small_models: SmallModels) -> None:
    name = small_models.folder / "first-token"
    root = exports.folder_of("any").parent
    command = [sys.executable, "-m", "llmhost.cache.embedders.export", str(name)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
    await until(lambda: any(root.glob(".tmp-*")))
    process.kill()
    process.wait()
    assert exports.remembered(locate(str(name))) is None

    embedder, _ = load(name)

    assert embedder.embed("a") is not None
    assert list(root.glob(".tmp-*")) == []


@pytest.mark.slow
def test_code_that_a_model_brings_is_not_run(small_models: SmallModels, tmp_path: Path) -> None:
    folder = tmp_path / "custom"
    shutil.copytree(small_models.folder / "first-token", folder)
    modules = (folder / "modules.json").read_text()
    (folder / "modules.json").write_text(modules.replace('"sentence_transformers.', '"mine.', 1))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    with pytest.raises(ModelError, match="code of its own"):
        load_embedder(str(folder), on_progress=lambda _: None)

    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_weights_that_are_cut_short_are_an_error_in_one_line(
    small_models: SmallModels, tmp_path: Path
) -> None:
    folder = tmp_path / "short"
    shutil.copytree(small_models.folder / "first-token", folder)
    os.truncate(folder / "model.safetensors", 1000)

    with pytest.raises(ModelError, match="cannot export the embedding model") as caught:
        load_embedder(str(folder), on_progress=lambda _: None)

    assert "\n" not in caught.value.message
