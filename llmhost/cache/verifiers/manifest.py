"""What is known about the built-in verifier's files: `verifier.json` beside them."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from llmhost.errors import ModelError

__all__ = ["MANIFEST", "MODEL", "TOKENIZER", "Manifest", "damaged", "digest", "read", "verify", "write"]

MANIFEST = "verifier.json"
MODEL = "verifier.onnx"
TOKENIZER = "tokenizer.json"

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """`slope` and `intercept` make calibrated log-odds of the model's own. `sha256` is the model file's, and
    `size` its bytes. `max_tokens` are those of both wordings together.
    """

    id: str
    max_tokens: int
    unknown_token: int
    slope: float
    intercept: float
    sha256: str
    size: int
    format: int = FORMAT


def write(folder: Path, manifest: Manifest) -> None:
    """Writes it; raises OSError."""
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Manifest:
    """The manifest, after a look whether the model beside it is there in full.

    The model's hash is not computed each time: that would take as long as loading it.

    Raises:
        ModelError: something is missing, cut short, or from another version.
    """
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        numbers = (manifest.slope, manifest.intercept, manifest.max_tokens, manifest.unknown_token)
        sound = manifest.format == FORMAT and all(map(math.isfinite, numbers))
        whole = (folder / MODEL).stat().st_size == manifest.size and (folder / TOKENIZER).is_file()
    except (OSError, ValueError, TypeError) as error:
        raise damaged(folder) from error
    if not (sound and whole):
        raise damaged(folder)
    return manifest


def verify(folder: Path) -> None:
    """Reads the whole model, 0.1 s, to see whether it is what the manifest says. Raises ModelError."""
    manifest = read(folder)
    try:
        sound = digest(folder) == manifest.sha256
    except OSError as error:
        raise damaged(folder) from error
    if not sound:
        raise damaged(folder)


def digest(folder: Path) -> str:
    """SHA-256 of the model; raises OSError."""
    return hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()


def damaged(folder: Path) -> ModelError:
    """What to say where the files cannot be used."""
    return ModelError(
        f"the verifier in {folder} is missing or damaged",
        hint="install llmhost again; until then only identical questions are answered from the cache",
    )
