"""From the configured name to a verifier that runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llmhost.cache.contracts import Verifier

__all__ = ["BUILTIN", "check_verifier", "load_verifier"]

#: The name of the verifier that llmhost brings, and its folder.
BUILTIN = "builtin"
FOLDER = Path(__file__).parent / "builtin"


def load_verifier(name: str, *, on_progress: Callable[[str], None]) -> Verifier:
    """The verifier that `name` (see `cache.verifier`) means. Blocks. Raises ModelError where it is missing,
    damaged, or not a verifier.
    """
    if name == BUILTIN:
        from llmhost.cache.verifiers.onnx import OnnxVerifier

        return OnnxVerifier(FOLDER)
    from llmhost.cache.verifiers.cross_encoder import SentenceTransformersVerifier

    on_progress("loading the verifier with sentence-transformers (about 10 s)")
    return SentenceTransformersVerifier(name)


def check_verifier(name: str) -> None:
    """Checks that what `name` means is on this machine, without loading or fetching it: every byte of the
    built-in files, a folder's config.json, and nothing of a published model. Blocks. Raises ModelError where
    it is missing, damaged, or not a verifier.
    """
    if name == BUILTIN:
        from llmhost.cache.model_files import verify_files
        from llmhost.cache.verifiers.manifest import MANIFEST, Manifest, damaged

        verify_files(FOLDER / MANIFEST, Manifest, damaged(FOLDER))
    else:
        from llmhost.cache.verifiers.cross_encoder import check_name

        check_name(name)
