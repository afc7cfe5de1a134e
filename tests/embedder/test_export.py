"""The whole way, on small models: from a folder of weights to an embedder that runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from doubles.small_models import SmallModels
from doubles.waiting import until
from numpy.typing import NDArray

from llmhost.cache.embedders import exports
from llmhost.cache.embedders.load import embedder_id, load_embedder
from llmhost.cache.embedders.onnx import OnnxEmbedder
from llmhost.errors import ModelError

pytestmark = pytest.mark.slow

PATIENCE = 120.0  #: seconds; an export takes about 10, more on a busy machine


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


def test_a_model_with_a_prompt_and_a_layer_on_top_gives_the_same_vectors(small_models: SmallModels) -> None:
    embedder, said = load(small_models.folder / "prompted")

    assert said == ["preparing the embedding model, once (about 15 s)"]
    assert (embedder.dimensions, embedder.manifest.prefix) == (16, "question: ")
    np.testing.assert_allclose(
        vectors_of(embedder, small_models), small_models.expected("prompted"), atol=1e-5
    )


def test_a_model_that_cannot_be_exported_truly_is_refused(small_models: SmallModels) -> None:
    name = str(small_models.folder / "prompt-left-out")

    with pytest.raises(ModelError, match="differs from the original"):
        load_embedder(name, on_progress=lambda _: None)

    assert embedder_id(name) is None


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


@pytest.mark.usefixtures("prepared")
def test_a_damaged_export_is_made_again(small_models: SmallModels) -> None:
    name = small_models.folder / "first-token"
    known = embedder_id(str(name))
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


def test_two_processes_at_once_export_once(small_models: SmallModels) -> None:
    processes = [start_loading(small_models.folder / "first-token") for _ in range(2)]

    identifiers = [process.communicate(timeout=PATIENCE)[0].strip() for process in processes]

    assert len(set(identifiers)) == 1
    # A second export would have put the first one out of the way, and left it to be swept.
    root = exports.folder_of(identifiers[0]).parent
    assert sorted(path.name for path in root.iterdir()) == sorted([".lock", "sources", identifiers[0]])


async def test_an_export_that_was_killed_leaves_nothing_that_counts(small_models: SmallModels) -> None:
    name = small_models.folder / "first-token"
    root = exports.folder_of("any").parent
    command = [sys.executable, "-m", "llmhost.cache.embedders.export", str(name)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
    await until(lambda: any(root.glob(".tmp-*")))
    process.kill()
    process.wait()
    assert embedder_id(str(name)) is None

    embedder, _ = load(name)

    assert embedder.embed("a") is not None
    assert list(root.glob(".tmp-*")) == []


def test_code_that_a_model_brings_is_not_run(small_models: SmallModels, tmp_path: Path) -> None:
    folder = tmp_path / "custom"
    shutil.copytree(small_models.folder / "first-token", folder)
    modules = (folder / "modules.json").read_text()
    (folder / "modules.json").write_text(modules.replace('"sentence_transformers.', '"mine.', 1))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    with pytest.raises(ModelError, match="code of its own"):
        load_embedder(str(folder), on_progress=lambda _: None)

    assert not (tmp_path / "ran").exists()


def test_weights_that_are_cut_short_are_an_error_in_one_line(
    small_models: SmallModels, tmp_path: Path
) -> None:
    folder = tmp_path / "short"
    shutil.copytree(small_models.folder / "first-token", folder)
    os.truncate(folder / "model.safetensors", 1000)

    with pytest.raises(ModelError, match="cannot export the embedding model") as caught:
        load_embedder(str(folder), on_progress=lambda _: None)

    assert "\n" not in caught.value.message
