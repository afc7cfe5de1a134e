"""The wording step: what is certainly no difference between two questions is undone before they are compared.

Greetings and thanks, contractions, numbers in words, British and American spellings, blanks and hyphens in a
word, and what somebody takes back in plain words ("Spain, no wait, France"). After it two texts may be equal,
and nothing looks at them any more: so what is only probable, as a typing error, is left to guards and
verifier. For English. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from llmhost.cache.guards.corrections import is_corrected
from llmhost.cache.guards.numbers import spelled_numbers
from llmhost.cache.guards.word_lists import english, read_sections, related

__all__ = ["undone"]

#: characters; longer texts are compared as they are
_LONGEST = 600
#: marks of code, of quotes and of markup, and words about spelling: what is meant is meant letter by letter
_CODE = re.compile(r"[\"`“”«»<>{}\[\]\\|=_@#*]|(?<!\w)'|'(?!\w)|https?:|\b(?:mis)?spel[lt]|\btypo")
_TOKEN = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\d+(?:[.,:/]\d+)*|[^\w\s]", re.UNICODE)
#: what stands between words, an apostrophe aside
_BLANK = re.compile(r"[^\w']+")
_QUESTION = re.compile(r"\w+\W+\w+")
#: words after which a word of politeness is what is asked about: "How do I say thanks"
_ABOUT = re.compile(
    r"(?:\b(?:say|saying|says|said|mean|means|word|words|phrase|write|spell|pronounce|than|and|or|to|of|in|not|"
    r"with|for|without|a|an|the|is|are|by|about|saying|called|from|on|your|my|us|reply|answer|sign|respond))$"
)
_PERCENT = re.compile(r"(?<=\d)\s?%")
#: letters by which two spellings of a word differ in length
_MOST_APART = 3


def undone(question: str, stored: str) -> tuple[str, str]:
    """Both texts without what is certainly no difference. Of a text by itself only what says nothing is left
    out; all else is written as in the other text."""
    if question == stored or max(len(question), len(stored)) > _LONGEST:
        return question, stored
    if not (question.isprintable() and stored.isprintable()):  # what cannot be seen is the guards' affair
        return question, stored
    if _CODE.search(question) or _CODE.search(stored):
        return question, stored
    one, other = _bare(question), _bare(stored)
    if is_corrected(_words(one), _words(other)):
        return other, other
    if is_corrected(_words(other), _words(one)):
        return one, one
    for step in (_with_phrases, _in_one_spelling):
        if _words(one) == _words(other):
            break
        one, other = step(one, other), step(other, one)
    return one, other


@lru_cache(maxsize=256)
def _bare(text: str) -> str:
    """The text without greetings and thanks, with contractions written out."""
    text = " ".join(text.replace("\u2019", "'").split())
    bare = _without_ends(text)
    if not _forms().keys().isdisjoint(_BLANK.split(bare.lower())):
        bare = _short_forms().sub(lambda found: _written_out(found[0]), bare)
    bare = bare.replace(" per cent", " percent")
    return " ".join(bare.split())


def _without_ends(text: str) -> str:
    """Without what is said before and after a question; all of it where nothing else would be left."""
    opening, ending = _patterns("openings", r"(?:{})\s*"), _patterns("endings", r"\s*(?:{})\W*$")
    bare = text
    while (found := opening.match(bare)) and found.end():
        bare = bare[found.end() :].lstrip(" ,.!:;-")
    while (found := ending.search(bare)) and not _ABOUT.search(bare[: found.start()].lower()):
        mark = "?" if "?" in found[0] or bare.endswith("?") else ""
        bare = bare[: found.start()].rstrip(" ,;-") + mark
        if found.start() == 0:
            break
    return bare if _QUESTION.search(bare) else text


@cache
def _sections() -> Mapping[str, tuple[str, ...]]:
    return read_sections(Path(__file__).parent / "rewordings.txt")


@cache
def _patterns(section: str, frame: str) -> re.Pattern[str]:
    return re.compile(frame.format("|".join(_sections()[section])), re.IGNORECASE)


@cache
def _forms() -> dict[str, str]:
    """Each contraction and short form, with what it stands for; of "dont", with its apostrophe."""
    entries = (*sorted(english("contractions")), *_sections()["short forms"])
    return {
        short: f"{short[:-1]}'t" if short.endswith("nt") else " ".join(words)
        for short, words in related(entries)
        if not short.endswith("n't")
    }


@cache
def _short_forms() -> re.Pattern[str]:
    forms = "|".join(sorted(map(re.escape, _forms()), key=len, reverse=True))
    # ASCII: else "İ" is to `re` the letter "i", and what it finds is not in the list
    return re.compile(rf"(?<![\w'-])(?ai:{forms})(?![\w'-])")


def _written_out(short: str) -> str:
    lower = short.lower()
    if lower == "u" and short != "u":  # a letter, as in "U of T"
        return short
    words = _forms()[lower]
    return words[:1].upper() + words[1:] if short[:1].isupper() else words


# What is said in several words


def _with_phrases(text: str, other: str) -> str:
    """With another spelling of a phrase, and numbers in words, as the other text writes them."""
    lower, theirs = f" {text.lower()} ", f" {other.lower()} "
    for entry in _sections()["spellings"]:
        spellings = entry.split(" = ")
        here = next((one for one in spellings if f" {one}" in lower and f" {one}" not in theirs), None)
        there = next((one for one in spellings if f" {one}" in theirs), None)
        if here and there and there == spellings[0]:
            text = re.sub(
                rf"(?<![\w-])(?:from )?{re.escape(here)}(?![\w-])", there, text, flags=re.IGNORECASE
            )
    if "percent" in theirs:
        text = _PERCENT.sub(" percent", text)
    numbers = {token.lower for token in _tokens(other)}
    for start, end, digits in reversed(list(spelled_numbers(text))):
        if digits in numbers:
            text = text[:start] + digits + text[end:]
    return text


# Words


class _Token(NamedTuple):
    """`lower` in small letters. `opens`: it begins a sentence, where a capital says nothing."""

    text: str
    lower: str
    start: int
    end: int
    opens: bool

    @property
    def is_name(self) -> bool:
        """Whether it may be a name by its capital."""
        return not self.opens and self.text[:1].isupper()


@lru_cache(maxsize=256)
def _tokens(text: str) -> tuple[_Token, ...]:
    tokens, opens = [], True
    for found in _TOKEN.finditer(text):
        word = found[0]
        tokens.append(_Token(word, word.lower(), found.start(), found.end(), opens))
        opens = word in ".?!:"
    return tuple(tokens)


def _words(text: str) -> tuple[str, ...]:
    """The words and numbers of a text, in small letters."""
    return tuple(token.lower for token in _tokens(text) if token.text[0].isalnum())


def _in_one_spelling(text: str, other: str) -> str:
    """With each word that the other text has in another spelling written as there."""
    theirs = [token for token in _tokens(other) if token.text[0].isalpha()]
    ours = [token for token in _tokens(text) if token.text[0].isalpha()]
    here = {token.lower for token in ours}
    if all(token.lower in here for token in theirs):
        return text
    replaced = dict(_replacements(ours, theirs))
    for start, end in sorted(replaced, reverse=True):
        text = text[:start] + replaced[start, end] + text[end:]
    return text


def _replacements(ours: Sequence[_Token], theirs: Sequence[_Token]) -> Iterator[tuple[tuple[int, int], str]]:
    """The places of words that the other text writes otherwise, with its spelling."""
    here, there = {token.lower for token in ours}, {token.lower for token in theirs}
    missing = {token.lower: token for token in theirs if token.lower not in here}
    by_letter: dict[str, list[_Token]] = {}
    for one in missing.values():
        by_letter.setdefault(one.lower[0], []).append(one)
    for token, following in zip(ours, [*ours[1:], None], strict=False):
        joined = missing.get(_together(token, following))
        if following and joined:
            yield (token.start, following.end), joined.text
        elif token.lower in there:
            continue
        else:
            found = [one for one in by_letter.get(token.lower[0], ()) if _is_same_word(token, one)]
            if len(found) == 1:
                yield (token.start, token.end), found[0].text


def _together(token: _Token, following: _Token | None) -> str:
    """The one word that two might be, with a blank or a hyphen between them; or ""."""
    if following is None or following.start - token.end != 1:
        return ""
    together = token.lower + following.lower
    return together if together in _joined() else ""


@cache
def _joined() -> frozenset[str]:
    """Words that mean the same in two: a green house is no greenhouse, and to re-sign is not to resign."""
    return frozenset(_sections()["joined"])


def _is_same_word(ours: _Token, theirs: _Token) -> bool:
    """Whether a word is certainly that other one, in British spelling."""
    if abs(len(ours.lower) - len(theirs.lower)) > _MOST_APART or ours.is_name or theirs.is_name:
        return False
    return _american(ours.lower) == theirs.lower


@lru_cache(maxsize=4096)
def _american(word: str) -> str:
    """The American spelling of a word, with the endings that it may have."""
    for ending in ("", "s", "ed", "ing", "d", "r", "rs", "able", "ful", "less", "ite", "ites"):
        root = word.removesuffix(ending) if ending else word
        if (root != word or not ending) and root in _british():
            return _british()[root] + ending
    for british, american in (("isation", "ization"), ("ising", "izing"), ("ised", "ized"), ("ises", "izes")):
        if word.endswith(british) and len(word) > len(british) + 3:
            return word.removesuffix(british) + american
    if word.endswith(("ise", "yse")) and len(word) > 6:
        return word[:-2] + "ze"
    for ending in ("lled", "lling", "ller", "llers"):
        if word.endswith(ending) and word.removesuffix(ending) in _sections()["doubled"]:
            return word.removesuffix(ending) + ending[1:]
    return word


@cache
def _british() -> dict[str, str]:
    return dict(entry.split(" = ") for entry in _sections()["british"])
