"""Guard: one asks about what is, the other about what is not."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Literal

from llmhost.cache.guards.antonyms import OPPOSITES
from llmhost.cache.guards.corrections import correction
from llmhost.cache.guards.stems import stem, words
from llmhost.cache.guards.word_lists import english
from llmhost.cache.guards.wording import FILLERS, NEGATORS, Wording, overlap
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard", "is_negated"]

NAME = "negation"

Polarity = Literal["negated", "partly", "plain"]

#: Stems, one of which may stand for a negator of the other text.
_IMPLICIT = english("implicit negation")
_HARDLY = frozenset({"hardly", "barely", "scarcely", "rarely"})
_PREFIXES = ("un", "non", "dis", "in", "im", "il", "ir", "mis")
#: Words after which "not", "no" and "never" negate nothing.
_EMPTY_BEFORE = words("or if whether why better")
_EMPTY_AFTER = words("only just matter doubt longer")
#: "Isn't it", "don't you think": a question that expects yes asks the same.
_AUXILIARIES = words(
    "is are was were be am do does did has have had can could will would should shall might must"
)
#: overlap; from here a negation is all that may tell them apart
_ALIKE = 0.75
#: overlap; enough where the very word that one negates stands in the other
_TURNED = 0.55
_ASKING_BACK = {("is", "it"), ("was", "it"), ("do", "you"), ("is", "there")}
_INVITED = words("we you i")


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when one side only says "not" in any way; only doubts where the other may say it otherwise."""
    ours, theirs = _polarity(question), _polarity(stored)
    said = {correction(question, stored), correction(stored, question)}
    if "against" in said:
        return Objection(NAME, "one takes back what the other asks about")
    if ours == theirs or "surely" in said:
        return None
    negated, other = (question, stored) if ours == "negated" else (stored, question)
    if "negated" not in (ours, theirs):
        return None
    if _polarity(other) == "partly" or _says_not_otherwise(negated, other):
        return Objection(NAME, "one is negated, the other perhaps in other words", refuses=False)
    if "perhaps" in said:
        return Objection(NAME, 'one says "no", perhaps to correct itself', refuses=False)
    alike = overlap(question, stored)
    place, negator = next((at, word) for at, word in enumerate(negated.words) if word in NEGATORS)
    turned = next((stem for stem in negated.stems[place + 1 :] if stem not in FILLERS), "")
    refuses = alike >= _ALIKE or (alike >= _TURNED and turned in other.stem_set)
    return Objection(NAME, f'only one says "{negator}"', refuses)


def is_negated(wording: Wording) -> bool:
    """Whether the text says "not", plainly."""
    return _polarity(wording) == "negated"


@lru_cache(maxsize=128)
def _polarity(wording: Wording) -> Polarity:
    if wording.word_set.isdisjoint(NEGATORS):
        return "plain"
    weights = [_weight(wording, place) for place, word in enumerate(wording.words) if word in NEGATORS]
    return "negated" if 2 in weights else "partly" if 1 in weights else "plain"


def _weight(wording: Wording, place: int) -> int:
    """2 when the word there negates, 1 when it may, 0 when it does not."""
    words = wording.words
    before = words[place - 1] if place else ""
    after = words[place + 1] if place + 1 < len(words) else ""
    if words[place] == "no" and (not after or before in {"yes", "or"} or after.isdecimal()):
        return 0
    if before in _EMPTY_BEFORE or (
        after in _EMPTY_AFTER and words[place] in {"not", "no"} and after != "longer"
    ):
        return 1 if before == "why" else 0
    if words[place] == "not" and before in _AUXILIARIES:
        return _weight_of_asked(wording, place, after)
    return 0 if place - 2 in wording.opening and words[place - 2 : place] in _ASKING_BACK else 2


def _weight_of_asked(wording: Wording, place: int, after: str) -> int:
    """Of an auxiliary with "not": nothing where it opens a yes-or-no question, little in "why don't we"."""
    if place - 1 in wording.opening:
        return 0 if wording.words[place - 1] in {"is", "are", "was", "were", "do", "does", "did"} else 1
    if after in _INVITED | {"it", "they", "he", "she"} and place + 2 == len(wording.words):
        return 0
    if wording.words[place - 2 : place] == ("why", "do") and after in _INVITED:
        return 1
    return 2


def _says_not_otherwise(negated: Wording, other: Wording) -> bool:
    """Whether the other text has a word that may stand for the negator, or the bare word's negative: "not
    good", "bad"."""
    only = other.stem_set - negated.stem_set
    if not _IMPLICIT.isdisjoint(only):
        return True
    if any(
        word == "not" and not only.isdisjoint(OPPOSITES.get(following, ()))
        for word, following in pairwise(negated.stems)
        if following not in other.stem_set
    ):
        return True
    return any(
        word.endswith("less")
        or word in _HARDLY
        or any(
            word.startswith(prefix) and stem(word[len(prefix) :]) in negated.stem_set for prefix in _PREFIXES
        )
        for word in other.word_set - negated.word_set
    )
