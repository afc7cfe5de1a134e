"""Guard: numbers, with their units, and what is reckoned with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from llmhost.cache.guards.stems import words
from llmhost.cache.guards.word_lists import english, lowered, related, sections
from llmhost.cache.guards.wording import Wording, named, overlap
from llmhost.cache.models import Objection

__all__ = ["NAME", "SCALES", "UNITS", "guard", "in_digits", "only_in", "spelled_numbers"]

NAME = "numbers"
#: Each unit with its dimension and its size in that dimension's base unit. Months are not seconds: none is
#: as long as the next.
UNITS = {
    spelling: (dimension, float(factor))
    for dimension, entries in sections("units").items()
    for factor, spellings in related(entries)
    for spelling in spellings
}
#: Words that multiply the number before them.
SCALES = {
    word: float(factor) for factor, spellings in related(sections("english")["scales"]) for word in spellings
}

_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]%])-(?=\d))?(?P<before>(?<!\d)[$€£₹¥]\s?|\b(?:rs|usd|inr|eur|gbp)\b\.?\s?)?"
    r"(?P<value>\d[\d,]*(?:\.\d+)*)(?P<rank>st|nd|rd|th)?(?P<gap>\s?-?)"
    r"(?P<after>[%$€£₹¥]|°[cf]?|per ?cent|km/h|[a-zµ]+)?"
)
_OPERATORS = {
    **dict.fromkeys(("+", "plus"), "+"),
    **dict.fromkeys(("-", "\u2212", "minus"), "-"),
    **dict.fromkeys(("*", "x", "\u00d7", "times", "multiplied by"), "*"),
    **dict.fromkeys(("/", "÷", "divided by", "over"), "/"),
    **dict.fromkeys(("^", "**", "to the power of"), "^"),
    **dict.fromkeys(("mod", "modulo"), "%"),
}
_OPERATION = re.compile(
    rf"\d\)?\s*({'|'.join(map(re.escape, sorted(_OPERATORS, key=len, reverse=True)))})\s*(?=\(?-?\d)"
)
_ORDERED = frozenset("-/^%")
#: "Is 7 prime?", "log 5": the number is what is asked about.
_ABOUT_NUMBERS = english("about numbers")
#: Dimensions that are often no more than talk where one side has them: "in a 30 day trial"; "" is none.
_COMMON = frozenset({"", "time", "months", "data"})
#: The powers that are written small and high, and in words.
_RAISED = str.maketrans({"\u00b2": "^2", "\u00b3": "^3"})
_POWERS = {"^2": words("square squared"), "^3": words("cubed cubic")}
#: Words that may stand for 1.
_ONE = words("one a an single per")
#: Signs that also write dates and ranges are not among these.
_RECKONING = frozenset("+*^%")
#: Units of one letter that people write with a space before them.
_SPACED = frozenset("%$€£₹¥mgl")
#: "4G" is a generation of telephones.
_GENERATIONS = frozenset("2345")
_FOLLOWING = re.compile(r"\s([a-z%]+)")
#: overlap; below it two texts have hardly anything in common but may ask the same in other words
_UNLIKE = 0.5
#: overlap; from here a number on one side only is no part of another wording
_ALIKE = 0.6


@dataclass(frozen=True, slots=True)
class Number:
    """`digits` is the number as it stands, `size` what it comes to in the base unit of `dimension`."""

    digits: str
    dimension: str
    size: float | str
    shown: str


@dataclass(frozen=True, slots=True)
class _Figures:
    numbers: tuple[Number, ...]
    operators: tuple[str, ...]


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses other numbers, other units of the same number and other reckoning. A number on one side only is
    refused where it is what is asked about, and doubted elsewhere.
    """
    ours, theirs = _figures(question), _figures(stored)
    if not ours.numbers and not theirs.numbers:
        return None
    return _other_numbers(question, stored) or _other_reckoning(ours, theirs)


def _other_numbers(question: Wording, stored: Wording) -> Objection | None:
    alike = overlap(question, stored)
    ours, theirs = _unmatched(question, stored), _unmatched(stored, question)
    if ours and theirs:
        one, other = (named({number.shown for number in numbers}) for numbers in (ours, theirs))
        enough = max(_enough(question, ours), _enough(stored, theirs))
        return Objection(NAME, f"one asks about {one}, the other about {other}", refuses=alike >= enough)
    if alike < _UNLIKE or not (rest := ours or theirs):
        return None
    side = question if ours else stored
    reckons = not _RECKONING.isdisjoint(_figures(side).operators)
    about_numbers = reckons or not _ABOUT_NUMBERS.isdisjoint(side.word_set)
    asked_about = any(
        number.digits != "1" and (about_numbers or number.dimension not in _COMMON) for number in rest
    )
    refuses = alike >= _ALIKE and asked_about
    return Objection(NAME, f"only one says {named({number.shown for number in rest})}", refuses)


def _unmatched(side: Wording, other: Wording) -> list[Number]:
    """What one says and the other does not. A number without a unit matches the same digits with one."""
    return [
        number
        for number in _figures(side).numbers
        if not any(_equal(number, there) for there in _figures(other).numbers)
        and not (number.digits == "1" and not _ONE.isdisjoint(other.word_set))
        and other.word_set.isdisjoint(_POWERS.get(number.shown, ()))
    ]


def only_in(side: Wording, other: Wording) -> set[str]:
    """The digits of the numbers that one says and the other does not."""
    return {number.digits for number in _unmatched(side, other)}


def _equal(one: Number, other: Number) -> bool:
    short, year = sorted((one.digits, other.digits), key=len)
    if len(short) == 2 and len(year) == 4 and year == f"20{short}":  # '16 is 2016
        return True
    if one.dimension == other.dimension:
        return one.size == other.size
    return one.digits == other.digits and not (one.dimension and other.dimension)


