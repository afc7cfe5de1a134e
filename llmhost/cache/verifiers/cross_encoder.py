"""A cross-encoder of the operator's own choice, run by sentence-transformers."""

from __future__ import annotations

from typing import Any

from llmhost.errors import ModelError

__all__ = ["SentenceTransformersVerifier"]

_HINT = "give the name of a cross-encoder for pairs of questions, a folder with one, or `builtin`"


class SentenceTransformersVerifier:
    """A `Verifier` over a model's name or folder. Its word is taken as it is: `llmhost cache eval` shows how far
    it can be believed. Raises ModelError where the model cannot be had or gives more than one figure.
    """

    def __init__(self, name: str) -> None:
        self.id = name
        try:
            from sentence_transformers import CrossEncoder
            from torch.nn import Sigmoid

            self._model: Any = CrossEncoder(
                name, device="cpu", trust_remote_code=False, activation_fn=Sigmoid()
            )
        except Exception as error:
            raise ModelError(
                f"the verifier {name} cannot be loaded ({type(error).__name__})", hint=_HINT
            ) from error
        if self._model.num_labels != 1:
            raise ModelError(
                f"the verifier {name} gives {self._model.num_labels} figures, not one", hint=_HINT
            )

    def probability(self, question: str, stored: str) -> float:
        """See `Verifier.probability`."""
        longest = self._model.max_length
        if longest and len(self._model.tokenizer(question, stored)["input_ids"]) > longest:
            return 0.0
        try:
            both = self._model.predict([(question, stored), (stored, question)], show_progress_bar=False)
            return float(both.mean())
        except Exception as error:
            raise ModelError(f"the verifier {self.id} failed: {type(error).__name__}") from error
