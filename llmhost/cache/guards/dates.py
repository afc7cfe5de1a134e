"""Guard: months, weekdays, and days and times that count from now."""

from __future__ import annotations

from functools import lru_cache

from llmhost.cache.guards.stems import words
from llmhost.cache.guards.wording import Wording, named
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard"]

NAME = "dates"

_MONTHS = (
    "january jan; february feb; april apr; june jun; july jul; august aug; september sep sept; october oct; "
    "november nov; december dec"
)
_WEEKDAYS = "monday; tuesday tues; wednesday; thursday thurs; friday; saturday; sunday"
_SEASONS = "summer; winter; autumn"
_DAYS = "yesterday; today; tomorrow"
_PARTS = "morning; noon midday; midnight"
_RATES = "hourly; daily; weekly; monthly; yearly annually annual"
_ERAS = "bc bce; ad ce"

#: Months that are also words count after one of these.
_MAY_FOLLOW = words("in of since until till by before after during every next last this early late mid")
_MAYBE_MONTHS = frozenset({"may", "march"})
_TURNS = {
    "next": "next",
    "coming": "next",
    "upcoming": "next",
    "last": "last",
    "previous": "last",
    "past": "last",
    "this": "this",
    "current": "this",
}
_SPANS = words("year week month weekend century decade semester quarter season")


def _members() -> dict[str, tuple[str, str]]:
    kinds = {
        "month": _MONTHS,
        "weekday": _WEEKDAYS,
        "season": _SEASONS,
        "day": _DAYS,
        "part": _PARTS,
        "era": _ERAS,
        "rate": _RATES,
    }
    members: dict[str, tuple[str, str]] = {}
    for kind, table in kinds.items():
        for row in table.split(";"):
            forms = row.split()
            members |= dict.fromkeys(forms, (kind, forms[0]))
    return members


_MEMBERS = _members()


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
