"""Guard: differences of which embedding and verifier see nothing, where they mean something.

Both models read text in small letters, without accents, and with one blank for many. To them `git branch -d`
and `git branch -D` are one text, of which they are as sure as they can be.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from llmhost.cache.guards import languages
from llmhost.cache.guards.quoted import QUOTED
from llmhost.cache.guards.stems import words
from llmhost.cache.guards.word_lists import sections
from llmhost.cache.guards.wording import Wording
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard"]

NAME = "spelling"
_ACRONYMS, _NAMES, _UNITS, _LANGUAGES, _OF_CODE = (
    frozenset(sections("case")[name]) for name in ("acronyms", "names", "units", "languages", "of code")
)
#: words joined as in prose, such as "Wi-Fi", "what's", "U.S" or "node.js"; anything else is code
_PROSE = re.compile(r"[^\W_]+(?:[-'\u2019./&][^\W_]+)*", re.UNICODE)
#: written with signs, and yet names
_NAMES_WITH_SIGNS = words("c++ c# f# .net")
_AMOUNT = re.compile(r"[$€£₹¥]?(?P<number>\d[\d.,]*)(?P<unit>[^\W\d_]*)")
#: Letters that are words, which lazy writers write in either case.
_LETTERS_AS_WORDS = frozenset("ai")
_AROUND = "\"'`\u2018\u2019\u201c\u201d«»()"
_ENDS = ".,?!;:"
#: signs that stand in code and seldom in prose
_CODE = re.compile(r"[\n\"'`\u2018\u2019\u201c\u201d«»\[\]{}<>\\|^$*+=_~@#/]")
#: content words; with fewer, "ram" may be the animal
_CLEAR = 3
#: share of words with a capital from which on capitals are the style of a text, as in a heading
_HEADING = 0.6


@dataclass(frozen=True, slots=True)
class _Token:
    """`opens`: it begins a sentence. `unit`: it is one, after a number."""

    text: str
    opens: bool
    unit: bool


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses where two texts write one thing in another case, with other accents or blanks, and that may
    change what is asked: flags, code, single letters, units, acronyms that are words, quoted text.
    """
    if question.text == stored.text:
        return None
    found = (
        _other_quotes(question, stored)
        or _other_token(question, stored)
        or _other_token(stored, question)
        or _other_blanks(question, stored)
    )
    return Objection(NAME, f"one writes {found[0]}, the other {found[1]}") if found else None


def _other_token(one: Wording, other: Wording) -> tuple[str, str] | None:
    """A token of `one`, and what `other` makes of it."""
    known = {token.text for token in _tokens(other)}
    theirs: dict[str, list[_Token]] = {}
    for token in _tokens(other):
        theirs.setdefault(_folded(token.text), []).append(token)
    for ours in _tokens(one):
        if ours.text not in known:
            for their in theirs.get(_folded(ours.text), ()):
                if _matters(ours, their, one, other):
                    return ours.text, their.text
    return None


def _matters(ours: _Token, theirs: _Token, one: Wording, other: Wording) -> bool:
    """Whether two spellings of the same letters can be two things."""
    here, there = ours.text, theirs.text
    lower = here.lower()
    if lower != there.lower():
        return _accents_matter(here, there, one, other)
    if lower in _NAMES_WITH_SIGNS:
        return False
    if amount := _AMOUNT.fullmatch(lower):
        return _units_matter(here, there, amount["unit"])
    if not _PROSE.fullmatch(here):
        return True
    if ours.unit and theirs.unit:
        return _units_matter(here, there, lower)
    if len(lower) == 1:
        known = lower in _LETTERS_AS_WORDS or (lower in _LANGUAGES and _is_about_code(one, other))
        return not known and not _is_shouted(one) and not _is_shouted(other)
    if (here.isupper() or there.isupper()) and not (_is_shouted(one) or _is_shouted(other)):
        lazy = other if here.isupper() else one
        return lower in _ACRONYMS and not (len(lower) > 2 and _has_no_capitals(lazy))
    return lower in _NAMES and not any(
        (token.opens and token.text != lower) or _says_nothing_by_capitals(text)
        for token, text in ((ours, one), (theirs, other))
    )


