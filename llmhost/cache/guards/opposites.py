"""Guard: a word here, its opposite there."""

from __future__ import annotations

from functools import lru_cache

from llmhost.cache.guards.antonyms import OPPOSITES
from llmhost.cache.guards.negation import is_negated
from llmhost.cache.guards.order import are_swapped
from llmhost.cache.guards.stems import stem, words
from llmhost.cache.guards.word_lists import related, sections
from llmhost.cache.guards.wording import Wording, overlap
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard"]

NAME = "opposites"

_NEGATING = "un dis non in im il ir de mis anti counter"
_REPLACED = (
    "over/under pre/post inter/intra hyper/hypo macro/micro up/down in/out in/ex im/ex pro/anti maxi/mini "
    "endo/exo homo/hetero mono/poly uni/multi single/multi super/sub"
)
#: Prefixes that turn a word into its opposite, or replace each other. "" is the bare word.
_PREFIXES = [(prefix, "") for prefix in _NEGATING.split()]
_PREFIXES += [(one, other) for one, _, other in (pair.partition("/") for pair in _REPLACED.split())]
#: Opposite before the same thing: "to Rome" and "from Rome".
_DIRECTIONS = {"to": "from", "from": "to", "for": "against", "against": "for"}
#: letters; what is left of a shorter word without its prefix is chance ("in" and "inn")
_SHORTEST_ROOT = 3
#: overlap of the rest; in two texts with less in common the two words need not be about the same thing
_ALIKE = 0.6
#: Turn the word after them round.
_LESS = frozenset({"less", "least", "lesser", "fewer"})
_MORE = frozenset({"more", "most", "greater"})
_DEGREES = frozenset(map(stem, _LESS | _MORE))
_NONE: set[str] = set()
#: What a direction or a particle is opposed to, and the stems of the verbs after which a particle counts.
_TURNED = dict(_DIRECTIONS)
_VERBS: dict[str, frozenset[str]] = {}
for _particles, _verbs in related(sections("opposites")["particles"]):
    _one, _other = _particles.split()
    _TURNED |= {_one: _other, _other: _one}
    _VERBS |= dict.fromkeys((_one, _other), frozenset(map(stem, _verbs)))
_ARTICLES = words("a an the my your this that")


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when a word of one is opposed to a word of the other and neither text has both. Doubts where a
    negation or a changed order may make up for it: "Is A larger than B?", "Is B smaller than A?".
    """
    pair = _opposed(question, stored) or _prefixed(question, stored) or _directed(question, stored)
    if not pair:
        return None
    words = f"one says {pair[0]}, the other {pair[1]}"
    lessened = _LESS.isdisjoint(question.word_set) != _LESS.isdisjoint(stored.word_set)
    made_up = (
        _turned_twice(question, stored)
        or is_negated(question) != is_negated(stored)
        or (_LESS.isdisjoint(pair) and lessened)
        or are_swapped(question, stored)
    )
    return Objection(NAME, words, refuses=not made_up and overlap(question, stored, without=2) >= _ALIKE)


def _degree(wording: Wording) -> str:
    """ "less" or "more" where the text has words of one of them alone."""
    less, more = not _LESS.isdisjoint(wording.word_set), not _MORE.isdisjoint(wording.word_set)
    return "" if less == more else "less" if less else "more"


def _turned_twice(question: Wording, stored: Wording) -> bool:
    """Whether beside "less" and "more" two other words are opposed, too: "less negative", "more positive"."""
    degrees = {_degree(question), _degree(stored)}
    if degrees != {"less", "more"}:
        return False
    rest, other_rest = question.stem_set - _DEGREES, stored.stem_set - _DEGREES
    opposed = any(OPPOSITES.get(one, _NONE) & (other_rest - rest) for one in rest - other_rest)
    return opposed or _prefixed(question, stored) is not None


def _opposed(question: Wording, stored: Wording) -> tuple[str, str] | None:
    ours, theirs = question.stem_set & OPPOSITES.keys(), stored.stem_set & OPPOSITES.keys()
    pairs = [
        (one, other)
        for one in ours
        for other in OPPOSITES[one] & theirs
        # Where both texts have a word, the one that says it more often is meant.
        if question.stems.count(one) > stored.stems.count(one)
        and stored.stems.count(other) > question.stems.count(other)
    ]
    if not pairs:
        return None
    one, other = min(pairs, key=sorted)
    return question.word_of(one), stored.word_of(other)


def _prefixed(question: Wording, stored: Wording) -> tuple[str, str] | None:
    ours, theirs = sorted(question.word_set - stored.word_set), sorted(stored.word_set - question.word_set)
    for one in ours:
        if other := _counterpart(one, theirs):
            return one, other
    for other in theirs:
        if one := _counterpart(other, ours):
            return one, other
    return None


def _counterpart(word: str, others: list[str]) -> str:
    """The word of `others` that differs from `word` by an opposed prefix and its inflection, or as
    "hopeless" from "hopeful"; or ""."""
    if word.endswith("ful") and (less := f"{word.removesuffix('ful')}less") in others:
        return less
    for root, replaced in _roots(word):
        for other in others:
            bare = other.removeprefix(replaced)
            if other[0] == (replaced or root)[0] and other.startswith(replaced) and stem(bare) == root:
                return other
    return ""


#: words; as stems are kept
@lru_cache(maxsize=4096)
def _roots(word: str) -> tuple[tuple[str, str], ...]:
    """The stem of what is left without a prefix, with the prefix that would make its opposite."""
    return tuple(
        (stem(word[len(prefix) :]), replaced)
        for prefix, replaced in _PREFIXES
        if word.startswith(prefix) and len(word) - len(prefix) >= _SHORTEST_ROOT
    )


def _directed(question: Wording, stored: Wording) -> tuple[str, str] | None:
    ours, theirs = _directions(question), _directions(stored)
    for thing, word in sorted(ours - theirs):
        other = _TURNED[word]
        if (thing, other) in theirs and (thing, other) not in ours:
            return word, other
    return None


@lru_cache(maxsize=128)
def _directions(wording: Wording) -> frozenset[tuple[str, str]]:
    """Each particle with the verb before it, each direction with the thing after it."""
    found = set()
    for place, word in enumerate(wording.words):
        if word in _DIRECTIONS:
            # The thing is the first word that is no article, with the number behind it.
            following = wording.stems[place + 1 : place + 4]
            thing = [stem for stem in following if stem not in _ARTICLES][:2]
            if len(thing) == 2 and not thing[1].isdecimal():
                del thing[1]
            found.add((" ".join(thing), word))
        elif place and word in _VERBS and wording.stems[place - 1] in _VERBS[word]:
            found.add((wording.stems[place - 1], word))
    return frozenset(found)
