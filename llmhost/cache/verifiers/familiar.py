"""Whether a text is of the kind that the built-in verifier has learnt from: questions in English. Pure."""

from __future__ import annotations

import unicodedata

from llmhost.cache.guards import languages
from llmhost.cache.guards.wording import read

__all__ = ["is_familiar"]

#: share of the letters; a foreign name or a Greek letter in an English question does not make it foreign
_FOREIGN = 0.2

#: words with accents; English borrows a few, as "résumé". More are foreign, from this share of the words on.
_BORROWED = 1
_ACCENTED = 0.25

#: Marks of code, and their share of the text's characters; a question about code has more words.
_MARKS = frozenset("(){}[]<>=;|&$\\`")
_CODE = 0.1

#: A sentence in no language but one.
_ENGLISH = read("What is the best way to do this and why should I?")


def is_familiar(text: str) -> bool:
    """False for a text without letters or in letters that are not Latin, for code and formulas, and where
    accents or common words tell of another language. A few plain words of another language are not noticed.
    """
    if not _is_latin(text) or _is_accented(text) or _is_code(text):
        return False
    return languages.guard(read(text), _ENGLISH) is None


def _is_latin(text: str) -> bool:
    letters = [letter for letter in text if letter.isalpha()]
    latin = sum(letter.isascii() or "LATIN" in unicodedata.name(letter, "") for letter in letters)
    return latin > (1 - _FOREIGN) * len(letters)


def _is_accented(text: str) -> bool:
    if text.isascii():
        return False
    words = text.split()
    accented = sum(any(letter.isalpha() and not letter.isascii() for letter in word) for word in words)
    return accented > _BORROWED and accented >= _ACCENTED * len(words)


def _is_code(text: str) -> bool:
    return sum(character in _MARKS for character in text) >= _CODE * len(text)
