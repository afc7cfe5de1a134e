"""A cross-encoder of the operator's own choice, run by sentence-transformers."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from llmhost.errors import ModelError

__all__ = ["SentenceTransformersVerifier", "check_name"]

_HINT = (
    "set `cache.verifier` to `builtin`, or to the name or folder of a cross-encoder for pairs of questions"
)
_INSTALL_HINT = "run `pip install 'llmhost[embedders]'`, or set `cache.verifier` to `builtin`"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
#: No pickles: they can hold code.
_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]


class SentenceTransformersVerifier:
    """A `Verifier` over a model's name, or a folder that begins with ``/``, ``.`` or ``~``.

    Its probability is used as it is: `llmhost cache eval` shows how reliable it is. Raises ModelError where
    the model cannot be had or is no cross-encoder with one figure.
    """

    def __init__(self, name: str) -> None:
        self.id = name
        _check_installed(name)
        folder = _folder(name)
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
                f"the verifier {name} cannot be loaded ({type(error).__name__})", hint=_HINT
            ) from error
        if self._model.num_labels != 1:
            raise ModelError(
                f"the verifier {name} gives {self._model.num_labels} figures, not one", hint=_HINT
            )

    def probability(self, question: str, stored: str) -> float:
        """See `Verifier.probability`."""
        try:
            with self._alone:
                return self._mean(question, stored) if self._reads_all(question, stored) else 0.0
        except Exception as error:
            raise ModelError(f"the verifier {self.id} failed: {type(error).__name__}") from error

    def _reads_all(self, question: str, stored: str) -> bool:
        try:
            (question + stored).encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which no tokenizer takes
            return False
        longest = self._model.max_seq_length
        return not longest or len(self._model.tokenizer(question, stored, verbose=False).input_ids) <= longest

    def _mean(self, question: str, stored: str) -> float:
        both = self._model.predict([(question, stored), (stored, question)], show_progress_bar=False)
        return float(both.mean())


def check_name(name: str) -> None:
    """Whether a folder holds a cross-encoder, or a name can be one; loads and fetches nothing.

    Raises ModelError.
    """
    _check_installed(name)
    folder = _own_folder(name)
    if folder is not None:
        _check(folder)


def _check_installed(name: str) -> None:
    if find_spec("sentence_transformers") is None:
        raise ModelError(f"the verifier {name} needs sentence-transformers", hint=_INSTALL_HINT)


def _own_folder(name: str) -> Path | None:
    """None for a name, which never means a folder that happens to lie in the working folder."""
    if name.startswith(("/", ".", "~")):
        return Path(name).expanduser().absolute()
    if not _HUB_NAME.fullmatch(name):
        raise ModelError(f"{name!r} is neither a folder nor the name of a verifier", hint=_HINT)
    return None


def _folder(name: str) -> Path:
    """Where the model lies."""
    folder = _own_folder(name)
    if folder is not None:
        return folder
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

        disable_progress_bars()
        return Path(snapshot_download(name, allow_patterns=_FILES, ignore_patterns=["onnx/*", "openvino/*"]))
    except Exception as error:
        raise ModelError(
            f"the verifier {name} is not on this machine and cannot be fetched ({type(error).__name__})",
            hint=_HINT,
        ) from error


def _check(folder: Path) -> None:
    """Any other model would be given a last layer of random weights, and with it a random opinion."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kinds = [str(kind) for kind in config["architectures"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the verifier's folder {folder} holds no model", hint=_HINT) from error
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ModelError(f"the model in {folder} is no cross-encoder", hint=_HINT)
