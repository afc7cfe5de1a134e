"""Guard: the same two things the other way round, where it matters which comes first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

from llmhost.cache.guards.stems import stems, words
from llmhost.cache.guards.wording import FILLERS, Wording, likeness
from llmhost.cache.objection import Objection

__all__ = ["NAME", "are_swapped", "guard"]

NAME = "order"

#: With these in it, a question asks the same whichever thing is named first. Stems.
_EITHER_WAY = stems(
    "difference differences differ different differentiate distinguish vs versus compare comparison "
    "compared comparing between similar similarity similarities same relate related relation "
    "relationship equal equals distance far mix combine together married meet correlation connection "
    "synonym add sum plus multiply choose prefer both"
)
_NO_VERBS = FILLERS - {"use"}
_AND = frozenset({"and", "or", "vs", "versus", "nor", "n"})
#: Left out when the neighbours of a thing are looked at. Stems.
_ARTICLES = words("a an the my your our his her their this that some any")
#: likeness; two things that have changed places leave the rest as it is
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
    """Refuses when two things that both texts name have changed places around a word that has a direction."""
    swapped = _swapped(question, stored)
    if swapped is None:
        return None
    one, other = swapped
    return Objection(NAME, f"{one} and {other} have changed places")


def are_swapped(question: Wording, stored: Wording) -> bool:
    """Whether two things changed places, also around words that differ: "larger than", "smaller than"."""
    return _swapped(question, stored, loosely=True) is not None


#: pairs; two guards ask about each
@lru_cache(maxsize=16)
def _swapped(question: Wording, stored: Wording, loosely: bool = False) -> tuple[str, str] | None:
    """Two things that each stand in one text where the other one stands in the other text, or that kept their
    places while the verb between them was turned: "A affects B", "A is affected by B". `loosely`: the words
    between them may differ.
    """
    if likeness(question, stored) < _ALIKE or not _EITHER_WAY.isdisjoint(question.stem_set | stored.stem_set):
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
            turned = _turned(here, _between(stored, theirs[one].place, theirs[other].place))
        if turned:
            return question.words[ours[one].place], question.words[ours[other].place]
    return None


def _stands_for(one: _Thing, other: _Thing) -> bool:
    """Whether a word beside each says that they play the same part."""
    return bool((one.before and one.before == other.before) or (one.after and one.after == other.after))


def _between(wording: Wording, first: int, second: int) -> tuple[str, ...]:
    return tuple(stem for stem in wording.stems[first + 1 : second] if stem not in _ARTICLES)


def _same_between(ours: tuple[str, ...], theirs: tuple[str, ...], loosely: bool) -> bool:
    """Whether two things are held together by the same words, and by such as tell one end from the
    other. `loosely`: as few as one of them.
    """
    here, there = frozenset(ours), frozenset(theirs)
    if not here or not there or here & FILLERS != there & FILLERS or not _AND.isdisjoint(here):
        return False
    return len(here & there) >= (1 if loosely else len(here | there) / 2)


def _turned(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """Whether the verb between two things has "by" on one side only: "A affects B", "A is affected by B"."""
    return any(
        after == "by" and verb in other and "by" not in other and verb not in _NO_VERBS
        for one, other in ((ours, theirs), (theirs, ours))
        for verb, after in pairwise(one)
    )


@lru_cache(maxsize=128)
def _things(wording: Wording) -> dict[str, _Thing]:
    """Each stem that says something and is said once, in the order of the text."""
    kept = [(place, stem) for place, stem in enumerate(wording.stems) if stem not in _ARTICLES]
    stems = ["", *(stem for _, stem in kept), ""]
    things: dict[str, _Thing] = {}
    for (place, stem), before, after in zip(kept, stems, stems[2:], strict=False):
        if stem in wording.content and wording.stems.count(stem) == 1:
            things[stem] = _Thing(place, before, after)
    return things
