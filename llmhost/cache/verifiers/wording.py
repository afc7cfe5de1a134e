"""Acronyms spelt out, where the other wording has the words: "Explain ML" beside "What is machine learning?".

Pure. A small verifier knows few acronyms, and a pair says by itself which words one stands for.
"""

from __future__ import annotations

import re
import unicodedata

from llmhost.cache.guards import languages
from llmhost.cache.guards.wording import read

__all__ = ["in_distribution", "spelt_out"]

_ACRONYM = re.compile(r"\b[A-Z]{2,6}\b")
_WORD = re.compile(r"[^\W\d_]+")

#: Words that an acronym seldom counts, and with which it never begins or ends.
_SMALL = frozenset(
    "a an and as at by for from in is of on or the to with my your our his her".split()  # noqa: SIM905
)

#: Two letters begin many pairs of words that have nothing to do with them, so these alone are taken.
_OF_TWO = {
    "AI": "artificial intelligence",
    "AR": "augmented reality",
    "DB": "database",
    "DL": "deep learning",
    "EU": "european union",
    "HR": "human resources",
    "IP": "internet protocol",
    "IQ": "intelligence quotient",
    "IT": "information technology",
    "LA": "los angeles",
    "ML": "machine learning",
    "NY": "new york",
    "NZ": "new zealand",
    "OS": "operating system",
    "PC": "personal computer",
    "PE": "private equity",
    "PR": "public relations",
    "RL": "reinforcement learning",
    "SA": "south africa",
    "TV": "television",
    "UI": "user interface",
    "UK": "united kingdom",
    "UN": "united nations",
    "US": "united states",
    "UX": "user experience",
    "VC": "venture capital",
    "VM": "virtual machine",
    "VR": "virtual reality",
    "WC": "world cup",
}


def spelt_out(one: str, other: str) -> tuple[str, str]:
    """Both wordings; an acronym of one whose words stand in the other, in this order, is replaced by them."""
    return _spelt(one, other), _spelt(other, one)


def _spelt(text: str, beside: str) -> str:
    if not _ACRONYM.search(text):
        return text
    words = _WORD.findall(beside)
    return _ACRONYM.sub(lambda found: _words_for(found[0], words, beside) or found[0], text)


def _words_for(acronym: str, words: list[str], beside: str) -> str | None:
    if len(acronym) == 2:
        meaning = _OF_TWO.get(acronym)
        return meaning if meaning and meaning in beside.lower() else None
    for begin in range(len(words)):
        meant = _run(acronym.lower(), words[begin:])
        if meant:
            return " ".join(meant)
    return None


def _run(letters: str, words: list[str]) -> list[str] | None:
    """The first of `words` whose initials are the letters; small ones between them need not count."""
    taken: list[str] = []
    left = letters
    for word in words:
        small = word.lower() in _SMALL
        if left and word[0].lower() == left[0] and not (small and left in (letters, letters[-1])):
            left = left[1:]
        elif not (small and taken):
            return None
        taken.append(word)
        if not left:
            return taken
    return None


# Whether a text is of the kind that the built-in verifier has learnt from: questions in English. Pure.


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


def in_distribution(text: str) -> bool:
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
