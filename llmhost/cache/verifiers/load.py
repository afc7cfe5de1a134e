"""From the configured name to a verifier that runs."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.cache.contracts import Verifier
from llmhost.cache.model_files import named_folder, read_manifest, verify_files
from llmhost.cache.verifiers.cross_encoder import HINT, SentenceTransformersVerifier, check_name
from llmhost.cache.verifiers.manifest import MANIFEST, Manifest, damaged
from llmhost.errors import ModelError

if TYPE_CHECKING:
    from llmhost.config.models import CacheConfig

__all__ = ["BUILTIN", "LARGE", "check_verifier", "labels_name", "load_verifier", "verifier_id"]

#: The verifier that llmhost brings, and its folder.
BUILTIN = "builtin"
FOLDER = Path(__file__).parent / "builtin"

#: A larger one beside it, and the package that has it.
LARGE = "large"
PACKAGE = "llmhost_verifier"

#: The verifier whose labels were kept before another one's had a name of their own.
_UNNAMED = "verifier-4afe15d6"


def load_verifier(name: str, *, on_progress: Callable[[str], None]) -> Verifier:
    """The verifier that `name` (see `cache.verifier`) means. Blocks. Raises ModelError where it is missing,
    damaged, or not a verifier.
    """
    folder = _folder(name)
    if folder is not None:
        from llmhost.cache.verifiers.onnx import OnnxVerifier

        manifest = read_manifest(folder / MANIFEST, Manifest, damaged(folder))
        return OnnxVerifier(folder) if manifest.beside is None else OnnxVerifier(FOLDER, folder)
    on_progress("loading the verifier with sentence-transformers (about 10 s)")
    return SentenceTransformersVerifier(name)


def check_verifier(name: str) -> str:
    """Whether what `name` means can be used, as far as that can be seen without loading or fetching it, in a
    sentence: every byte of our own files is looked at, another folder's config.json, and nothing of a
    published model. Blocks. Raises ModelError where it is missing, damaged, or not a verifier.
    """
    folder = _folder(name)
    if folder is None:
        check_name(name)
        return f"{name} is loaded on first use, and downloaded if it is the name of a model"
    for each in {FOLDER, folder}:
        verify_files(each / MANIFEST, Manifest, damaged(each))
    return f"{name} is ready"


def labels_name(cache: CacheConfig) -> str:
    """What the labels on the hits of this policy are kept by: what one verifier's teach is no other's. Reads
    a small file. A verifier that is missing has the name that is configured."""
    if cache.policy != "verified":
        return cache.policy
    try:
        found = verifier_id(cache.verifier)
    except ModelError:
        found = cache.verifier
    return cache.policy if found == _UNNAMED else found


def verifier_id(name: str) -> str:
    """That of the verifier that `load_verifier` would give. Raises ModelError."""
    folder = _folder(name)
    if folder is None:
        return name
    manifest = read_manifest(folder / MANIFEST, Manifest, damaged(folder))
    return manifest.id if manifest.beside is None else f"{manifest.beside}+{manifest.id}"


def _folder(name: str) -> Path | None:
    """Where a verifier of ours lies: one that llmhost or the package brings, or a folder that
    scripts/train_verifier.py wrote. None: the name is one for sentence-transformers. Raises ModelError."""
    if name == BUILTIN:
        return FOLDER
    if name == LARGE:
        package = find_spec(PACKAGE)
        if package is None or package.origin is None:
            raise ModelError(
                "the verifier `large` is not installed",
                hint="run `pip install 'llmhost[verifier]'`, or set `cache.verifier` to `builtin`",
            )
        return Path(package.origin).parent
    folder = named_folder(name, "a verifier", HINT)
    return folder if folder is not None and (folder / MANIFEST).is_file() else None
