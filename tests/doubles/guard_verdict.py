"""What a guard says of a pair of questions."""

from __future__ import annotations

from typing import Literal

from llmhost.cache.guards import Guard, read

__all__ = ["verdict"]


def verdict(guard: Guard, one: str, other: str) -> Literal["refuses", "doubts", "silent"]:
    """The same in both orders of the two, or the test fails."""
    found = [guard(read(one), read(other)), guard(read(other), read(one))]
    refuses, refuses_turned = (objection and objection.refuses for objection in found)
    assert refuses is refuses_turned
    assert all(objection is None or objection.words for objection in found)
    return "silent" if refuses is None else "refuses" if refuses else "doubts"
