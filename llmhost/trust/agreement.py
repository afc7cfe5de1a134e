"""Do two answers say the same? Pure.

A model words its answer differently each time, so only what can be explained is compared: yes against no,
numbers, opposites, a few words that are the whole answer, and how alike the sentences are to the embedding
model. None: it cannot be told. How often each comes out is measured in docs/trust.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmhost.cache.guards import objections, opposites, read
from llmhost.cache.guards.numbers import SCALES, UNITS, in_digits

__all__ = ["Said", "agree", "answer_similarity", "truncate_to_shorter"]

#: words; of a longer answer, no single number or word says what it comes to
_SHORT = 40
#: words; a shorter answer is too little for the embedding model to call it unlike another, and may be no more
#: than one name in a sentence
_TERSE = 12
#: words that the question did not bring; so few are the answer itself: a name, a translation, a year
_FEW = 3
#: similarity; a fifth of the answers to near-misses are as alike too, and must be told apart by other means
_SAME = 0.8
#: similarity; of the made-up answers to the same question, none over `_TERSE` words was less alike
_OTHER = 0.5
#: similarity; "NYC" and "New York City" have 0.92, "Leonardo da Vinci" and "Michelangelo" 0.71
_OTHER_WORDS = 0.75
#: characters; the embedding model reads 256 tokens, and so much is one thought
_CHUNK = 240
#: chunks; a longer answer is compared by its beginning: each takes some milliseconds
_MOST_CHUNKS = 24
#: share; "384,400 km" and "238,900 miles" are one distance, 124 and 125 million one population
_ROUNDING = 0.01
#: a plain number in here may be a year, of which 1918 is not about 1919
_YEARS = range(1000, 2101)

_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|\n+")
_YES_OR_NO = re.compile(r"\W*(?:(yes|yeah|yep|correct|true)|no|nope|incorrect|false)\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"([$€£₹¥])?\s?(\d[\d,]*(?:\.\d+)?)\s?"
    r"(?:(to|or|-|\u2013)\s?(?=\d)|(%|°[cf]?|km/h|[a-zµ]+)?(?:\s([a-z]+))?)"
)


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, and the question that it was given to."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class _Figure:
    """A number as it stands, times its "million"; with a unit, also its size in the unit's `dimension`."""

    digits: float
    dimension: str
    size: float


def agree(one: Said, other: Said, similarity: float | None) -> bool | None:
    """Whether both answers say the same; None: cannot be told. `similarity`: see `answer_similarity`."""
    if one.answer.split() == other.answer.split():
        return True if one.answer.strip() else None
    short = _most_words(one, other) <= _SHORT
    if {_is_yes(one), _is_yes(other)} == {True, False} or (short and _contradict(one, other, similarity)):
        return False
    if short and _says_all_of(one, other):
        return True
    if similarity is not None and similarity >= _SAME:
        # Answers that look alike may still be refused as two questions are.
        refused = short and any(objection.refuses for objection in objections(one.answer, other.answer))
        return None if refused else True
    lengthy = min(len(one.answer.split()), len(other.answer.split())) >= _TERSE
    return False if similarity is not None and similarity < _OTHER and lengthy else None


def answer_similarity(
    embed: Callable[[str], NDArray[np.float32] | None], one: str, other: str
) -> float | None:
    """How alike two texts are, -1..1: the mean over all their parts of the cosine to the part of the other
    text that is nearest to it. `embed` gives unit vectors; None where there is none of either text.
    """
    ours, theirs = ([v for part in _parts(text) if (v := embed(part)) is not None] for text in (one, other))
    if not ours or not theirs:
        return None
    cosines = np.array(ours) @ np.array(theirs).T
    return float(cosines.max(axis=0).mean() + cosines.max(axis=1).mean()) / 2


def truncate_to_shorter(one: str, other: str) -> tuple[str, str]:
    """Both as far as the shorter one goes: where one was cut off, the rest of the other says nothing."""
    length = min(len(one), len(other))
    return one[:length], other[:length]


