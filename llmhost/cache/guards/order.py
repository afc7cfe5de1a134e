"""Guard: the same two things the other way round, where it matters which comes first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

from llmhost.cache.guards.stems import stem, words
from llmhost.cache.guards.word_lists import english
from llmhost.cache.guards.wording import FILLERS, Wording, overlap
from llmhost.cache.models import Objection

__all__ = ["NAME", "are_swapped", "guard"]

NAME = "order"
#: With these in it, a question asks the same whichever thing is named first. Stems.
_EITHER_WAY = frozenset(map(stem, english("either way")))
_NO_VERBS = FILLERS - {"use"}
_AND = frozenset({"and", "or", "vs", "versus", "nor", "n"})
#: Ask for one of two: for who does it, or for whom it is done to.
_ASKS_FOR = words("who whom what which")
_HELPERS = words("do does did")
#: Left out when the neighbours of a thing are looked at. Stems.
_ARTICLES = words("a an the my your our his her their this that some any")
#: overlap; two things that have changed places leave the rest as it is
_ALIKE = 0.6
#: things; more of them on both sides is a text, not a question
_MOST_THINGS = 40


@dataclass(frozen=True, slots=True)
class _Thing:
    """Where a word stands, and the stems around it; "" at the ends of the text."""

    place: int
    before: str
    after: str


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when two things that both texts name have changed places around a word that has a direction,
    or one asks who does it, the other whom it is done to: "What eats snakes?", "What do snakes eat?".
    """
    verb = _asked_from(question, stored) or _asked_from(stored, question)
    if verb:
        return Objection(NAME, f"one asks who or what {verb}, the other whom or what")
    swapped = _swapped(question, stored)
    return Objection(NAME, f"{swapped[0]} and {swapped[1]} have changed places") if swapped else None


def are_swapped(question: Wording, stored: Wording) -> bool:
    """Whether two things changed places, also around words that differ: "larger than", "smaller than"."""
    return _swapped(question, stored, loosely=True) is not None


def _asked_from(doer: Wording, done: Wording) -> str:
    """The verb that "Who killed Lincoln?" and "Who did Lincoln kill?", or "Who was killed by Lincoln?", ask
    about from its two ends; "" where nothing else than that tells them apart.
    """
    if _ASKS_FOR.isdisjoint(doer.word_set) or not _HELPERS.isdisjoint(doer.word_set):
        return ""
    if doer.content != done.content or "by" in doer.word_set:
        return ""
    ours = [word for word in doer.stems if word not in _ARTICLES]
    theirs = [word for word in done.stems if word not in _ARTICLES]
    if not _HELPERS.isdisjoint(done.word_set):
        return _moved(ours, [word for word in theirs if word != "do"], doer)
    passive = next((place for place in range(1, len(theirs) - 2) if theirs[place] == "be"), 0)
    if not passive or theirs[passive + 2] != "by" or theirs[passive - 1] == "by":
        return ""
    active = [*theirs[:passive], theirs[passive + 1], *theirs[passive + 3 :]]
    return doer.word_of(theirs[passive + 1]) if active == ours else ""


def _moved(ours: list[str], theirs: list[str], wording: Wording) -> str:
    """The one word that says something and stands further back in `theirs`, all others as they are; or ""."""
    place = next((at for at, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other), -1)
    if place < 1 or ours[place] not in wording.content or _ASKS_FOR.isdisjoint(wording.words[: place + 1]):
        return ""
    verb, rest = ours[place], ours[:place] + ours[place + 1 :]
    turned = any([*rest[:at], verb, *rest[at:]] == theirs for at in range(place + 1, len(theirs)))
    return wording.word_of(verb) if turned else ""


#: pairs; two guards ask about each
@lru_cache(maxsize=16)
def _swapped(question: Wording, stored: Wording, loosely: bool = False) -> tuple[str, str] | None:
    """Two things that each stand in one text where the other one stands in the other text, or that kept their
    places while the verb between them was turned: "A affects B", "A is affected by B". `loosely`: the words
    between them may differ.
    """
    if overlap(question, stored) < _ALIKE or not _EITHER_WAY.isdisjoint(question.stem_set | stored.stem_set):
        return None
    ours, theirs = _things(question), _things(stored)
    shared = [thing for thing in ours if thing in theirs]
    if len(shared) > _MOST_THINGS:
        return None
    for one, other in combinations(shared, 2):
        here = _between(question, ours[one].place, ours[other].place)
        if theirs[one].place > theirs[other].place:
            there = _between(stored, theirs[other].place, theirs[one].place)
            fits = _stands_for(ours[one], theirs[other]) or _stands_for(ours[other], theirs[one])
            turned = fits and _same_between(here, there, loosely)
        else:
            there = _between(stored, theirs[one].place, theirs[other].place)
            # The verb has "by" on one side only: "A affects B", "A is affected by B".
            turned = any(
                after == "by" and verb in active and "by" not in active and verb not in _NO_VERBS
                for passive, active in ((here, there), (there, here))
                for verb, after in pairwise(passive)
            )
        if turned:
            return question.words[ours[one].place], question.words[ours[other].place]
    return None


def _stands_for(one: _Thing, other: _Thing) -> bool:
    """Whether a word beside each says that they play the same part."""
    return bool((one.before and one.before == other.before) or (one.after and one.after == other.after))


def _between(wording: Wording, first: int, second: int) -> tuple[str, ...]:
    return tuple(word for word in wording.stems[first + 1 : second] if word not in _ARTICLES)


def _same_between(ours: tuple[str, ...], theirs: tuple[str, ...], loosely: bool) -> bool:
    """Whether two things are held together by the same words, and by such as tell one end from the
    other. `loosely`: as few as one of them.
    """
    here, there = frozenset(ours), frozenset(theirs)
    if not here or not there or here & FILLERS != there & FILLERS or not _AND.isdisjoint(here):
        return False
    return len(here & there) >= (1 if loosely else len(here | there) / 2)


@lru_cache(maxsize=128)
def _things(wording: Wording) -> dict[str, _Thing]:
    """Each stem that says something and is said once, in the order of the text."""
    kept = [(place, word) for place, word in enumerate(wording.stems) if word not in _ARTICLES]
    around = ["", *(word for _, word in kept), ""]
    things: dict[str, _Thing] = {}
    for (place, word), before, after in zip(kept, around, around[2:], strict=False):
        if word in wording.content and wording.stems.count(word) == 1:
            things[word] = _Thing(place, before, after)
    return things
