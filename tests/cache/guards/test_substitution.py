"""The guard of a replaced word."""

from __future__ import annotations

import pytest
from doubles.guard_verdict import verdict

from llmhost.cache.guards.substitution import guard


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Smoke point of coconut oil", "Smoke point of sesame oil"),
        ("How do I rename a branch in git?", "How do I list a branch in git?"),
    ],
)
def test_one_replaced_word_is_doubted(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "doubts"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Smoke point of coconut oil", "At what heat does coconut oil smoke?"),
        ("How do I rename a branch?", "How do you rename branches?"),
        ("Rome", "Paris"),
    ],
)
def test_rewordings_and_inflections_pass(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "silent"