def _units_matter(here: str, there: str, unit: str) -> bool:
    """ "5 Mb" and "5 MB" are two amounts; "5 mb" is a lazy way to write one of them."""
    return unit in _UNITS or (here != here.lower() and there != there.lower())


def _is_about_code(one: Wording, other: Wording) -> bool:
    """Whether they speak of programming, where "c" is the language in either case."""
    return not (one.word_set.isdisjoint(_OF_CODE) and other.word_set.isdisjoint(_OF_CODE))


def _accents_matter(here: str, there: str, one: Wording, other: Wording) -> bool:
    """Who writes accents at all means those that are missing; in English they are often left out."""
    if len(here) == 1 or not (here.isascii() or there.isascii()):
        return True
    plain = one if here.isascii() else other
    if any(_is_accented(letter) for letter in plain.text):
        return True
    return not {languages.language(one), languages.language(other)} <= {"", "English"}


def _other_quotes(one: Wording, other: Wording) -> tuple[str, str] | None:
    """Quoted texts that differ in what the models do not see, but for the capitals of titles."""
    ours, theirs = _quotes(one), _quotes(other)
    for here in ours - theirs:
        for there in theirs - ours:
            if _folded(" ".join(here.split())) == _folded(" ".join(there.split())):
                title = here.split(" ") == here.split() and _is_title(here, there)
                if not title:
                    return here, there
    return None


def _is_title(here: str, there: str) -> bool:
    """Whether nothing but first letters of words differ in case."""
    pairs = list(zip(here.split(" "), there.split(" "), strict=False))
    return len(pairs) > 1 and all(a[1:] == b[1:] and a[:1].lower() == b[:1].lower() for a, b in pairs)


def _other_blanks(one: Wording, other: Wording) -> tuple[str, str] | None:
    """The same text with other blanks, and signs in it that say that it may be code."""
    if one.text.split() != other.text.split() or not _CODE.search(one.text):
        return None
    return "its blanks in one way", "in another"


@lru_cache(maxsize=128)
def _tokens(wording: Wording) -> tuple[_Token, ...]:
    return tuple(_read(wording.text))


def _read(text: str) -> Iterator[_Token]:
    opens, number = True, False
    for piece in text.split():
        token = piece.strip(_AROUND).rstrip(_ENDS).strip(_AROUND)
        if token:
            yield _Token(token, opens, number)
        opens = piece.rstrip(_AROUND)[-1:] in _ENDS
        amount = _AMOUNT.fullmatch(token)
        number = amount is not None and not amount["unit"]


@lru_cache(maxsize=128)
def _quotes(wording: Wording) -> frozenset[str]:
    return frozenset(next(filter(None, match.groups())) for match in QUOTED.finditer(wording.text))


#: tokens; those of a question and its candidates
@lru_cache(maxsize=2048)
def _folded(text: str) -> str:
    """The text as the models see it."""
    letters = unicodedata.normalize("NFD", text.lower())
    return "".join(letter for letter in letters if unicodedata.category(letter) != "Mn")


def _is_accented(letter: str) -> bool:
    return not letter.isascii() and letter.isalpha() and _folded(letter) != letter.lower()


def _is_shouted(wording: Wording) -> bool:
    """Whether all is in capitals."""
    return len(wording.written) > 1 and wording.text.upper() == wording.text


def _has_no_capitals(wording: Wording) -> bool:
    """Whether a text that says enough to know an acronym by has none at all."""
    return len(wording.content) >= _CLEAR and wording.text.lower() == wording.text


def _says_nothing_by_capitals(wording: Wording) -> bool:
    """Whether it has no capitals at all, or has them as a heading has."""
    capital = sum(word[:1].isupper() for word in wording.written)
    return not capital or capital > _HEADING * len(wording.written)
