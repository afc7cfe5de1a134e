"""What is seen in a text before the built-in verifier reads it: acronyms to spell out, and whether it is of
the kind that the verifier has learnt from. Pure.
"""

from __future__ import annotations

import re
import unicodedata

from llmhost.cache.guards import languages
from llmhost.cache.guards.stems import words
from llmhost.cache.guards.word_lists import sections
from llmhost.cache.guards.wording import read

__all__ = ["in_distribution", "spelt_out"]

_ACRONYM = re.compile(r"\b[A-Z]{2,6}\b")
_WORD = re.compile(r"[^\W\d_]+")
#: Words that an acronym seldom counts, and with which it never begins or ends.
_SMALL = words("a an and as at by for from in is of on or the to with my your our his her")
#: Meanings of acronyms of two letters; those of longer ones are found by their initials.
_TWO_LETTERS = dict(entry.split(" = ") for entry in sections("english")["acronyms"])
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


def spelt_out(one: str, other: str) -> tuple[str, str]:
    """Both wordings; an acronym of one whose words stand in the other, in this order, is replaced by them:
    "Explain ML" beside "What is machine learning?". A small verifier knows few acronyms.
    """
    return _spelt(one, other), _spelt(other, one)


def _spelt(text: str, beside: str) -> str:
    if not _ACRONYM.search(text):
        return text
    named = _WORD.findall(beside)
    return _ACRONYM.sub(lambda found: _words_for(found[0], named, beside) or found[0], text)


def _words_for(acronym: str, named: list[str], beside: str) -> str | None:
    if len(acronym) == 2:
        meaning = _TWO_LETTERS.get(acronym.lower())
        return meaning if meaning and meaning in beside.lower() else None
    runs = (_initialled(acronym.lower(), named[begin:]) for begin in range(len(named)))
    return next((" ".join(run) for run in runs if run), None)


def _initialled(letters: str, named: list[str]) -> list[str] | None:
    """The first of the words whose initials are the letters; small ones between them need not count."""
    taken: list[str] = []
    rest = letters
    for word in named:
        small = word.lower() in _SMALL
        if rest and word[0].lower() == rest[0] and not (small and rest in (letters, letters[-1])):
            rest = rest[1:]
        elif not (small and taken):
            return None
        taken.append(word)
        if not rest:
            return taken
    return None


def in_distribution(text: str) -> bool:
    """Whether the text is like what the built-in verifier has learnt from: questions in English. False
    without letters or in letters that are not Latin, for code and formulas, and where accents or common words
    tell of another language. A few plain words of another language are not noticed.
    """
    letters = [letter for letter in text if letter.isalpha()]
    latin = sum(letter.isascii() or "LATIN" in unicodedata.name(letter, "") for letter in letters)
    if latin <= (1 - _FOREIGN) * len(letters) or _is_accented(text):
        return False
    if sum(character in _MARKS for character in text) >= _CODE * len(text):
        return False
    return languages.guard(read(text), _ENGLISH) is None


def _is_accented(text: str) -> bool:
    if text.isascii():
        return False
    tokens = text.split()
    accented = sum(any(letter.isalpha() and not letter.isascii() for letter in word) for word in tokens)
    return accented > _BORROWED and accented >= _ACCENTED * len(tokens)
