"""A cross-encoder that was exported by scripts/train_verifier.py, on onnxruntime, with no torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from llmhost.cache.model_files import read_manifest
from llmhost.cache.model_input import fed, is_unicode, load_tokenizer
from llmhost.cache.model_session import open_session
from llmhost.cache.verifiers import manifest as manifests
from llmhost.errors import ModelError

__all__ = ["PairModel"]

#: characters; the longest in the vocabulary. What is too long for any number of such is not even counted.
_LONGEST_TOKEN = 20


class PairModel:
    """The model in a folder; raises ModelError where it is missing or damaged. It reads a pair on `threads`
    threads, see `open_session`. Several threads may use it."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.manifest = read_manifest(
            folder / manifests.MANIFEST, manifests.Manifest, manifests.damaged(folder)
        )
        self.id = self.manifest.id
        try:
            self._tokenizer = load_tokenizer(folder / manifests.TOKENIZER)
            self._session = open_session(folder / manifests.MODEL, threads)
        except Exception as error:
            raise manifests.damaged(folder) from error

    def tokenized(self, first: str, second: str) -> Any:
        """None where the model cannot read all of it."""
        if len(first) + len(second) > _LONGEST_TOKEN * self.manifest.max_tokens:
            return None
        if not (is_unicode(first) and is_unicode(second)):
            return None
        encoding = self._tokenizer.encode(first, second)
        too_long = len(encoding.ids) > self.manifest.max_tokens
        return None if too_long or self.manifest.unknown_token in encoding.ids else encoding

    def log_odds(self, encoding: Any) -> float:
        """That both of what was `tokenized` ask the same, by the model's own scale."""
        try:
            log_odds = float(self._session.run(None, fed(encoding))[0][0])
        except Exception as error:
            raise ModelError(f"the verifier {self.id} failed: {type(error).__name__}") from error
        if not math.isfinite(log_odds):
            raise ModelError(f"the verifier {self.id} gave something that is no number")
        return log_odds

    def calibrated(self, log_odds: float) -> float:
        """Those of the model's own scale, as they are to be believed."""
        return self.manifest.slope * log_odds + self.manifest.intercept
