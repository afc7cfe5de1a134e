"""Guard: months, weekdays, and days and times that count from now."""

from __future__ import annotations

from functools import lru_cache

from llmhost.cache.guards.stems import words
from llmhost.cache.guards.word_lists import sections
from llmhost.cache.guards.wording import Wording, named
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard"]

NAME = "dates"
#: Months that are also words count after one of these.
_MAY_FOLLOW = words("in of since until till by before after during every next last this early late mid")
_MAYBE_MONTHS = frozenset({"may", "march"})
_TURNS = {
    **dict.fromkeys(("next", "coming", "upcoming"), "next"),
    **dict.fromkeys(("last", "previous", "past"), "last"),
    **dict.fromkeys(("this", "current"), "this"),
}
_SPANS = words("year week month weekend century decade semester quarter season")
#: The kind and the first spelling of everything that names a time.
_MEMBERS = {
    spelling: (kind, entry.split(" = ")[0])
    for kind, entries in sections("dates").items()
    for entry in entries
    for spelling in entry.split(" = ")
}


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when each names a time of some kind (a month, a day from now) that the other does not."""
    ours, theirs = _times(question), _times(stored)
    if ours == theirs:
        return None
    only_ours, only_theirs = ours - theirs, theirs - ours
    for kind in sorted({kind for kind, _ in only_ours} & {kind for kind, _ in only_theirs}):
        one, other = (named(name for of, name in only if of == kind) for only in (only_ours, only_theirs))
        return Objection(NAME, f"one asks about {one}, the other about {other}")
    only = {name for kind, name in only_ours | only_theirs if kind in {"month", "weekday", "era"}}
    return Objection(NAME, f"only one says {named(only)}", refuses=False) if only else None


@lru_cache(maxsize=128)
def _times(wording: Wording) -> frozenset[tuple[str, str]]:
    """What the text names, each with its kind."""
    found = {_MEMBERS[word] for word in wording.word_set & _MEMBERS.keys()}
    for place in range(len(wording.words) - 1):
        word, following = wording.words[place], wording.stems[place + 1]
        if word in _TURNS and following in _SPANS:
            found.add((following, f"{_TURNS[word]} {following}"))
        if word in _MAY_FOLLOW and wording.words[place + 1] in _MAYBE_MONTHS:
            found.add(("month", wording.words[place + 1]))
    return frozenset(found)
