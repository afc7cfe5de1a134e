"""Guard: the same subject, but something else is asked of it."""

from __future__ import annotations

import re
from functools import lru_cache

from llmhost.cache.guards.aspect_words import APART, ASPECT_OF, FORMS, IMPLIED, OPENINGS
from llmhost.cache.guards.wording import Wording, likeness, named
from llmhost.cache.objection import Objection

__all__ = ["NAME", "guard"]

NAME = "aspect"

_FORM = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in FORMS))
_OPENING = re.compile(OPENINGS)

_NOTHING: frozenset[str] = frozenset()
#: likeness; two texts with less in common may ask for one thing in two ways
_ALIKE = 0.6


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when each asks for an aspect that the other does not, or in forms that ask for unlike things.
    Doubts where only one names an aspect, and where the rest differs too: it may be a rewording.
    """
    form, counter = _form(question), _form(stored)
    ours, theirs = _aspects(question), _aspects(stored)
    one, other = ours - theirs, theirs - ours
    if form != counter or not (one and other):
        one, other = one - IMPLIED.get(counter, _NOTHING), other - IMPLIED.get(form, _NOTHING)
    alike = likeness(question, stored, without=len(one) + len(other))
    if one and other:
        return Objection(
            NAME, f"one asks about {named(one)}, the other about {named(other)}", alike >= _ALIKE
        )
    if frozenset((form, counter)) in APART:
        plain = alike >= _ALIKE and not _mentions(question, counter) and not _mentions(stored, form)
        return Objection(NAME, f"one asks {_said(form)}, the other {_said(counter)}", refuses=plain)
    if alike < _ALIKE or not (one or other):
        return None
    defined = (counter if one else form) == "definition" and form != counter
    return Objection(NAME, f"only one asks about {named(one or other)}", refuses=defined)


def _said(form: str) -> str:
    return form.replace("_", " ")


def _mentions(wording: Wording, form: str) -> bool:
    """Whether the text has another question in it that asks so."""
    return _said(form) in wording.lower


@lru_cache(maxsize=128)
def _aspects(wording: Wording) -> frozenset[str]:
    return frozenset(ASPECT_OF[stem] for stem in wording.stem_set & ASPECT_OF.keys())


@lru_cache(maxsize=128)
def _form(wording: Wording) -> str:
    """The form of the question: "why", "how_many" ...; "" when it has none that is known."""
    text = _OPENING.sub("", " ".join(wording.words))
    found = _FORM.match(f"{text} ")
    return found.lastgroup or "" if found else ""
