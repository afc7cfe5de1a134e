"""The guard of the language that somebody asks in."""

from __future__ import annotations

import pytest
from doubles.guard_verdict import verdict

from llmhost.cache.guards.languages import guard


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "Was ist die Hauptstadt von Frankreich und wo ist sie?"),
        ("What is the capital of France?", "Quelle est la capitale de la France et comment est elle?"),
        ("What is the capital of France?", "¿Cuál es la capital de Francia?"),
        ("What is the capital of France?", "\u6cd5\u56fd\u7684\u9996\u90fd\u662f\u4ec0\u4e48"),
        (
            "What is the capital of France?",
            "\u041a\u0430\u043a\u0430\u044f \u043f\u043e\u0433\u043e\u0434\u0430?",
        ),
        ("What is the capital of France?", "ما هي عاصمة فرنسا"),
        (
            "\u6cd5\u56fd\u7684\u9996\u90fd\u662f\u4ec0\u4e48",
            "\u30d5\u30e9\u30f3\u30b9\u306e\u9996\u90fd\u306f\u3069\u3053\u3067\u3059\u304b",
        ),
    ],
)
def test_questions_in_different_languages_are_refused(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "refuses"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "capital of France, what is it"),
        ("Was ist die Hauptstadt von Frankreich?", "Wie heißt die Hauptstadt von Frankreich?"),
        ("Format a USB drive as FAT32", "How do I put FAT32 on a USB drive?"),
        ("\u6cd5\u56fd\u7684\u9996\u90fd\u662f\u4ec0\u4e48", "\u6cd5\u56fd\u9996\u90fd"),
        ("Translate \u4f60\u597d into English", "What does \u4f60\u597d mean in English?"),
        ("\U0001f600", "What is this?"),
        ("12345", "What is this?"),
    ],
)
def test_the_same_language_passes(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "silent"