def _enough(side: Wording, unmatched: list[Number]) -> float:
    """The overlap at which other numbers refuse: more where one lists several that the other shares."""
    numbers = len(_figures(side).numbers)
    return _ALIKE if numbers > max(len(unmatched), 2) else _UNLIKE


def _other_reckoning(ours: _Figures, theirs: _Figures) -> Objection | None:
    if not ours.operators or not theirs.operators:
        return None
    if ours.operators != theirs.operators:
        return Objection(NAME, "they do other sums with the same numbers")
    order = [number.size for number in ours.numbers] != [number.size for number in theirs.numbers]
    if order and not _ORDERED.isdisjoint(ours.operators):
        return Objection(NAME, "they take the same numbers in another order")
    return None


#: wordings; as many as are kept read
@lru_cache(maxsize=128)
def _figures(wording: Wording) -> _Figures:
    text = in_digits(wording.text.translate(_RAISED))
    if not any(letter.isdecimal() for letter in text):
        return _Figures((), ())
    operators = tuple(_OPERATORS[found.group(1)] for found in _OPERATION.finditer(text))
    return _Figures(tuple(_number(found, text) for found in _NUMBER.finditer(text)), operators)


def _number(found: re.Match[str], text: str) -> Number:
    value = found["value"].replace(",", "")
    if value.count(".") > 1:
        return Number(value, "", value, value)
    scale, unit, shown = _unit(found, text)
    unit = (found["before"] or "").strip(" .") or unit
    whole, _, decimals = value.partition(".")
    # A minus after a digit is an operator, and no sign.
    sign = "-" if found["sign"] and not text[: found.start()].rstrip()[-1:].isdecimal() else ""
    digits = f"{sign}{int(whole)}{'.' + decimals if decimals.strip('0') else ''}"
    if scale != 1:
        digits = f"{float(digits) * scale:.9g}"
    if not unit:
        return Number(digits, "", digits, shown)
    dimension, factor = UNITS[unit]
    return Number(digits, dimension, float(f"{float(digits) * factor:.6g}"), shown)


def _unit(found: re.Match[str], text: str) -> tuple[float, str, str]:
    """How often the number counts, its unit ("" for none), and both as they stand."""
    after, attached, scale, end = found["after"] or "", not found["gap"], 1.0, found.end("value")
    if after in SCALES:
        scale, end = SCALES[after], found.end("after")
        following = _FOLLOWING.match(text, end)
        after, attached = following[1] if following else "", False
    after = "percent" if after.startswith("per") else after
    if after not in UNITS or (len(after) == 1 and not attached and after not in _SPACED):
        after = ""
    if after == "g" and attached and found["value"] in _GENERATIONS:
        after = ""
    raised = "^" if text[: found.start()].endswith("^") else ""
    shown = raised + text[found.start() : end].strip()
    return scale, after, f"{shown} {after}" if after else shown


# Numbers in words and Roman numerals, brought to digits.

_VALUES, _RANKS = (
    {word: int(value) for value, spellings in related(sections("english")[name]) for word in spellings}
    for name in ("cardinals", "ordinals")
)
_GROUPS = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}

_SIMPLE = "|".join(sorted(_VALUES, key=len, reverse=True))
_SPELLED = re.compile(
    rf"\b(?:{_SIMPLE})(?:[ -](?:and )?(?:{_SIMPLE}|hundred|thousand|million|billion))*\b"
    rf"|(?<!\d )\b(?:hundred|thousand|million|billion)\b(?! of)"
)
_RANK = re.compile(rf"\b(?:{'|'.join(sorted(_RANKS, key=len, reverse=True))})\b")
#: Not I, V, X, C, D, M, L alone, nor what may be an abbreviation: MD, CV, DC, MIX.
_ROMAN = re.compile(r"(?<=[a-zA-Z] )(?:II|III|IV|VI{1,3}|IX|XI{1,3}|XIV|XVI{0,3}|XIX|XXI{0,3})\b")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10}
#: What may begin such a word; most questions have none and are spared the search.
_HINT = re.compile(r"\b(?:zero|one|tw|th[ir]|fo[ur]|fi[fv]|six|sev|eig|nin|ten|ele|hun|tho|mil|bil)")


def in_digits(text: str) -> str:
    """`text` in lower case with its numbers in digits. "one" alone is left: it seldom counts."""
    if _ROMAN.search(text):
        text = _ROMAN.sub(lambda found: _roman(found.group()), text)
    lower = text.lower().replace("covid-19", "covid")
    if not _HINT.search(lower):
        return lower
    lower = _RANK.sub(lambda found: f"{_RANKS[found.group()]}th", lower)
    return _SPELLED.sub(lambda found: _digits(found.group()), lower)


def spelled_numbers(text: str) -> Iterator[tuple[int, int, str]]:
    """Where numbers stand in words, from and to, each with its digits; "one" alone seldom counts."""
    lower = lowered(text)
    if not _HINT.search(lower):
        return
    for found in _SPELLED.finditer(lower):
        if (digits := _digits(found.group())) != found.group():
            yield found.start(), found.end(), digits


def _roman(numeral: str) -> str:
    values = [_ROMAN_VALUES[letter] for letter in numeral]
    following = [*values[1:], 0]
    return str(sum(-one if one < after else one for one, after in zip(values, following, strict=True)))


def _digits(spelled: str) -> str:
    if spelled == "one":
        return spelled
    total = current = 0
    for word in re.split(r"[ -]", spelled):
        if word in _GROUPS:
            current = max(current, 1) * _GROUPS[word]
            if _GROUPS[word] > 100:
                total, current = total + current, 0
        elif word != "and":
            current += _VALUES[word]
    return str(total + current)
