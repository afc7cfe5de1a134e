"""Guard on the answer's side: two wordings differ in a word that matters, and the stored answer speaks of the
stored one's, or not of the one that is asked about.

The other guards see two questions and must leave "in 2019" on one side, or a thing beside another, to the
verifier. The answer knows more: one that says "kettle" and never "toaster" is no answer about toasters.
"""

from __future__ import annotations

import re
from functools import lru_cache

from llmhost.cache.guards import languages, names, numbers, substitution
from llmhost.cache.guards.stems import stem, words
from llmhost.cache.guards.wording import Wording, named, read
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard"]

NAME = "answer"
#: characters of an answer that are read; what matters is said at its beginning
_READ = 8_000
_WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+")
_BEFORE_VERBS = words(
    "i you we they one people to can could should would will may might must do does did and or not"
)
#: words; a shorter answer, such as "Yes." or "42", need not name what it is about
_TELLS = 12


def guard(question: Wording, stored: Wording, answer: str) -> Objection | None:
    """Refuses where the answer speaks of what only the stored question names, and not of what only this one
    does; and where it is silent about a number or a well-known name that only this one has."""
    spoken = _spoken(answer)
    if len(spoken) < _TELLS or not _is_english(answer):
        return None
    ours, theirs = _marked(question, stored), _marked(stored, question)
    if not ours and not theirs:
        ours, theirs = _replaced(question, stored)
    if not ours or any(_speaks(spoken, thing) for thing in ours):
        return None
    told = {thing[0] for thing in theirs if _speaks(spoken, thing)}
    silent = named(thing[0] for thing in ours)
    if told:
        return Objection(NAME, f"the answer is about {named(told)}, and says nothing of {silent}")
    return None if theirs else Objection(NAME, f"the answer says nothing of {silent}")


@lru_cache(maxsize=128)
def _spoken(answer: str) -> frozenset[str]:
    """The stems and numbers that an answer has."""
    return frozenset(map(stem, _WORD.findall(numbers.in_digits(answer[:_READ]).replace(",", ""))))


@lru_cache(maxsize=128)
def _is_english(answer: str) -> bool:
    return languages.language(read(answer[:_READ])) in ("", "English")


def _speaks(spoken: frozenset[str], thing: tuple[str, ...]) -> bool:
    """Whether one of the spellings of a thing stands in an answer."""
    return any(all(stem(part) in spoken for part in _WORD.findall(one.lower())) for one in thing)


def _replaced(question: Wording, stored: Wording) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """The one thing that was replaced, where nothing else was. What is done has several words: "alter" and
    "modify"."""
    if substitution.guard(question, stored) is None:
        return set(), set()
    (one,), (other,) = question.content - stored.content, stored.content - question.content
    place = question.stems.index(one)
    if place == 0 or question.words[place - 1] in _BEFORE_VERBS:
        return set(), set()
    return {(question.word_of(one),)}, {(stored.word_of(other),)}


def _marked(wording: Wording, other: Wording) -> set[tuple[str, ...]]:
    """What only this text has of the things that an answer to it would name: numbers and names."""
    digits = {(number,) for number in numbers.only_in(wording, other)}
    return digits | names.only_in(wording, other)
