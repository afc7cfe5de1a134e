"""Guard: the same subject, but something else is asked of it."""

from __future__ import annotations

import re
from functools import lru_cache

from llmhost.cache.guards.stems import stem
from llmhost.cache.guards.word_lists import related, sections
from llmhost.cache.guards.wording import Wording, named, overlap
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard"]

NAME = "aspect"
#: What people say before they ask.
_OPENING = re.compile(
    r"^(?:(?:hi|hello|hey|please|so|ok|and|but|well|just|also|quick question|(?:can|could|would|will) you|"
    r"tell me|explain to me|i (?:want|need|would like) to know|do you know|does anyone know|help me|exactly|"
    r"how (?:can|could|do|would) you (?:define|describe|explain)|in general|"
    r"according to you|can (?:any|some)one|someone|anyone) )*"
)
_FORM = re.compile(
    "|".join("(?P<{}>{})".format(*form.split(" = ", 1)) for form in sections("forms")["forms"])
)
#: Forms whose answers cannot serve for each other.
_APART = {
    frozenset((form, other)) for form, others in related(sections("forms")["apart"]) for other in others
}
#: Aspects that a form asks for without naming them.
_IMPLIED = {form: frozenset(aspects) for form, aspects in related(sections("forms")["implied"])}
#: The aspect that a stem names.
_ASPECT_OF = {
    stem(word): aspect for aspect, words in related(sections("english")["aspects"]) for word in words
}

_NOTHING: frozenset[str] = frozenset()
#: overlap; two texts with less in common may ask for one thing in two ways
_ALIKE = 0.6


def guard(question: Wording, stored: Wording) -> Objection | None:
    """Refuses when each asks for an aspect that the other does not, or in forms that ask for unlike things.
    Doubts where only one names an aspect, and where the rest differs too: it may be a rewording.
    """
    form, counter = _form(question), _form(stored)
    ours, theirs = _aspects(question), _aspects(stored)
    one, other = ours - theirs, theirs - ours
    if form != counter or not (one and other):
        one, other = one - _IMPLIED.get(counter, _NOTHING), other - _IMPLIED.get(form, _NOTHING)
    alike = overlap(question, stored, without=len(one) + len(other))
    if one and other:
        return Objection(
            NAME, f"one asks about {named(one)}, the other about {named(other)}", alike >= _ALIKE
        )
    if frozenset((form, counter)) in _APART:
        plain = alike >= _ALIKE and not _mentions(question, counter) and not _mentions(stored, form)
        forms = f"one asks {form.replace('_', ' ')}, the other {counter.replace('_', ' ')}"
        return Objection(NAME, forms, refuses=plain)
    if alike < _ALIKE or not (one or other):
        return None
    defined = (counter if one else form) == "definition" and form != counter
    return Objection(NAME, f"only one asks about {named(one or other)}", refuses=defined)


def _mentions(wording: Wording, form: str) -> bool:
    """Whether the text has another question in it that asks so."""
    return form.replace("_", " ") in wording.lower


@lru_cache(maxsize=128)
def _aspects(wording: Wording) -> frozenset[str]:
    return frozenset(_ASPECT_OF[stem] for stem in wording.stem_set & _ASPECT_OF.keys())


@lru_cache(maxsize=128)
def _form(wording: Wording) -> str:
    """The form of the question: "why", "how_many" ...; "" when it has none that is known."""
    text = _OPENING.sub("", " ".join(wording.words))
    found = _FORM.match(f"{text} ")
    return found.lastgroup or "" if found else ""
