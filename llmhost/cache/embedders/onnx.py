"""The run time: a model as ONNX on onnxruntime and tokenizers, with no torch.

Why these settings and no others is in docs/embeddings.md.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmhost.cache.contracts import EmbeddedText
from llmhost.cache.embedders import exports
from llmhost.cache.model_input import Features, features, fed_together, is_unicode, load_tokenizer
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


def session_options(threads: int = _THREADS) -> Any:
    """Options of a session that runs a graph as it was saved."""
    options = onnxruntime.SessionOptions()
    # Exports are optimised when they are made. This level makes float32 of the default model's weights once,
    # when it is loaded, and not at each question.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = min(threads, os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    # An idle thread sleeps: it has nothing to wait for between two questions.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    return options


def _session(model: Path) -> Any:
    """Where no second thread may be started, as under a small limit of processes, it runs on one."""
    # Its fallback to other providers prints on stdout.
    choices: dict[str, Any] = {"providers": ["CPUExecutionProvider"], "enable_fallback": 0}
    try:
        return onnxruntime.InferenceSession(str(model), session_options(), **choices)
    except RuntimeError:
        return onnxruntime.InferenceSession(str(model), session_options(threads=1), **choices)


class OnnxEmbedder:
    """A `TextEmbedder` over a model's folder; raises ModelError where its files are missing or damaged."""

    def __init__(self, folder: Path) -> None:
        self.manifest = exports.read(folder)
        self.id = self.manifest.id
        self.dimensions = self.manifest.dimensions
        self.max_tokens = self.manifest.max_tokens
        try:
            self._tokenizer = load_tokenizer(folder / exports.TOKENIZER)
            self._session = _session(folder / exports.MODEL)
        except Exception as error:
            raise exports.damaged(folder) from error

    def embed(self, text: str) -> NDArray[np.float32] | None:
        """See `Embedder.embed`."""
        if not is_unicode(text):
            return None
        encoding = self._tokenizer.encode(self.manifest.prefix + text)
        if len(encoding.ids) > self.max_tokens or self.manifest.unknown_token in encoding.ids:
            return None
        vector: NDArray[np.float32] = self._run([features(encoding)])[0]
        return vector

    def embed_texts(self, texts: Sequence[str], *, cut: bool) -> Sequence[EmbeddedText | None]:
        """See `TextEmbedder.embed_texts`."""
        # Texts of one length go together. Others would need padding, which some models' pooling counts.
        together: defaultdict[int, dict[int, Features]] = defaultdict(dict)
        for index, text in enumerate(texts):
            encoding = self._tokenizer.encode(self.manifest.prefix + text)
            if cut or len(encoding.ids) <= self.max_tokens:
                read = features(encoding, self.max_tokens)
                together[len(read[0])][index] = read
        embedded: list[EmbeddedText | None] = [None] * len(texts)
        for tokens, batch in together.items():
            vectors = self._run(list(batch.values()))
            for index, vector in zip(batch, vectors, strict=True):
                embedded[index] = EmbeddedText(vector, tokens)
        return embedded

    def _run(self, batch: Sequence[Features]) -> NDArray[np.float32]:
        """Vectors of shape (texts, dimensions). Raises ModelError."""
        try:
            vectors: NDArray[np.float32] = self._session.run(None, fed_together(batch, self.manifest.inputs))[
                0
            ]
        except Exception as error:
            raise ModelError(f"the embedding model {self.id} failed: {type(error).__name__}") from error
        lengths = np.linalg.norm(vectors, axis=-1)
        if vectors.shape != (len(batch), self.dimensions) or not (abs(lengths - 1) < _LENGTH_TOLERANCE).all():
            raise ModelError(
                f"the embedding model {self.id} gave a vector that is not of unit length",
                hint="set `cache.embedder` to another model",
            )
        return vectors
