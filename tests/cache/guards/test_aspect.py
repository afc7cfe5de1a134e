"""The guard of what is asked of a subject."""

from __future__ import annotations

import pytest
from doubles.guard_verdict import verdict

from llmhost.cache.guards.aspect import guard


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is diabetes?", "What causes diabetes?"),
        ("How to learn guitar?", "How long does it take to learn guitar?"),
        ("What is the best way to learn French?", "What is the best way to teach French?"),
        ("Why is the sky blue?", "When is the sky blue?"),
        ("Who founded Rome?", "How many founded Rome?"),
        ("What are the symptoms of malaria?", "What are the causes of malaria?"),
        ("How do I install nginx?", "How do I configure nginx?"),
        ("What is the price of gold?", "What is the history of gold?"),
        ("How old is the bridge?", "Where is the bridge?"),
        ("Capital of Peru", "Currency of Peru"),
    ],
)
def test_another_aspect_is_refused(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "refuses"


def test_an_aspect_that_only_one_names_is_doubted() -> None:
    assert verdict(guard, "A vegan diet for runners", "Benefits of a vegan diet for runners") == "doubts"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How many planets are in the solar system?", "What is the number of planets in our solar system?"),
        ("What is a hash table?", "Explain hash tables"),
        ("What is a hash table?", "hi, could you explain what a hash table is? thanks"),
        ("How can I lose weight?", "What is the best way to lose weight?"),
        ("How do I boil an egg?", "Steps to boil an egg"),
        ("Why is the sky blue?", "What is the reason that the sky is blue?"),
        ("How much is a ticket?", "What is the cost of a ticket?"),
        ("At what time does the shop open?", "When does the shop open?"),
        ("What does entropy mean?", "Define entropy"),
        ("In which country is Timbuktu?", "Where is Timbuktu?"),
        ("Can I lose weight by walking?", "How can I lose weight by walking?"),
    ],
)
def test_forms_that_ask_the_same_pass(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "silent"
