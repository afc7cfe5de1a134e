"""The wording step: what is certainly no difference between two questions is undone before they are compared.

Greetings and thanks, contractions, self-corrections, amounts and numbers in words, British and American
spellings, blanks and hyphens within a word, and typing errors. Where it is not certain, as in "form" beside
"from", both stay as they are, and guards and verifier decide. For English. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

from llmhost.cache.guards.numbers import spelled_numbers
from llmhost.cache.guards.word_lists import english, known_word, read_sections, related

__all__ = ["undone"]

#: characters; longer texts are compared as they are
_LONGEST = 600
#: marks of code, of quotes and of markup, and words about spelling: what is meant is meant letter by letter
_CODE = re.compile(r"[\"`“”«»<>{}\[\]\\|=_@#*]|(?<!\w)'|'(?!\w)|https?:|\b(?:mis)?spel[lt]|\btypo")
_TOKEN = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\d+(?:[.,:/]\d+)*|[^\w\s]", re.UNICODE)
#: what stands between words, an apostrophe aside
_BLANK = re.compile(r"[^\w']+")
#: words without one of which nothing is corrected
_TAKES_BACK = frozenset(
    ["no", "nope", "wait", "mean", "meant", "sorry", "rather", "actually", "instead", "that"]
)
_TAKES_BACK |= {"correction", "say", "better", "on", "pardon", "me", "oops"}
_QUESTION = re.compile(r"\w+\W+\w+")
#: words after which a word of politeness is what is asked about: "How do I say thanks"
_ABOUT = re.compile(
    r"(?:\b(?:say|saying|says|said|mean|means|word|words|phrase|write|spell|pronounce|than|and|or|to|of|in|not|"
    r"with|for|without|a|an|the|is|are|by|about|saying|called|from|on|your|my|us|reply|answer|sign|respond))$"
)
_MONEY = {"$": "dollars", "€": "euros", "£": "pounds", "₹": "rupees", "¥": "yen"}
_AMOUNT = re.compile(
    r"(?<![\d\w])([$€£₹¥])\s?(\d+(?:,\d{3})*(?:\.\d+)?)(?![\d.,]*\d|,?[$€£₹¥])(?!\s?(?:k|m|bn|thousand|million|billion)\b|\s?[-\u2013])"
)
_PERCENT = re.compile(r"(?<=\d)\s?%")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,]|\.\d)")
#: words that change what they are joined to
_NEVER_JOINED = frozenset(["a", "an", "the", "i", "no", "not", "is", "of", "in", "un", "dis", "to", "or"])
#: letters by which two spellings of a word differ in length
_MOST_APART = 3
#: letters of a word in which a typing error is told from another word
_SHORTEST = 4


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
    for step in (_without_corrections, _with_phrases, _in_one_spelling):
        if _words(one) == _words(other):
            break
        one, other = step(one, other), step(other, one)
    return one, other


@lru_cache(maxsize=256)
def _bare(text: str) -> str:
    """The text without greetings, thanks and pauses, with contractions and thousands in one form."""
    text = " ".join(text.replace("\u2019", "'").split())
    bare = _without_ends(text)
    bare = _pauses().sub(" ", f" {bare} ").strip()
    if not _forms().keys().isdisjoint(_BLANK.split(bare.lower())):
        bare = _short_forms().sub(lambda found: _written_out(found[0]), bare)
    bare = bare.replace(" per cent", " percent")
    bare = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), bare)
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
def _pauses() -> re.Pattern[str]:
    pauses = "|".join(_sections()["pauses"])
    return re.compile(rf",? (?:{pauses})[,.…]*(?= )", re.IGNORECASE)


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
    return re.compile(rf"(?<![\w'-])(?:{forms})(?![\w'-])", re.IGNORECASE)


def _written_out(short: str) -> str:
    lower = short.lower()
    if lower == "u" and short != "u":  # a letter, as in "U of T"
        return short
    words = _forms()[lower]
    return words[:1].upper() + words[1:] if short[:1].isupper() else words


# Self-corrections


def _without_corrections(text: str, other: str) -> str:
    """Without the words that are taken back, where what is left is what the other text says: "in Spain, no
    wait, in France" beside "in France"."""
    wanted = _words(other)
    if len(_words(text)) <= len(wanted) or _TAKES_BACK.isdisjoint(_words(text)):
        return text
    for found in _patterns("corrections", r"\s*(?:{})\s+").finditer(text):
        before, after = _words(text[: found.start()]), _words(text[found.end() :])
        if not before or not after:
            continue
        for kept in range(len(before)):
            if (*before[:kept], *after) == wanted:
                return other
    return text