def _is_yes(said: Said) -> bool | None:
    """Whether the answer begins with yes, or with no; None: with neither."""
    found = _YES_OR_NO.match(said.answer)
    return None if found is None else bool(found[1])


def _contradict(one: Said, other: Said, similarity: float | None) -> bool:
    """Of two short answers. What follows after yes or no is not what they come to."""
    if _is_yes(one) is not None or _is_yes(other) is not None:
        return False
    objection = opposites.guard(read(one.answer), read(other.answer))
    if objection is not None and objection.refuses:
        return True
    ours, theirs = _figures(one), _figures(other)
    if ours or theirs:
        return _other_figures(ours, theirs)
    return _other_words(one, other, similarity)


def _most_words(one: Said, other: Said) -> int:
    return max(len(one.answer.split()), len(other.answer.split()))


def _other_figures(ours: Sequence[_Figure], theirs: Sequence[_Figure]) -> bool:
    """Whether both measure the same thing and find something else, or have numbers and none in common."""
    measured = {figure.dimension for figure in ours} & {figure.dimension for figure in theirs} - {""}
    if measured:
        return any(_apart(_sizes(ours, what), _sizes(theirs, what)) for what in measured)
    both_count = all(any(not figure.dimension for figure in figures) for figures in (ours, theirs))
    return both_count and not any(_equal(one.digits, other.digits) for one in ours for other in theirs)


def _sizes(figures: Sequence[_Figure], dimension: str) -> list[float]:
    return [figure.size for figure in figures if figure.dimension == dimension]


def _apart(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether two ranges do not touch: "8 to 12 minutes" is no other time than "10 minutes"."""
    low, high = max(min(ours), min(theirs)), min(max(ours), max(theirs))
    return low > high and not _equal(low, high)


def _equal(one: float, other: float) -> bool:
    if one in _YEARS and other in _YEARS:
        return one == other
    return abs(one - other) <= _ROUNDING * max(abs(one), abs(other))


def _figures(said: Said) -> list[_Figure]:
    """The figures that the answer has and the question has not."""
    asked = {figure.digits for figure in _figures_in(said.question)}
    return [figure for figure in _figures_in(said.answer) if figure.digits not in asked]


def _figures_in(text: str) -> list[_Figure]:
    """From the last to the first, as "8 to 12 minutes" has the unit of both behind."""
    found: list[_Figure] = []
    scale, dimension, factor = 1.0, "", 1.0
    for sign, digits, until, after, following in reversed(_NUMBER.findall(in_digits(text.lower()))):
        if not until:
            scale = SCALES.get(after, 1.0)
            dimension, factor = UNITS.get(sign or (following if after in SCALES else after), ("", 1.0))
        number = float(digits.replace(",", "")) * scale
        found.append(_Figure(number, dimension, number * factor))
    return found


def _other_words(one: Said, other: Said, similarity: float | None) -> bool:
    """Whether each comes to a few words that its question has not, and none of them is the other's."""
    ours, theirs = _own_words(one), _own_words(other)
    few = 0 < len(ours) <= _FEW and 0 < len(theirs) <= _FEW and _most_words(one, other) <= _TERSE
    return few and not ours & theirs and similarity is not None and similarity < _OTHER_WORDS


def _says_all_of(one: Said, other: Said) -> bool:
    """Whether one consists of a few words, and the other, in a sentence, has all of them."""
    ours, theirs = sorted((_own_words(one), _own_words(other)), key=len)
    return 0 < len(ours) <= _FEW and ours <= theirs


def _own_words(said: Said) -> frozenset[str]:
    return read(in_digits(said.answer.lower())).content - read(in_digits(said.question.lower())).content


def _parts(text: str) -> Iterator[str]:
    """The text's sentences, short ones together, long ones in pieces."""
    part, number = "", 0
    for sentence in _SENTENCE_END.split(text):
        for start in range(0, len(sentence), _CHUNK):
            piece = sentence[start : start + _CHUNK].strip()
            if part and len(part) + len(piece) >= _CHUNK:
                yield part
                part, number = "", number + 1
                if number == _MOST_CHUNKS:
                    return
            part = f"{part} {piece}".strip()
    if part:
        yield part
