"""Guard: the same subject, but something else is asked of it."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import combinations

from llmhost.cache.guards.stems import stem
from llmhost.cache.guards.word_lists import related, sections
from llmhost.cache.guards.wording import Wording, named, overlap
from llmhost.cache.models import Objection

__all__ = ["NAME", "guard"]

NAME = "aspect"

#: What people say before they ask.
_OPENINGS = (
    r"^(?:(?:hi|hello|hey|please|so|ok|and|but|well|just|also|quick question|(?:can|could|would|will) you|"
    r"tell me|explain to me|i (?:want|need|would like) to know|do you know|does anyone know|help me|exactly|"
    r"in general|according to you|can (?:any|some)one|someone|anyone) )*"
)
_PERSON = "(?:i|we|you|one|someone|a person)"
#: Forms by their first words, tried in this order. A form that may mean several things is given none.
_FORMS = (
    ("how_many", "how many|what is the (?:total )?number of|number of|what number of|count of"),
    ("how_long", "how long(?! is| are| was)|how much time|what is the duration"),
    ("how_far", "how far|what is the distance|distance"),
    ("how_old", "how old|what is the age|what age|at what age"),
    ("how_often", "how often|how frequently"),
    (
        "how_much",
        r"how much|what is the (?:cost|price|salary|fee|amount)|what does \w+ cost|price of|cost of",
    ),
    ("why", "why|what (?:is|are) the reasons?|for what reason|how come|reasons? (?:for|why)"),
    ("when", "when (?!i )|(?:(?:at|in|on) )?(?:what|which) (?:time|year|date|day|month|century)|since when"),
    ("where", "where |in (?:what|which) (?:country|city|place|state)|what is the location"),
    ("who", "who (?!else)|whom|(?:which|what) person|by whom"),
    (
        "definition",
        (
            r"what (?:is|are) (?:a |an |the )?(?:\w+ ){1,3}$|define |meaning of|definition of|"
            r"what does (?:\w+ ){1,4}mean|what do you mean by|what is meant by"
        ),
    ),
    (
        "method",
        (
            rf"how (?:do|can|should|could|would) {_PERSON}\b|how to|steps to|(?:best )?ways? to|"
            r"what is the (?:best|easiest|fastest|right|proper|correct) way|what are (?:\w+ ){1,2}ways"
        ),
    ),
    ("manner", "how (?:do|does|did|can|could|would|will|is|are|was|were) "),
    ("yes_or_no", "(?:is|are|was|were|do|does|did|can|could|will|would|should|has|have|had) "),
)
#: Forms whose answers cannot serve for each other ...
_UNLIKE = "how_many how_long how_far how_old how_often how_much why when where who method"
#: ... but for these, which often ask the same: "how much time", "who founded X and when".
_MAY_BE_ALIKE = (
    "how_many how_much; how_many how_long; how_many how_far; how_many how_often; how_many how_old; "
    "how_long how_much; how_old when; how_long when; how_often when; where method; where who"
)
_FURTHER = {
    "definition": "why when where how_many how_long how_old how_often method",
    "yes_or_no": "where who how_many how_old how_long how_far how_often how_much",
    "manner": "when where who how_many how_long how_old how_often how_much how_far",
}
_APART = frozenset(map(frozenset, combinations(_UNLIKE.split(), 2))) - frozenset(
    frozenset(pair.split()) for pair in _MAY_BE_ALIKE.split(";")
) | frozenset(frozenset((form, other)) for form, others in _FURTHER.items() for other in others.split())

#: Aspects that a form asks for without naming them.
_IMPLIED = {
    "how_much": frozenset({"cost", "salary", "weight", "size"}),
    "why": frozenset({"causes"}),
    "when": frozenset({"history"}),
    "who": frozenset({"author", "director", "history"}),
    "how_many": frozenset({"population", "size"}),
    "method": frozenset({"cures", "prevention", "learning", "cooking", "cleaning", "repairing"}),
    "yes_or_no": frozenset({"risks", "benefits"}),
}

#: The aspect that a stem names.
_ASPECT_OF = {
    stem(word): aspect for aspect, words in related(sections("english")["aspects"]) for word in words
}

_FORM = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _FORMS))
_OPENING = re.compile(_OPENINGS)

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
