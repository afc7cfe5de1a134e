"""What is known about the files of a verifier of ours: `verifier.json` beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from llmhost.cache.model_files import ModelManifest
from llmhost.errors import ModelError

__all__ = ["MANIFEST", "MODEL", "TOKENIZER", "Manifest", "damaged"]

MANIFEST = "verifier.json"
MODEL = "verifier.onnx"
TOKENIZER = "tokenizer.json"

FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(ModelManifest):
    """`slope` and `intercept` make calibrated log-odds of the model's own. `max_tokens` are those of both
    wordings together. A larger model is asked after the small one whose id is `beside`: `small` times that
    one's log-odds are added.
    """

    unknown_token: int
    slope: float
    intercept: float
    small: float = 0.0
    beside: str | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        numbers = (self.slope, self.intercept, self.small, self.max_tokens, self.unknown_token)
        if self.format != FORMAT or not all(map(math.isfinite, numbers)):
            raise ValueError("not the manifest of a verifier")


def damaged(folder: Path) -> ModelError:
    """What to say where the files cannot be used."""
    return ModelError(
        f"the verifier in {folder} is missing or damaged",
        hint="install llmhost again; until then only identical questions are answered from the cache",
    )
