"""The guard of what is meant to the letter."""

from __future__ import annotations

import pytest
from doubles.guard_verdict import verdict

from llmhost.cache.guards.quoted import guard


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('What does "carpe diem" mean?', 'What does "alea iacta est" mean?'),
        ("What does os.path.join do?", "What does os.path.split do?"),
        ("What does git push --force do?", "What does git push --tags do?"),
        ("Why do I get 0x80070005?", "Why do I get 0x80070002?"),
        ("What is max_length for?", "What is min_length for?"),
        ("What is getElementById?", "What is getElementsByName?"),
        ("Where is settings.py?", "Where is models.py?"),
        ("What is on https://a.example/x?", "What is on https://b.example/y?"),
        ("What does `ls` do?", "What does `cd` do?"),
        ("What is error E1101?", "What is error E0602?"),
    ],
)
def test_other_literal_text_is_refused(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "refuses"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What does git push --force do?", "What does git push do?"),
        ('Define "carpe diem"', "Define a Latin saying"),
    ],
)
def test_literal_text_that_only_one_has_is_doubted(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "doubts"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('What does "carpe diem" mean?', "What does carpe diem mean?"),
        ('What does "carpe diem" mean?', "What does \u201ccarpe diem\u201d mean?"),
        ("What's the meaning of life?", "What's life's meaning?"),
        ("Reset my iPhone", "Resetting an iphone"),
        ("Is SHA-256 safe?", "Is SHA256 safe?"),
        ("Where is settings.py?", "Where does settings.py lie?"),
        ("What is a Ph.D. worth?", "What is a PhD worth?"),
    ],
)
def test_the_same_text_passes_quoted_or_not(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "silent"
