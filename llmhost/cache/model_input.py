"""What both exported models, embedder and verifier, do with a text before they read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["INPUTS", "fed", "is_unicode"]

#: what a BERT-like model reads
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def fed(encoding: Any, names: Iterable[str] = INPUTS) -> dict[str, NDArray[np.int64]]:
    """One encoding of `tokenizers` as a batch of one, shape (1, tokens), for the inputs of these names."""
    features = dict(zip(INPUTS, (encoding.ids, encoding.attention_mask, encoding.type_ids), strict=True))
    return {name: np.array([features[name]], dtype=np.int64) for name in names}


def is_unicode(text: str) -> bool:
    """Whether there is no lone half of a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
