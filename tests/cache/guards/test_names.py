"""The guard of names."""

from __future__ import annotations

import pytest
from doubles.guard_verdict import verdict

from llmhost.cache.guards.names import guard


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the population of Sweden?", "What is the population of Norway?"),
        ("what is the population of sweden", "what is the population of norway"),
        ("Translate hello to Spanish", "Translate hello to Italian"),
        ("What time is it in Sydney?", "What time is it in Perth?"),
        ("Sort a list in Python", "Sort a list in JavaScript"),
        ("Taxes in New York", "Taxes in Los Angeles"),
        ("Is Docker faster?", "Is Kubernetes faster?"),
        ("How far is Mars?", "How far is Jupiter?"),
        ("Who leads Germany?", "Who leads the French?"),
        ("How do I learn guitar?", "How do I learn piano?"),
    ],
)
def test_other_names_of_the_same_class_are_refused(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "refuses"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who painted the Zorbian Lady?", "Who painted the Quillon Lady?"),
        ("Is the Fooly better than others?", "Is the Barro better than others?"),
    ],
)
def test_other_capitalised_names_in_the_same_sentence_are_refused(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "refuses"


def test_a_place_that_only_one_names_is_doubted() -> None:
    assert verdict(guard, "Starting a small company in India", "Starting a small company") == "doubts"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who is the president of the USA?", "Who is the US president?"),
        ("Who leads the United States?", "Who leads America?"),
        ("Who rules the UK?", "Who rules Britain?"),
        ("What is machine learning?", "What is ML?"),
        ("How do I use React?", "How do I use ReactJS?"),
        ("How do people react to stress?", "Reactions of people to stress"),
        ("How do I polish shoes?", "How are shoes polished?"),
        ("The cuisine of Italy", "Italian cuisine"),
        ("Where was Shakespeare born?", "Where was Shakespere born?"),
        ("WHERE IS THE BANK", "where is the bank"),
        ("Where Is The Old Bank?", "Where is the old bank?"),
    ],
)
def test_the_same_name_passes_in_other_words(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "silent"
