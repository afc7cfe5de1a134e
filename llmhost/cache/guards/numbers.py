"""Guard: numbers, with their units, and what is reckoned with them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from llmhost.cache.guards.number_words import in_digits
from llmhost.cache.guards.units import CURRENCY_SIGNS, SCALES, UNITS
from llmhost.cache.guards.wording import Wording, likeness, named
from llmhost.cache.objection import Objection

__all__ = ["NAME", "guard"]

NAME = "numbers"

_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]%])-(?=\d))?(?P<before>(?<!\d)[$€£₹¥]\s?|\b(?:rs|usd|inr|eur|gbp)\b\.?\s?)?"
    r"(?P<value>\d[\d,]*(?:\.\d+)*)(?P<rank>st|nd|rd|th)?(?P<gap>\s?-?)(?P<after>[%$€£₹¥]|°[cf]?|per ?cent|km/h|[a-zµ]+)?"
)
_OPERATORS = {
    "+": "+",
    "plus": "+",
    "-": "-",
    "−": "-",
    "minus": "-",
    "*": "*",
    "x": "*",
    "×": "*",
    "times": "*",
    "multiplied by": "*",
    "/": "/",
    "÷": "/",
    "divided by": "/",
    "over": "/",
    "^": "^",
    "**": "^",
    "to the power of": "^",
    "mod": "%",
    "modulo": "%",
}
_OPERATION = re.compile(
    rf"\d\)?\s*({'|'.join(map(re.escape, sorted(_OPERATORS, key=len, reverse=True)))})\s*(?=\(?-?\d)"
)
_ORDERED = frozenset("-/^%")
#: "Is 7 prime?", "log 5": the number is what is asked about.
_ABOUT_NUMBERS = frozenset(
    "prime sqrt square cube root factorial log sin cos tan divisible multiple factor percent percentage plus minus "
    "times binary hexadecimal hex decimal convert sum integral derivative solve calculate compute round".split()
)
#: One-sided, these are often no more than talk: "in a 30 day trial".
_COMMON = frozenset({"time", "months", "data"})
#: Signs that also write dates and ranges are not among these.
_RECKONING = frozenset("+*^%")
#: Units of one letter that people write with a space before them.
_SPACED = frozenset("%$€£₹¥mgl")
#: "4G" is a generation of telephones.
_GENERATIONS = frozenset("2345")
#: likeness; below it two texts have hardly anything in common but may ask the same in other words
_UNLIKE = 0.25
#: likeness; from here a number on one side only is no part of another wording
_ALIKE = 0.6


@dataclass(frozen=True, slots=True)
class Number:
    """`digits` is the number as it stands, `size` what it comes to in the base unit of `dimension` ("" for none)."""

    digits: str
    dimension: str
    size: float | str
    shown: str


@dataclass(frozen=True, slots=True)
class _Figures:
    numbers: tuple[Number, ...]
    operators: tuple[str, ...]


_NONE = _Figures((), ())


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses other numbers, other units of the same number and other reckoning. A number on one side only is
    refused where it is what is asked about, and doubted elsewhere.
    """
    ours, theirs = _figures(question), _figures(stored)
    if not ours.numbers and not theirs.numbers:
        return None
    return _other_numbers(question, stored) or _other_reckoning(ours, theirs)


def _other_numbers(question: Wording, stored: Wording) -> Objection | None:
    alike = likeness(question, stored)
    ours, theirs = _unmatched(_figures(question).numbers, _figures(stored).numbers)
    if ours and theirs:
        one, other = (named({number.shown for number in numbers}) for numbers in (ours, theirs))
        return Objection(
            NAME, f"one asks about {one}, the other about {other}", refuses=alike >= _enough(question, ours)
        )
    if not (rest := ours or theirs):
        return None
    side = question if ours else stored
    words = f"only one says {named({number.shown for number in rest})}"
    return Objection(
        NAME, words, refuses=alike >= _ALIKE and any(_is_asked_about(number, side) for number in rest)
    )


def _unmatched(ours: tuple[Number, ...], theirs: tuple[Number, ...]) -> tuple[list[Number], list[Number]]:
    """What each says that the other does not. A number without a unit matches the same digits with one."""
    here = [number for number in ours if not any(_equal(number, other) for other in theirs)]
    there = [number for number in theirs if not any(_equal(number, other) for other in ours)]
    return here, there


def _equal(one: Number, other: Number) -> bool:
    if _is_short_year(one.digits, other.digits) or _is_short_year(other.digits, one.digits):
        return True
    if one.dimension == other.dimension:
        return one.size == other.size
    return one.digits == other.digits and not (one.dimension and other.dimension)


def _is_short_year(year: str, short: str) -> bool:
    """2016 is '16."""
    return len(year) == 4 and year[:2] == "20" and len(short) == 2 and year[2:] == short


def _enough(question: Wording, unmatched: list[Number]) -> float:
    """The likeness at which other numbers refuse: more where one lists several and the other has some of them."""
    numbers = len(_figures(question).numbers)
    return _ALIKE if numbers > max(len(unmatched), 2) else _UNLIKE


def _is_asked_about(number: Number, side: Wording) -> bool:
    if number.digits == "1":
        return False
    measured = bool(number.dimension) and number.dimension not in _COMMON
    return (
        measured
        or not _RECKONING.isdisjoint(_figures(side).operators)
        or not _ABOUT_NUMBERS.isdisjoint(side.word_set)
    )


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
    text = in_digits(wording.text)
    if not any(letter.isdecimal() for letter in text):
        return _NONE
    operators = tuple(_OPERATORS[found.group(1)] for found in _OPERATION.finditer(text))
    return _Figures(tuple(_number(found, text) for found in _NUMBER.finditer(text)), operators)


def _number(found: re.Match[str], text: str) -> Number:
    sign, value = found["sign"], found["value"].replace(",", "")
    if sign and text[: found.start()].rstrip()[-1:].isdecimal():
        sign = None
    if value.count(".") > 1:
        return Number(value, "", value, value)
    before = (found["before"] or "").strip(" .")
    scale, unit, shown = _unit(found, text)
    dimension, factor = UNITS[before or unit] if before or unit else ("", 1.0)
    whole, _, decimals = value.partition(".")
    digits = f"{'-' if sign else ''}{int(whole)}{'.' + decimals if decimals.strip('0') else ''}"
    size: float | str = digits
    if dimension or scale != 1:
        digits = f"{float(digits) * scale:.9g}"
        size = float(f"{float(digits) * factor:.6g}")
    else:
        size = digits
    if not dimension:
        size = digits
    return Number(digits, dimension, size, shown)


def _unit(found: re.Match[str], text: str) -> tuple[float, str, str]:
    """How often the number counts, its unit ("" for none), and both as they stand."""
    after, scale, end = found["after"] or "", 1.0, found.end("value")
    if after in SCALES and (after == "k" or len(after) > 1):
        scale, end = SCALES[after], found.end("after")
        following = _FOLLOWING.match(text, end)
        after = following[1] if following else ""
        gap = True
    else:
        gap = bool(found["gap"])
    if after in {"per cent", "percent"}:
        after = "percent"
    if after not in UNITS or (len(after) == 1 and gap and after not in _SPACED):
        after = ""
    if after == "g" and not gap and found["value"] in _GENERATIONS:
        after = ""
    start = found.start("before") if found["before"] else found.start()
    shown = text[start:end].strip()
    return scale, after, f"{shown} {after}" if after else shown


_FOLLOWING = re.compile(r"\s([a-z%]+)")
assert CURRENCY_SIGNS <= UNITS.keys()  # noqa: S101
