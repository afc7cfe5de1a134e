"""The guard of who does what to whom."""

from __future__ import annotations

import pytest
from doubles.guard_verdict import verdict

from llmhost.cache.guards.order import guard


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Flights from Paris to London", "Flights from London to Paris"),
        ("Is a lion stronger than a tiger?", "Is a tiger stronger than a lion?"),
        ("Translate this English text into German", "Translate this German text into English"),
        ("Can a dog catch a cold from a human?", "Can a human catch a cold from a dog?"),
        ("Convert miles to kilometres", "Convert kilometres to miles"),
        ("Does sleep affect memory?", "Does memory affect sleep?"),
        ("Why do cats hate dogs?", "Why do dogs hate cats?"),
        ("Does sleep affect memory?", "Is sleep affected by memory?"),
        ("Convert a Unix timestamp to a date", "Convert a date to a Unix timestamp"),
        ("Can programmers replace robots?", "Can robots replace programmers?"),
    ],
)
def test_two_things_that_changed_places_are_refused(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "refuses"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "What is the difference between Java and Kotlin?",
            "What is the difference between Kotlin and Java?",
        ),
        ("Paris vs London", "London vs Paris"),
        ("Should I learn Java or Kotlin?", "Should I learn Kotlin or Java?"),
        ("How far is it from Paris to London?", "How far is it from London to Paris?"),
        ("Does sleep affect memory?", "Is memory affected by sleep?"),
        ("Flights from Paris to London", "Flights to London from Paris"),
        ("Delete a Facebook account", "Delete an account on Facebook"),
        ("The best colleges for law in Rome", "The best law colleges in Rome"),
        ("Update drivers on Windows", "Windows driver update"),
        ("Mix bleach with vinegar", "Mix vinegar with bleach"),
    ],
)
def test_an_order_that_means_nothing_passes(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "silent"


@pytest.mark.parametrize(
    ("doer", "done"),
    [
        ("What eats snakes?", "What do snakes eat?"),
        ("Who killed Lincoln?", "Who did Lincoln kill?"),
        ("Which company owns YouTube?", "Which company does YouTube own?"),
        ("Which country invaded Germany in 1939?", "Which country did Germany invade in 1939?"),
        ("What caused the war?", "What was caused by the war?"),
        ("Who defeated Napoleon?", "Who was defeated by Napoleon?"),
    ],
)
def test_who_does_it_is_not_whom_it_is_done_to(doer: str, done: str) -> None:
    assert verdict(guard, doer, done) == "refuses"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who leads the army?", "Who does lead the army?"),
        ("By whom was Lincoln killed?", "Who killed Lincoln?"),
        ("Who was Lincoln killed by?", "Who killed Lincoln?"),
        ("What should I expect from a first marathon?", "What do I should expect from a first marathon?"),
        ("Who did Napoleon defeat?", "Who was defeated by Napoleon?"),
        ("How do plants make food?", "How plants make food?"),
    ],
)
def test_the_same_end_of_a_verb_in_other_words_passes(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "silent"
