"""Where people correct themselves in the middle of a question: "Who was king of Spain, no wait, France?"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from llmhost.cache.guards.stems import stem, words
from llmhost.cache.guards.word_lists import english
from llmhost.cache.guards.wording import FILLERS, NEGATORS, Wording

__all__ = ["correction", "is_corrected"]

#: What is said while one looks for the right word, in any number and order.
_CERTAIN = english("certain corrections")
_PHRASES = "|".join(sorted(map(re.escape, english("corrections") | _CERTAIN), key=len, reverse=True))
_PHRASE = re.compile(rf"(?:{_PHRASES}|no|not (?:\w+ ){{1,3}}?but) ")
_CORRECTION = re.compile(rf"(?<!\S)(?:{_PHRASE.pattern})+")
_NO = words("no not nope")
#: With one of these after it, "no" begins another question.
_BEGINS = words("what who whom whose which when where why how")
#: What a question begins with that is no list of wishes: "pizza with cheese, no onions".
_ASKING = _BEGINS | words(
    "is are was were do does did can could will would should has have had in on at to for of name"
)
#: words after a lone "no" that takes back what is before it
_REST = 2
#: Stems after which a lone "no" negates: "contains no sugar", "with no sugar".
_NEGATED_AFTER = FILLERS | frozenset(map(stem, english("before no")))
#: share of what is said after it that the other has; the rest of a question may be worded otherwise
_SHARED = 0.7


class _Run(NamedTuple):
    """The places of the first word of a correction and of the first one behind it; its words and phrases."""

    start: int
    end: int
    words: list[str]
    phrases: list[str]


def is_corrected(words: Sequence[str], other: Sequence[str]) -> bool:
    """Whether `words` are `other` with something in it that was certainly taken back, word for word."""
    return len(words) > len(other) + 1 and any(_is_certain(run, words, other) for run in _corrections(words))


def _is_certain(run: _Run, words: Sequence[str], other: Sequence[str]) -> bool:
    if len(run.phrases) == 1 and run.phrases[0] not in _CERTAIN:
        return False
    behind = words[run.end :]
    kept = len(other) - len(behind)
    if not behind or not 0 <= kept < run.start or (not kept and behind[0] not in _ASKING):
        return False
    negating = _may_negate(run.words, stem(words[run.start - 1])) and behind[0] not in _BEGINS
    negated = kept and (negating or not NEGATORS.isdisjoint(words[kept : run.start]))
    return not negated and [*words[:kept], *behind] == [*other]


def _may_negate(run: Sequence[str], before: str) -> bool:
    """Whether the "no" that begins a correction may negate: "a clinic with no wait"."""
    return run[0] == "no" and before in _NEGATED_AFTER


def correction(wording: Wording, other: Wording) -> Literal["", "against", "perhaps", "surely"]:
    """What the "no" in `wording` does. "surely" or "perhaps": it takes back what is before it, and `other`
    asks for what is behind it; "against": `other` asks for what it takes back; "": it is no correction.
    """
    runs = _runs(wording)
    if not runs:
        return ""
    start, end, run, _ = runs[-1]
    said = [stem for stem in wording.stems[end:] if stem not in FILLERS]
    before = wording.stems[start - 1] if start else ""
    if not said or any(stem(word) in other.content for word in run if word not in _NO):
        return ""
    marked, begins = len(run) > 1, wording.words[end] in _BEGINS
    if said[0] not in other.stem_set:
        taken_back = marked and before not in FILLERS and before in other.stem_set
        new = not begins and said[0] not in wording.stems[:start]
        return "against" if taken_back and new else ""
    shared = sum(stem in other.stem_set for stem in said)
    whole = other.content.issubset(said)
    rest = wording.words[end:] if whole or len(runs) > 1 else (*wording.words[:start], *wording.words[end:])
    if shared < _SHARED * len(said) or not NEGATORS.isdisjoint(rest):
        return ""
    if begins or whole or before not in other.stem_set:
        negating = _may_negate(run, before)
        if begins or (marked and (whole or not negating)):
            return "surely"
        asks = wording.words[0] in _ASKING and len(wording.words) - end >= _REST
        return "perhaps" if marked or (asks and not negating) else ""
    named = [stem for stem in wording.stems[:start] if stem not in FILLERS]
    return "perhaps" if marked and not other.stem_set.issuperset(named) else ""


@lru_cache(maxsize=128)
def _runs(wording: Wording) -> list[_Run]:
    """The corrections in the text that may be taken for a negation, with words behind the last of them."""
    if _NO.isdisjoint(wording.word_set):
        return []
    runs = [run for run in _corrections(wording.words) if not _NO.isdisjoint(run.words)]
    return runs if runs and runs[-1].end < len(wording.words) else []


def _corrections(words: Sequence[str]) -> list[_Run]:
    text = f"{' '.join(words)} "
    return [
        _Run(
            start=text[: found.start()].count(" "),
            end=text[: found.end()].count(" "),
            words=found[0].split(),
            phrases=[phrase.strip() for phrase in _PHRASE.findall(found[0])],
        )
        for found in _CORRECTION.finditer(text)
    ]
