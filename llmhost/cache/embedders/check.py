"""Whether an exported model still says what sentence-transformers says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.cache.contracts import Embedder
from llmhost.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TEXTS", "Agreement", "compare"]

#: Lowest cosine similarity between an exported model's vector and the original's. Decisions are taken at
#: steps of 0.01, and two vectors this close differ in any similarity by at most 0.045, mostly far less.
MIN_COSINE = 0.999
#: A model that can read fewer of the texts than this has not been checked.
MIN_COMPARED = 12

TEXTS: tuple[str, ...] = (
    "",
    " ",
    "?",
    "a",
    "42",
    "Hello",
    "What is artificial intelligence?",
    "Explain machine learning briefly",
    "What is machine learning in simple terms?",
    "How do you bake a chocolate cake?",
    "How do I enable dark mode?",
    "How do I disable dark mode?",
    "Is it safe to take ibuprofen with aspirin?",
    "WHY IS EVERYTHING IN CAPITALS, AND DOES IT MATTER?",
    "What is 17 * 23, and what is 3.14159 / 2.71828?",
    "for i in range(10):\n    print(f'{i} squared is {i ** 2}')",
    "SELECT name, count(*) FROM users WHERE age >= 18 GROUP BY name;",
    '{"model": "x", "stream": true, "options": {"temperature": 0.0}}',
    "https://example.org/a/b?c=d&e=f#g",
    "Où se trouve la bibliothèque, s'il vous plaît ?",
    "Wie groß ist der Unterschied zwischen süß und süss?",
    "¿Cuántos años tiene el niño pequeño?",
    "Сколько времени занимает дорога до Москвы?",
    "日本 の 人口",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "tabs\tand\nnew lines\r\nand   many    spaces",
    "The same words again. " * 8,
    "A worker is ready when its model is loaded and a short answer came back through the front door. " * 3,
    "Plants take in light, water and carbon dioxide, and make sugar and oxygen from them. " * 10,
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many texts were compared, and the lowest cosine similarity among them."""

    texts: int
    lowest_cosine: float


def compare(
    embedder: Embedder, reference: Callable[[Sequence[str]], NDArray[np.float32]], name: str
) -> Agreement:
    """Compares the embedder on `TEXTS` with `reference`, which gives one row of unit length a text.

    Raises:
        ModelError: they differ, or the embedder cannot read most of the texts.
    """
    vectors = {text: vector for text in TEXTS if (vector := embedder.embed(text)) is not None}
    if len(vectors) < MIN_COMPARED:
        raise _unusable(f"reads only {len(vectors)} of {len(TEXTS)} short texts", name)
    expected = reference(list(vectors))
    lowest = min(float(ours @ theirs) for ours, theirs in zip(vectors.values(), expected, strict=True))
    # Written so that a vector of no numbers fails too.
    if not lowest >= MIN_COSINE:
        raise _unusable(
            f"exported to ONNX, differs from the original: cosine {lowest:.4f}, needed {MIN_COSINE}", name
        )
    return Agreement(len(vectors), lowest)


def _unusable(problem: str, name: str) -> ModelError:
    return ModelError(f"the embedding model {name}, {problem}", hint="set `cache.embedder` to another model")
