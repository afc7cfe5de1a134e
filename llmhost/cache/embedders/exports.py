"""Embedding models as ONNX on disk: the one that comes with llmhost, and those made in the cache folder.

<this folder>/builtin/                    the default model; scripts/make_embedder.py makes it
<cache folder>/embedders/<id>/            one exported model, whole or not there
                        /sources/*.json   which model each configured name meant, last time
                        /.lock            held while one is being made
                        /.tmp-*           what a crash left behind; swept by the next export

Each model's folder has a `manifest.json` that says what is in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from llmhost.cache.embedders.weights import Source, fingerprint
from llmhost.cache.model_files import ModelManifest, read_manifest
from llmhost.errors import ModelError, StateError
from llmhost.machine.files import write_json
from llmhost.machine.paths import cache_dir

__all__ = [
    "BUILTIN",
    "DATA",
    "FORMAT",
    "MANIFEST",
    "MODEL",
    "TOKENIZER",
    "Manifest",
    "damaged",
    "discard",
    "exclusive",
    "folder_of",
    "is_there",
    "new_folder",
    "publish",
    "read",
    "remember",
    "remembered",
]

#: The default model, which is part of llmhost.
BUILTIN = Path(__file__).parent / "builtin"

#: Raised when an older export cannot be used any more; it is then made again.
FORMAT = 2

MANIFEST = "manifest.json"
MODEL = "model.onnx"
DATA = "model.data"  #: the weights, in a file of their own, which can be mapped
TOKENIZER = "tokenizer.json"

_LEFTOVER = ".tmp-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(ModelManifest):
    """One embedding model as ONNX.

    `weights` is the SHA-256 of what it was made from, `prefix` what stands before every text, `inputs` the
    graph's, `lowest_cosine` the worst agreement with sentence-transformers over the `checked_texts`.
    """

    model: str
    weights: str
    dimensions: int
    prefix: str
    inputs: list[str]
    versions: dict[str, str]
    checked_texts: int = 0
    lowest_cosine: float = 0.0
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError("an export of another version")


def read(folder: Path) -> Manifest:
    """The manifest of a whole model; raises ModelError for any other."""
    return read_manifest(folder / MANIFEST, Manifest, damaged(folder))


def damaged(folder: Path) -> ModelError:
    """The error where a model's files cannot be used."""
    return ModelError(
        f"the embedding model in {folder} is missing or damaged",
        hint="install llmhost again; until then only identical questions are answered from the cache"
        if folder == BUILTIN
        else "delete this folder: it is made again",
    )


def folder_of(export: str) -> Path:
    """Where the exported model of this id is or will be. Raises StateError as `cache_dir` does."""
    return _root() / export


def is_there(export: str) -> bool:
    return (folder_of(export) / MANIFEST).is_file()


def remembered(source: Source) -> str | None:
    """The id of this source's export, or None where there is none or the source's files have changed.

    Cheap: a file's status for each of the model's files, nothing is hashed. A model from the Hub is
    the one that was exported, whatever has been published under its name since.
    """
    try:
        record = json.loads(_record(source).read_text(encoding="utf-8"))
        export, files = str(record["id"]), record["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if source.folder is not None and fingerprint(source.folder) != files:
        return None
    return export if is_there(export) else None


def remember(source: Source, files: dict[str, list[int]], export: str) -> None:
    """Notes which export this source, with these files (`fingerprint`), has. Only inside `exclusive`."""
    record = _record(source)
    record.parent.mkdir(mode=0o700, exist_ok=True)
    write_json(record, {"name": source.name, "id": export, "files": files})


def discard(export: str) -> None:
    """Takes a damaged export out of the way, in one step; a process that has it open keeps it."""
    folder = folder_of(export)
    with suppress(FileNotFoundError):  # not there, or another process was faster
        folder.rename(folder.with_name(f"{_LEFTOVER}{secrets.token_hex(8)}"))


@contextmanager
def exclusive() -> Iterator[None]:
    """One export at a time on this machine; sweeps away what crashed ones left."""
    descriptor = os.open(_root() / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for leftover in _root().glob(f"{_LEFTOVER}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def new_folder() -> Path:
    """An empty private folder, which the next export sweeps away unless it has become one by `publish`."""
    return Path(tempfile.mkdtemp(prefix=_LEFTOVER, dir=_root()))


def publish(folder: Path, export: str) -> None:
    """Makes the finished folder the export of this id, after its bytes have reached the disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    discard(export)
    folder.rename(folder_of(export))


def _record(source: Source) -> Path:
    return _root() / "sources" / f"{hashlib.sha256(source.name.encode()).hexdigest()[:16]}.json"


def _root() -> Path:
    root = cache_dir() / "embedders"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        root.chmod(0o700)
    except OSError as error:
        raise StateError(
            f"cannot use the folder {root}: {error.strerror}",
            hint="set LLMHOST_CACHE_DIR to a folder that you can write",
        ) from error
    return root
