"""What a guard says of a pair of questions, in one word."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmhost.cache.guards import Guard, read

Verdict = Callable[[Guard, str, str], str]


@pytest.fixture
def verdict() -> Verdict:
    """ "refuses", "doubts" or "silent", which must not depend on the order of the two."""

    def judge(guard: Guard, one: str, other: str) -> str:
        found = {_word(guard, one, other), _word(guard, other, one)}
        assert len(found) == 1
        return found.pop()

    return judge


def _word(guard: Guard, one: str, other: str) -> str:
    objection = guard(read(one), read(other))
    if objection is None:
        return "silent"
    assert objection.words
    return "refuses" if objection.refuses else "doubts"
