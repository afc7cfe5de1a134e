"""Where people correct themselves in the middle of a question: "Who was king of Spain, no wait, France?"."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from llmhost.cache.guards.stems import stem, words
from llmhost.cache.guards.word_lists import english
from llmhost.cache.guards.wording import FILLERS, NEGATORS, Wording

__all__ = ["correction"]

#: What is said while one looks for the right word, in any number and order.
_PHRASES = "|".join(sorted(map(re.escape, english("corrections")), key=len, reverse=True))
_CORRECTION = re.compile(rf"(?<!\S)(?:(?:{_PHRASES}|no|not (?:\w+ ){{1,3}}?but) )+")
_NO = words("no not nope")
#: With one of these after it, "no" begins the question anew.
_ANEW = words("what who whom whose which when where why how")
#: What a question begins with that is no list of wishes: "pizza with cheese, no onions".
_ASKING = _ANEW | words(
    "is are was were do does did can could will would should has have had in on at to for of name"
)
#: words after a lone "no" that takes back what is before it
_REST = 2
#: Stems after which a lone "no" negates: "contains no sugar", "with no sugar".
_NEGATED_AFTER = FILLERS | frozenset(map(stem, english("before no")))
#: share of what is said after it that the other has; the rest of a question may be worded otherwise
_SHARED = 0.7


class _Run(NamedTuple):
    """The places of the first word of a correction and of the first one behind it, and its words."""

    start: int
    end: int
    words: list[str]


def correction(wording: Wording, other: Wording) -> Literal["", "against", "perhaps", "surely"]:
    """What becomes of the "no" in `wording`. "surely" or "perhaps": it takes back what is before it, and
    `other` asks for what is behind it; "against": `other` asks for what it takes back; "": it is no correction.
    """
    runs = _runs(wording)
    if not runs:
        return ""
    start, end, run = runs[-1]
    said = [stem for stem in wording.stems[end:] if stem not in FILLERS]
    before = wording.stems[start - 1] if start else ""
    if not said or any(stem(word) in other.content for word in run if word not in _NO):
        return ""
    marked, anew = len(run) > 1, wording.words[end] in _ANEW
    if said[0] not in other.stem_set:
        taken_back = marked and before not in FILLERS and before in other.stem_set
        new = not anew and said[0] not in wording.stems[:start]
        return "against" if taken_back and new else ""
    shared = sum(stem in other.stem_set for stem in said)
    whole = other.content.issubset(said)
    rest = wording.words[end:] if whole or len(runs) > 1 else (*wording.words[:start], *wording.words[end:])
    if shared < _SHARED * len(said) or not NEGATORS.isdisjoint(rest):
        return ""
    if anew or whole or before not in other.stem_set:
        if anew or marked:
            return "surely"
        asks = wording.words[0] in _ASKING and len(wording.words) - end >= _REST
        return "perhaps" if asks and before not in _NEGATED_AFTER else ""
    named = [stem for stem in wording.stems[:start] if stem not in FILLERS]
    return "perhaps" if marked and not other.stem_set.issuperset(named) else ""


@lru_cache(maxsize=128)
def _runs(wording: Wording) -> list[_Run]:
    """The corrections in the text that may be taken for a negation, with words behind the last of them."""
    if _NO.isdisjoint(wording.word_set):
        return []
    text = f"{' '.join(wording.words)} "
    runs = [
        _Run(text[: found.start()].count(" "), text[: found.end()].count(" "), found[0].split())
        for found in _CORRECTION.finditer(text)
        if not _NO.isdisjoint(found[0].split())
    ]
    return runs if runs and runs[-1].end < len(wording.words) else []
