"""What both exported models, embedder and verifier, do with a text before they read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from llmhost.machine.heavy import np, tokenizers

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["INPUTS", "Features", "features", "fed", "fed_together", "is_unicode", "load_tokenizer"]

#: what a BERT-like model reads
INPUTS = ("input_ids", "attention_mask", "token_type_ids")

_PARSING = Lock()


def load_tokenizer(path: Path) -> Any:
    """The tokenizer in this file, which several threads may use. Raises whatever tokenizers raises.

    The embedder and the verifier that come with llmhost have the same one, and parsing it takes 30 ms, so
    files of the same content are parsed once.
    """
    content = path.read_bytes()
    with _PARSING:
        return _parsed(content)


@lru_cache(maxsize=2)
def _parsed(content: bytes) -> Any:
    return tokenizers.Tokenizer.from_buffer(content)


#: the values of one text for each of `INPUTS`
Features = Sequence[Sequence[int]]


def features(encoding: Any, most: int | None = None) -> Features:
    """Those of one encoding of `tokenizers`; what is over `most` tokens is cut out before the end mark."""
    columns = (encoding.ids, encoding.attention_mask, encoding.type_ids)
    if most is None or len(encoding.ids) <= most:
        return columns
    kept = most - 1 if encoding.special_tokens_mask[-1] else most
    return [[*column[:kept], *column[len(column) - (most - kept) :]] for column in columns]


def fed_together(texts: Sequence[Features], names: Iterable[str] = INPUTS) -> dict[str, NDArray[np.int64]]:
    """A batch of texts that have the same number of tokens, shape (texts, tokens), for these inputs."""
    return {name: np.array([text[INPUTS.index(name)] for text in texts], dtype=np.int64) for name in names}


def fed(encoding: Any, names: Iterable[str] = INPUTS) -> dict[str, NDArray[np.int64]]:
    """One encoding of `tokenizers` as a batch of one, shape (1, tokens), for the inputs of these names."""
    return fed_together([features(encoding)], names)


def is_unicode(text: str) -> bool:
    """Whether there is no lone half of a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
