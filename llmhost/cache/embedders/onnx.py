"""The run time: a model as ONNX on onnxruntime and tokenizers, with no torch.

Why these settings and no others is in docs/embeddings.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmhost.cache.embedders import exports
from llmhost.cache.model_input import fed, is_unicode, load_tokenizer
from llmhost.errors import ModelError
from llmhost.machine.heavy import np, onnxruntime

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OnnxEmbedder", "session_options"]

#: A second thread saves a tenth of a short question's time and a fifth of a long one's; more would take
#: cores from the engine beside it. The vectors do not depend on it.
_THREADS = 2
_ERRORS_ONLY = 3  #: onnxruntime's severity: its warnings are about its own choices
#: How far from 1 a vector's length may be; float32 arithmetic stays under 1e-6.
_LENGTH_TOLERANCE = 1e-3


def session_options() -> Any:
    """Options of a session that runs a graph as it was saved."""
    options = onnxruntime.SessionOptions()
    # Exports are optimised when they are made. This level makes float32 of the default model's weights once,
    # when it is loaded, and not at each question.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = min(_THREADS, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    # An idle thread sleeps: it has nothing to wait for between two questions.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    return options


class OnnxEmbedder:
    """An `Embedder` over a model's folder; raises ModelError where its files are missing or damaged."""

    def __init__(self, folder: Path) -> None:
        self.manifest = exports.read(folder)
        self.id = self.manifest.id
        self.dimensions = self.manifest.dimensions
        try:
            self._tokenizer = load_tokenizer(folder / exports.TOKENIZER)
            self._session = onnxruntime.InferenceSession(
                str(folder / exports.MODEL), session_options(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise exports.damaged(folder) from error

    def embed(self, text: str) -> NDArray[np.float32] | None:
        """See `Embedder.embed`."""
        if not is_unicode(text):
            return None
        encoding = self._tokenizer.encode(self.manifest.prefix + text)
        if len(encoding.ids) > self.manifest.max_tokens or self.manifest.unknown_token in encoding.ids:
            return None
        try:
            vector: NDArray[np.float32] = self._session.run(None, fed(encoding, self.manifest.inputs))[0][0]
        except Exception as error:
            raise ModelError(f"the embedding model {self.id} failed: {type(error).__name__}") from error
        if vector.shape != (self.dimensions,) or not abs(np.linalg.norm(vector) - 1) < _LENGTH_TOLERANCE:
            raise ModelError(
                f"the embedding model {self.id} gave a vector that is not of unit length",
                hint="set `cache.embedder` to another model",
            )
        return vector
