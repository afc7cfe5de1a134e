"""The run time: a model as ONNX on onnxruntime and tokenizers, with no torch.

Why these settings and no others is in docs/embeddings.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.cache.contracts import EmbeddedText
from llmhost.cache.embedders import exports
from llmhost.cache.model_input import Features, features, fed_together, is_unicode, load_tokenizer
from llmhost.cache.model_session import open_session
from llmhost.errors import ModelError
from llmhost.machine.heavy import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["THREADS", "OnnxEmbedder"]

#: A second thread saves a tenth of a short question's time and a fifth of a long one's; more would take
#: cores from the engine beside it. The vectors do not depend on it.
THREADS = 2
#: How far from 1 a vector's length may be; float32 arithmetic stays under 1e-6.
_LENGTH_TOLERANCE = 1e-3


class OnnxEmbedder:
    """A `TextEmbedder` over a model's folder; raises ModelError where its files are missing or damaged."""

    def __init__(self, folder: Path) -> None:
        self.manifest = exports.read(folder)
        self.id = self.manifest.id
        self.dimensions = self.manifest.dimensions
        self.max_tokens = self.manifest.max_tokens
        try:
            self._tokenizer = load_tokenizer(folder / exports.TOKENIZER)
            self._session = open_session(folder / exports.MODEL, THREADS, optimised=True)
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
