"""Models as files: what a name in the configuration means, and the manifest that lies beside a model."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from llmhost.errors import ModelError
from llmhost.machine.digests import model_digest
from llmhost.machine.paths import expand

__all__ = [
    "ModelManifest",
    "download",
    "named_folder",
    "read_manifest",
    "sha256",
    "sizes",
    "verify_files",
    "write_manifest",
]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
#: bytes hashed at a time
_CHUNK = 1 << 20


def named_folder(name: str, kind: str, hint: str) -> Path | None:
    """The folder that `name` means, None where it is a published model's. A folder starts with ``/``, ``.``
    or ``~``: one that happens to be in the working folder cannot take the place of a published model.

    Raises ModelError, about `kind`, where this is neither a folder nor a name.
    """
    if name.startswith(("/", ".", "~")):
        return expand(name)
    if not _HUB_NAME.fullmatch(name):
        raise ModelError(f"{name!r} is neither a folder nor the name of {kind}", hint=hint)
    return None


def download(name: str, wanted: list[str], kind: str, hint: str) -> Path:
    """The folder with the wanted files of a published model. Takes what is in the Hub's own cache where the
    network or `HF_HUB_OFFLINE` does not allow more. Raises ModelError, about `kind`.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

        disable_progress_bars()
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are a page of addresses
        folder = Path(
            snapshot_download(name, allow_patterns=wanted, ignore_patterns=["onnx/*", "openvino/*"])
        )
        damaged = _damaged_blobs(folder)
    except Exception as error:
        raise ModelError(
            f"the {kind} {name} is not on this machine and cannot be fetched ({type(error).__name__})",
            hint=hint,
        ) from error
    if damaged:
        raise ModelError(
            f"the {kind} {name} is not what the Hugging Face Hub published: {damaged[0].name} differs",
            hint=f"remove {damaged[0].resolve()}, then try again",
        )
    return folder


def _damaged_blobs(folder: Path) -> list[Path]:
    """The files of a snapshot that differ from the hash by which the Hub names them: SHA-256 for large files,
    Git's own SHA-1 for others. Raises OSError."""
    return [path for path in sorted(folder.rglob("*")) if path.is_symlink() and not _is_blob(path.resolve())]


def _is_blob(path: Path) -> bool:
    if len(path.name) == hashlib.sha256().digest_size * 2:
        return sha256(path) == path.name
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == path.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelManifest:
    """What every manifest says: `files` has sizes in bytes, `sha256` hashes, by name. A kind of model adds
    fields of its own, and raises ValueError for values that it cannot use.

    `unknown_token` stands for characters that the tokenizer does not know; None: it knows all.
    """

    id: str
    max_tokens: int
    unknown_token: int | None
    files: dict[str, int]
    sha256: dict[str, str]


_Manifest = TypeVar("_Manifest", bound=ModelManifest)


def write_manifest(path: Path, manifest: ModelManifest) -> None:
    """Raises OSError."""
    path.write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def read_manifest(path: Path, kind: type[_Manifest], damaged: ModelError) -> _Manifest:
    """The manifest, after checking that the files beside it are what it says. They are not hashed each time,
    which would take as long as loading the model, but again when one has changed.

    Raises `damaged` where something is missing, cut short, altered, or from another version.
    """
    try:
        manifest = kind(**json.loads(path.read_text(encoding="utf-8")))
        whole = manifest.files == sizes(path.parent, manifest.files) and manifest.sha256 == {
            name: model_digest(path.parent / name) for name in manifest.files
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged from error
    if not whole:
        raise damaged
    return manifest


def verify_files(path: Path, kind: type[_Manifest], damaged: ModelError) -> None:
    """Compares every file with the manifest at `path`, in 0.1 s for a model that comes with llmhost. Raises
    `damaged`.
    """
    manifest = read_manifest(path, kind, damaged)
    try:
        sound = manifest.sha256 == {name: sha256(path.parent / name) for name in manifest.files}
    except OSError as error:
        raise damaged from error
    if not sound:
        raise damaged


def sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Bytes of each file; raises OSError where one is missing."""
    return {name: (folder / name).stat().st_size for name in names}


def sha256(path: Path) -> str:
    """Of the file's content; raises OSError."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
    return hashed.hexdigest()
