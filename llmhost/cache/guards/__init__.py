"""Guards: cheap lexical reasons against serving the answer to one question for another. Pure.

A guard refuses, doubts, or says nothing, which leaves the word to the verifier. It never accepts.
"""

from __future__ import annotations

from llmhost.cache.guards import (
    aspect,
    dates,
    languages,
    length,
    names,
    negation,
    numbers,
    opposites,
    order,
    plain_text,
    quoted,
    substitution,
)
from llmhost.cache.guards.wording import Guard, Wording, read
from llmhost.cache.models import Objection

__all__ = ["GUARDS", "Guard", "Wording", "objections", "read"]

_MODULES = (
    plain_text,
    length,
    numbers,
    dates,
    negation,
    opposites,
    order,
    quoted,
    names,
    languages,
    aspect,
    substitution,
)

#: Every guard with the name by which it objects, in the order in which they are asked.
GUARDS: tuple[tuple[str, Guard], ...] = tuple((module.NAME, module.guard) for module in _MODULES)


def objections(question: str, stored: str) -> tuple[Objection, ...]:
    """What speaks against answering `question` with the answer to `stored`; empty when no guard objects.
    Whether one refuses does not depend on which of the two is which.
    """
    ours, theirs = read(question), read(stored)
    return tuple(objection for _, guard in GUARDS if (objection := guard(ours, theirs)))