# What is said in several words


def _with_phrases(text: str, other: str) -> str:
    """With another spelling of a phrase, amounts, and numbers in words as the other text writes them."""
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
    for sign, name in _MONEY.items():
        if f" {name}" in theirs and sign not in theirs:
            text = _AMOUNT.sub(lambda found: f"{found[2]} {_MONEY[found[1]]}", text)
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
    parted = _pairs(theirs)
    for token, following in zip(ours, [*ours[1:], None], strict=False):
        joined = missing.get(_together(token, following))
        if following and joined and known_word(joined.lower):
            yield (token.start, following.end), joined.text
        elif token.lower in there:
            continue
        elif token.lower in parted and not known_word(token.lower):
            yield (token.start, token.end), parted[token.lower]
        else:
            # The first letter is the same, or has changed places with the second.
            alike = [one for letter in {*token.lower[:2]} for one in by_letter.get(letter, ())]
            found = [one for one in alike if _is_same_word(token, one)]
            if len(found) == 1:
                yield (token.start, token.end), found[0].text


def _together(token: _Token, following: _Token | None) -> str:
    """The one word that two might be, with a blank or a hyphen between them; or ""."""
    if following is None or following.start - token.end != 1:
        return ""
    apart = token.lower in _NEVER_JOINED or following.lower == "not"
    return "" if apart else token.lower + following.lower


def _pairs(tokens: Sequence[_Token]) -> dict[str, str]:
    """Each two words that might be one, under that."""
    pairs = ((_together(one, other), f"{one.text} {other.text}") for one, other in pairwise(tokens))
    return {together: words for together, words in pairs if together}


def _is_same_word(ours: _Token, theirs: _Token) -> bool:
    """Whether a word is certainly that other one, in British spelling or with a typing error."""
    if abs(len(ours.lower) - len(theirs.lower)) > _MOST_APART:
        return False
    if _american(ours.lower) == theirs.lower:
        return not (ours.is_name or theirs.is_name)
    one, other = ours.lower, theirs.lower
    if not (one.isascii() and other.isascii() and one.isalpha() and other.isalpha()):
        return False
    if min(len(one), len(other)) < _SHORTEST or ours.text.isupper() != theirs.text.isupper():
        return False
    if (ours.is_name and not theirs.is_name) or not _is_slip(one, other):
        return False
    # Of two words that mean something, neither is a slip of the other; of two that do not, it is not known.
    return known_word(other) and not known_word(one)


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
        if word.endswith(ending) and len(word) > len(ending) + 3:
            return word.removesuffix(ending) + ending[1:]
    return word


@cache
def _british() -> dict[str, str]:
    return dict(entry.split(" = ") for entry in _sections()["british"])


@lru_cache(maxsize=4096)
def _is_slip(one: str, other: str) -> bool:
    """Whether one letter too many, too few, doubled, wrong or exchanged with the next makes one word of the
    other. The first letter is right, unless it is exchanged with the next."""
    if abs(len(one) - len(other)) > 2:
        return False
    if _apart(one, other):
        return True
    return one[0] == other[0] and _apart(_squeezed(one), _squeezed(other))


def _squeezed(word: str) -> str:
    """With each doubled letter once."""
    return "".join(letter for letter, _ in groupby(word))


def _apart(one: str, other: str) -> bool:
    """Whether at most one letter is between them."""
    if len(one) > len(other):
        one, other = other, one
    start = next((at for at, letter in enumerate(one) if letter != other[at]), len(one))
    if len(one) == len(other):
        rest, their_rest = one[start:], other[start:]
        if rest[2:] == their_rest[2:] and rest[:2] == their_rest[1::-1]:
            return True
        return start > 0 and rest[1:] == their_rest[1:]
    return len(other) - len(one) == 1 and start > 0 and one[start:] == other[start + 1 :]
