"""A cross-encoder of the operator's own choice, run by sentence-transformers."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from llmhost.cache.model_files import download, named_folder
from llmhost.cache.model_input import is_unicode
from llmhost.errors import ModelError

__all__ = ["HINT", "SentenceTransformersVerifier", "check_name"]

HINT = "set `cache.verifier` to `builtin`, or to the name or folder of a cross-encoder for pairs of questions"
#: No pickles: they can hold code.
_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]


class SentenceTransformersVerifier:
    """A `Verifier` over a model's name, or a folder that begins with ``/``, ``.`` or ``~``.

    Its probability is used as it is: `llmhost cache eval` shows how reliable it is. Raises ModelError where
    the model cannot be had or is no cross-encoder with one figure.
    """

    def __init__(self, name: str) -> None:
        self.id = name
        folder = check_name(name)
        if folder is None:
            folder = download(name, _FILES, "verifier", HINT)
            _check(folder)
        # Whether a tokenizer cuts is a setting within it, which two threads must not both change.
        self._alone = Lock()
        try:
            from sentence_transformers import CrossEncoder
            from torch.nn import Sigmoid
            from transformers.utils.logging import disable_progress_bar

            disable_progress_bar()  # type: ignore[no-untyped-call]
            self._model: Any = CrossEncoder(
                str(folder), device="cpu", trust_remote_code=False, activation_fn=Sigmoid()
            )
        except Exception as error:
            raise ModelError(
                f"the verifier {name} cannot be loaded ({type(error).__name__})", hint=HINT
            ) from error
        if self._model.num_labels != 1:
            raise ModelError(
                f"the verifier {name} gives {self._model.num_labels} figures, not one", hint=HINT
            )

    def probability(self, question: str, stored: str) -> float:
        """See `Verifier.probability`."""
        if not is_unicode(question + stored):
            return 0.0
        try:
            with self._alone:
                tokens = len(self._model.tokenizer(question, stored, verbose=False).input_ids)
                if self._model.max_seq_length and tokens > self._model.max_seq_length:
                    return 0.0
                both = self._model.predict([(question, stored), (stored, question)], show_progress_bar=False)
                return float(both.mean())
        except Exception as error:
            raise ModelError(f"the verifier {self.id} failed: {type(error).__name__}") from error


def check_name(name: str) -> Path | None:
    """Checks that a folder holds a cross-encoder, or a name can be one; loads and fetches nothing. Returns
    the folder, None for a name. Raises ModelError.
    """
    if find_spec("sentence_transformers") is None:
        raise ModelError(
            f"the verifier {name} needs sentence-transformers",
            hint="run `pip install 'llmhost[embedders]'`, or set `cache.verifier` to `builtin`",
        )
    folder = named_folder(name, "a verifier", HINT)
    if folder is not None:
        _check(folder)
    return folder


def _check(folder: Path) -> None:
    """Any other model would be given a last layer of random weights, and with it a random opinion."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kinds = [str(kind) for kind in config["architectures"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the verifier's folder {folder} holds no model", hint=HINT) from error
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ModelError(f"the model in {folder} is no cross-encoder", hint=HINT)
