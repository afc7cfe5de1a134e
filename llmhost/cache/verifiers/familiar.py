"""Whether a text is of the kind that the built-in verifier has learnt from: English. Pure."""

from __future__ import annotations

import unicodedata

__all__ = ["is_familiar"]

#: share of the letters; a foreign name or a Greek letter in an English question does not make it foreign
_FOREIGN = 0.2


def is_familiar(text: str) -> bool:
    """False for a text with no Latin letter at all, and where one letter in five is of another script."""
    if text.isascii():
        return any(character.isalpha() for character in text)
    letters = [character for character in text if character.isalpha()]
    latin = sum("LATIN" in unicodedata.name(letter, "") for letter in letters)
    return latin > (1 - _FOREIGN) * len(letters)
