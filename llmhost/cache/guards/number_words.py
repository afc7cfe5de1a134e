"""Numbers that are written in words or as Roman numerals, brought to digits."""

from __future__ import annotations

import re

__all__ = ["in_digits"]

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = (
    "third=3 fourth=4 fifth=5 sixth=6 seventh=7 eighth=8 ninth=9 tenth=10 eleventh=11 twelfth=12 "
    "thirteenth=13 fourteenth=14 fifteenth=15 sixteenth=16 seventeenth=17 eighteenth=18 nineteenth=19 "
    "twentieth=20 thirtieth=30 fortieth=40 fiftieth=50 sixtieth=60 hundredth=100"
)
_VALUES = {
    **{word: value for value, word in enumerate(_ONES.split())},
    **{word: 10 * tens for tens, word in enumerate(_TENS.split(), start=2)},
}
_GROUPS = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_RANKS = {word: int(value) for word, _, value in (row.partition("=") for row in _ORDINALS.split())}

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
        text = _ROMAN.sub(lambda found: str(_roman(found.group())), text)
    lower = text.lower().replace("covid-19", "covid")
    if not _HINT.search(lower):
        return lower
    lower = _RANK.sub(lambda found: f"{_RANKS[found.group()]}th", lower)
    return _SPELLED.sub(lambda found: _digits(found.group()), lower)


def _roman(numeral: str) -> int:
    values = [_ROMAN_VALUES[letter] for letter in numeral]
    following = [*values[1:], 0]
    return sum(-value if value < after else value for value, after in zip(values, following, strict=True))


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
