"""The built-in verifier: a cross-encoder in int8 on onnxruntime, with no torch.

How it was made, what it is worth and what it cannot do is in docs/trust.md.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from llmhost.cache.model_files import read_manifest
from llmhost.cache.model_input import fed, is_unicode, load_tokenizer
from llmhost.cache.verifiers import manifest as manifests
from llmhost.cache.verifiers.wording import in_distribution, spelt_out
from llmhost.errors import ModelError
from llmhost.machine.heavy import onnxruntime

__all__ = ["OnnxVerifier"]

_ERRORS_ONLY = 3  #: onnxruntime's severity: its warnings are about its own choices
#: characters; the longest in the vocabulary. What is too long for any number of such is not even counted.
_LONGEST_TOKEN = 20
#: probability; what is said at most of a text unlike all that the model has learnt from
_UNSURE = 0.5
#: probability where only capitals and the closing mark differ: a model is seldom so sure of the evident, and
#: now and then they matter ("How do I polish ...", "How do I Polish ...")
_SAME_WORDS = 0.99


class OnnxVerifier:
    """A `Verifier` over a folder; raises ModelError where it is missing or damaged."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read_manifest(
            folder / manifests.MANIFEST, manifests.Manifest, manifests.damaged(folder)
        )
        self.id = self.manifest.id
        try:
            self._tokenizer = load_tokenizer(folder / manifests.TOKENIZER)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = _ERRORS_ONLY
            self._session = onnxruntime.InferenceSession(
                str(folder / manifests.MODEL),
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,  # it prints on stdout
            )
        except Exception as error:
            raise manifests.damaged(folder) from error
        # Both orders side by side: on two cores that takes as long as one of them.
        self._second = ThreadPoolExecutor(1, thread_name_prefix="verifier")

    def probability(self, question: str, stored: str) -> float:
        """See `Verifier.probability`."""
        one, other = spelt_out(question, stored)
        first, second = self._tokenized(one, other), self._tokenized(other, one)
        if first is None or second is None:
            return 0.0
        familiar = in_distribution(question) and in_distribution(stored)
        if familiar and _bare(question) == _bare(stored):
            return _SAME_WORDS
        turned = self._second.submit(self._log_odds, second)
        mean = (self._log_odds(first) + turned.result()) / 2
        log_odds = self.manifest.slope * mean + self.manifest.intercept
        probability = 1 / (1 + math.exp(-max(-50.0, min(50.0, log_odds))))
        return probability if familiar else min(probability, _UNSURE)

    def _tokenized(self, first: str, second: str) -> Any:
        """None where the model cannot read all of it."""
        if len(first) + len(second) > _LONGEST_TOKEN * self.manifest.max_tokens:
            return None
        if not (is_unicode(first) and is_unicode(second)):
            return None
        encoding = self._tokenizer.encode(first, second)
        too_long = len(encoding.ids) > self.manifest.max_tokens
        return None if too_long or self.manifest.unknown_token in encoding.ids else encoding

    def _log_odds(self, encoding: Any) -> float:
        try:
            log_odds = float(self._session.run(None, fed(encoding))[0][0])
        except Exception as error:
            raise ModelError(f"the verifier {self.id} failed: {type(error).__name__}") from error
        if not math.isfinite(log_odds):
            raise ModelError(f"the verifier {self.id} gave something that is no number")
        return log_odds


def _bare(text: str) -> str:
    """Without what often differs and seldom matters. An exclamation mark stays: 5! is not 5."""
    return text.casefold().rstrip(" ?.")
