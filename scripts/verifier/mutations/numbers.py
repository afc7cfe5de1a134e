"""Another number, year, amount or version."""

from __future__ import annotations

import re
from random import Random

from .text import core, like, lower_first, replace_word, words
from .words import NUMBER_WORDS

__all__ = ["numbers_in", "one_length", "other_number", "two_lengths"]

#: Not inside a word or after a letter: "IMX6" and "24/7" are names.
_DIGITS = re.compile(r"(?<![\w/.,-])\d{1,3}(?:,\d{3})+(?![\w/])|(?<![\w/,])\d{1,7}(?![\w/,]|-\w)")
_WORD = re.compile(rf"\b(?:{'|'.join(NUMBER_WORDS[2:])})\b", re.IGNORECASE)
_ORDINAL = re.compile(r"\b(\d{1,2})(st|nd|rd|th)\b")
_FIRST_YEAR, _LAST_YEAR = 1400, 2100


def other_number(question: str, rng: Random) -> str | None:
    """One number of the question changed."""
    found = [(at, _digits) for at in _DIGITS.finditer(question)]
    found += [(at, _word) for at in _WORD.finditer(question)]
    found += [(at, _ordinal) for at in _ORDINAL.finditer(question)]
    if not found:
        return None
    at, change = rng.choice(found)
    return replace_word(question, at, change(at[0], rng))


def _digits(text: str, rng: Random) -> str:
    value = int(text.replace(",", ""))
    if "," in text:
        return f"{value * rng.choice((2, 3, 5, 10)):,}"
    if _FIRST_YEAR < value < _LAST_YEAR:
        return str(value + rng.choice((-10, -4, -3, -2, -1, 1, 2, 3, 4, 10)))
    if value >= 100:
        return str(rng.choice([value * 2, value * 3, value * 10, value // 2]))
    return str(
        rng.choice([other for other in (value - 2, value - 1, value + 1, value + 2, value + 10) if other > 0])
    )


def _word(text: str, rng: Random) -> str:
    return like(text, rng.choice([word for word in NUMBER_WORDS[2:11] if word != text.lower()]))


def _ordinal(text: str, rng: Random) -> str:
    value = int(text[:-2])
    return ordinal(rng.choice([other for other in (value - 2, value - 1, value + 1, value + 2) if other > 0]))


def ordinal(value: int) -> str:
    """1st, 2nd, 11th ..."""
    if 10 < value % 100 < 14:
        return f"{value}th"
    return f"{value}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(value % 10, 'th') }"


_TASK = re.compile(
    r"(?:How (?:do|can|should|could) (?:I|you|we) |How to |What is the best way to )", re.IGNORECASE
)
#: Restrictions with a number, and the numbers that make sense in each.
_LENGTHS = [
    ("in {n} weeks", (2, 3, 4, 6, 8)),
    ("in {n} days", (2, 3, 5, 7, 10, 30)),
    ("in {n} months", (2, 3, 4, 6, 9)),
    ("within {n} hours", (2, 3, 6, 12, 24)),
    ("for under {n} dollars", (10, 20, 50, 100, 500)),
    ("at the age of {n}", (15, 18, 25, 30, 40, 50)),
    ("if I am {n} years old", (13, 16, 20, 35, 60)),
    ("with a {n} year old", (2, 3, 5, 8, 12)),
    ("with {n} friends", (2, 3, 5, 10)),
    ("with a budget of {n} euros", (50, 100, 300, 1000)),
]


def two_lengths(question: str, rng: Random) -> tuple[str, str] | None:
    """One restriction put in on both sides, with another number in each."""
    if not _task(question):
        return None
    phrase, numbers = rng.choice(_LENGTHS)
    first, second = (phrase.format(n=n) for n in rng.sample(numbers, 2))
    return f"{core(question)} {first}?", f"{core(question)} {second}?"


def one_length(question: str, rng: Random) -> tuple[str, str] | None:
    """One restriction with one number put in on both sides, here in digits, there as a word or in front."""
    if not _task(question):
        return None
    phrase, numbers = rng.choice(_LENGTHS)
    number = rng.choice(numbers)
    spoken = phrase.format(n=NUMBER_WORDS[number] if number < len(NUMBER_WORDS) else number)
    ends = f"{core(question)} {phrase.format(n=number)}?"
    starts = f"{spoken[:1].upper()}{spoken[1:]}, {lower_first(core(question))}?"
    return ends, rng.choice([starts, f"{core(question)} {spoken}?"])


def _task(question: str) -> bool:
    return bool(_TASK.match(question)) and not re.search(r"\d| in ", question)


def numbers_in(question: str) -> set[str]:
    """The numbers of a question, number words as digits."""
    values = {word: str(value) for value, word in enumerate(NUMBER_WORDS) if value > 1}
    return {values.get(word, word) for word in words(question) if word in values or word[0].isdigit()}
