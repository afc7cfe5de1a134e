"""Guard: names. Of well-known ones the class is known, of others only the capital letter."""

from __future__ import annotations

from functools import cache, lru_cache

from llmhost.cache.guards.stems import words
from llmhost.cache.guards.word_lists import english, sections
from llmhost.cache.guards.wording import Wording, named, overlap
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard", "only_in"]

NAME = "names"
#: words in capitals of all; where more are, capitals are the style of the whole text
_TITLE_SHARE = 0.6
#: Share of the words besides names that two texts have in common when they say the same of other names.
_SAME_REST = 0.6
#: overlap; a name that one text adds to another wording is seldom more than its setting
_ALIKE = 0.6
#: letters; what is shorter is too short to be a name with a typing error in it
_TYPO_LENGTH = 4
#: letters of an acronym whose words may be looked for
_LONGEST_ACRONYM = 5
#: Classes whose members narrow a question when they are added to it; others are often said in passing.
_SCOPES = words("country state city language database system framework library cloud editor") | {
    "programming language"
}
_NO_NAMES = english("no names")


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses other members of one class of well-known names, and other capitalised names in one sentence."""
    return _other_known(question, stored) or _other_capitals(question, stored)


def _other_known(question: Wording, stored: Wording) -> Objection | None:
    if _known(question) == _known(stored):
        return None
    only_ours, only_theirs = _unshared(question, stored), _unshared(stored, question)
    for kind in sorted({kind for kind, _ in only_ours} & {kind for kind, _ in only_theirs}):
        one, other = (named(name for of, name in only if of == kind) for only in (only_ours, only_theirs))
        return Objection(NAME, f"one asks about {one}, the other about {other}")
    if overlap(question, stored) < _ALIKE:
        return None
    if only := {known for known in only_ours | only_theirs if known[0] in _SCOPES}:
        return Objection(NAME, f"only one asks about {named({name for _, name in only})}", refuses=False)
    return None


def _unshared(wording: Wording, other: Wording) -> set[tuple[str, str]]:
    """What is named here and not there. What may stand for several is shared when one of them is."""
    return {
        known
        for spelling, names in _spelled(wording)
        if _known(other).isdisjoint(names) and not other.word_set.issuperset(spelling)
        for known in names
    }


def only_in(wording: Wording, other: Wording) -> set[tuple[str, ...]]:
    """The names that one text has and the other has not, each with all its spellings."""
    known = {_every_spelling()[name] for name in _unshared(wording, other)}
    return known | {(name,) for name in _unknown_to(other, _capitals(wording))}


@cache
def _every_spelling() -> dict[tuple[str, str], tuple[str, ...]]:
    """All spellings of a well-known name, in lower case."""
    spellings = {}
    for kind, entries in sections("names").items():
        for entry in entries:
            written = tuple(spelling.removeprefix("^") for spelling in entry.split(" = "))
            spellings[kind, written[0]] = written
    return spellings


@lru_cache(maxsize=128)
def _known(wording: Wording) -> frozenset[tuple[str, str]]:
    """The well-known names in the text, each with its class."""
    return frozenset(name for _, names in _spelled(wording) for name in names)


@lru_cache(maxsize=128)
def _spelled(wording: Wording) -> tuple[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], ...]:
    """Each spelling of a well-known name in the text, with what it may stand for. Longer ones win."""
    table, found, end = _spellings(), [], 0
    for place, word in enumerate(wording.words):
        if place < end or word not in table:
            continue
        here = [
            (spelling, (kind, name))
            for spelling, (kind, name, capital) in table[word]
            if wording.words[place : place + len(spelling)] == spelling
            and (not capital or _is_capital(wording.written[place]))
        ]
        if here:
            longest = here[0][0]
            end = place + len(longest)
            found.append((longest, tuple(known for spelling, known in here if spelling == longest)))
    return tuple(found)


@cache
def _spellings() -> dict[str, list[tuple[tuple[str, ...], tuple[str, str, bool]]]]:
    """Under its first word, every spelling of a well-known name, as words in lower case, the longest first.
    Each with its class, the name that stands for all its spellings, and whether only a capital makes it one.
    """
    table: dict[str, list[tuple[tuple[str, ...], tuple[str, str, bool]]]] = {}
    for kind, entries in sections("names").items():
        for entry in entries:
            spellings = entry.split(" = ")
            for spelling in spellings:
                words = tuple(spelling.removeprefix("^").replace("-", " ").split())
                known = (kind, spellings[0].removeprefix("^"), spelling.startswith("^"))
                table.setdefault(words[0], []).append((words, known))
    for spelled in table.values():
        spelled.sort(key=lambda entry: -len(entry[0]))
    return table


def _is_capital(word: str) -> bool:
    return word.isupper() if len(word) <= 2 else word[:1].isupper()


def _other_capitals(question: Wording, stored: Wording) -> Objection | None:
    ours, theirs = _capitals(question), _capitals(stored)
    only_ours, only_theirs = _unknown_to(stored, ours), _unknown_to(question, theirs)
    if not only_ours or not only_theirs:
        return None
    rest, other_rest = question.word_set - ours - theirs, stored.word_set - ours - theirs
    same = len(rest & other_rest) >= _SAME_REST * max(len(rest | other_rest), 1)
    words = f"one asks about {named(only_ours)}, the other about {named(only_theirs)}"
    return Objection(NAME, words, refuses=same)


@lru_cache(maxsize=128)
def _capitals(wording: Wording) -> frozenset[str]:
    """Words in lower case that stand with a capital where grammar wants none; none in a text of capitals."""
    capital = [place for place, word in enumerate(wording.written) if word[:1].isupper()]
    if len(capital) > _TITLE_SHARE * len(wording.written) or not capital:
        return frozenset()
    known = {word for spelling, _ in _spelled(wording) for word in spelling}
    names = {wording.words[place] for place in capital if place not in wording.opening}
    return frozenset(name for name in names - known - _NO_NAMES if len(name) > 1)


def _unknown_to(other: Wording, names: frozenset[str]) -> set[str]:
    """The names that the other text does not have: not as a word, with a typing error, or by its initials."""
    initials = "".join(word[:1] for word in other.words)
    return {
        name
        for name in names - other.word_set
        if not (len(name) <= _LONGEST_ACRONYM and name in initials)
        and not (len(name) >= _TYPO_LENGTH and any(_alike(name, word) for word in other.words))
    }


def _alike(one: str, other: str) -> bool:
    """Whether two words differ by an ending or about one letter, which is not the first."""
    if one[0] != other[0] or abs(len(one) - len(other)) > 2:
        return False
    shorter, longer = sorted((one, other), key=len)
    if longer.startswith(shorter[:-1]):
        return True
    start = next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(shorter)
    )
    ends = zip(reversed(one[start:]), reversed(other[start:]), strict=False)
    end = next((place for place, (a, b) in enumerate(ends) if a != b), len(shorter) - start)
    return len(longer) - start - end <= 2
