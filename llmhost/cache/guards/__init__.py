"""Guards: cheap lexical reasons against serving the answer to one question for another. Pure.

A guard refuses, doubts, or does not object, which leaves the decision to the verifier. It never accepts.
"""

from __future__ import annotations

from llmhost.cache.guards import (
    answer,
    aspect,
    dates,
    languages,
    names,
    negation,
    numbers,
    opposites,
    order,
    plain_text,
    quoted,
    spelling,
    substitution,
)
from llmhost.cache.guards.wording import Guard, Wording, read
from llmhost.cache.models import Objection

__all__ = ["GUARDS", "Guard", "Wording", "answer_objection", "objections", "read"]

#: Every guard with the name by which it objects, in the order in which they are asked.
GUARDS: tuple[tuple[str, Guard], ...] = (
    (plain_text.NAME, plain_text.guard),
    (plain_text.LENGTH, plain_text.length_guard),
    (numbers.NAME, numbers.guard),
    (dates.NAME, dates.guard),
    (negation.NAME, negation.guard),
    (opposites.NAME, opposites.guard),
    (order.NAME, order.guard),
    (quoted.NAME, quoted.guard),
    (spelling.NAME, spelling.guard),
    (names.NAME, names.guard),
    (languages.NAME, languages.guard),
    (aspect.NAME, aspect.guard),
    (substitution.NAME, substitution.guard),
)


def objections(question: str, stored: str) -> tuple[Objection, ...]:
    """What speaks against answering `question` with the answer to `stored`; empty when no guard objects.
    Whether one refuses does not depend on which of the two is which.
    """
    ours, theirs = read(question), read(stored)
    return tuple(objection for _, guard in GUARDS if (objection := guard(ours, theirs)))


def answer_objection(question: str, stored: str, text: str) -> Objection | None:
    """What speaks against answering `question` with `text`, the answer to `stored`."""
    return answer.guard(read(question), read(stored), text)
