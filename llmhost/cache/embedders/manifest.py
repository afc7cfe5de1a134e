"""What an exported model says of itself: manifest.json in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from llmhost.errors import ModelError

__all__ = ["FORMAT", "MANIFEST", "MODEL", "TOKENIZER", "Manifest", "read", "sizes", "write"]

#: Raised when an older export cannot be used any more; it is then made again.
FORMAT = 1

MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One exported model.

    `weights` is the SHA-256 of what it was made from, `prefix` what stands before every text,
    `inputs` the graph's, `unknown_token` the id that stands for characters that the tokenizer does not
    know (None: it knows all), `files` sizes in bytes by name, `lowest_cosine` the worst agreement with
    sentence-transformers over the `checked_texts`.
    """

    format: int
    id: str
    model: str
    weights: str
    variant: str
    dimensions: int
    max_tokens: int
    prefix: str
    unknown_token: int | None
    inputs: list[str]
    files: dict[str, int]
    versions: dict[str, str]
    checked_texts: int
    lowest_cosine: float


def write(folder: Path, manifest: Manifest) -> None:
    """Writes it; raises OSError."""
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Manifest:
    """The manifest, after checking that the files beside it are all there in full.

    Raises:
        ModelError: something is missing, cut short, or from another version.
    """
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        whole = manifest.format == FORMAT and manifest.files == sizes(folder, manifest.files)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(folder) from error
    if not whole:
        raise _damaged(folder)
    return manifest


def sizes(folder: Path, names: list[str] | dict[str, int]) -> dict[str, int]:
    """Bytes of each file; raises OSError where one is missing."""
    return {name: (folder / name).stat().st_size for name in names}


def _damaged(folder: Path) -> ModelError:
    return ModelError(
        f"the exported embedding model in {folder} is damaged", hint="delete this folder: it is made again"
    )
