"""The guard of opposites and direction words."""

from __future__ import annotations

import pytest
from doubles.guard_verdict import verdict

from llmhost.cache.guards.opposites import guard


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How to increase blood pressure naturally?", "How to decrease blood pressure naturally?"),
        ("What are the advantages of nuclear power?", "What are the disadvantages of nuclear power?"),
        ("How to gain weight fast?", "How to lose weight fast?"),
        ("What is the tallest building in Dubai?", "What is the shortest building in Dubai?"),
        ("How to encrypt a file with GPG?", "How to decrypt a file with GPG?"),
        ("How to mount a disk in Linux?", "How to unmount a disk in Linux?"),
        ("Starting the nginx service", "How do I stop the nginx service?"),
        ("What makes hair grow faster?", "What makes hair grow slower?"),
        ("The cheapest hotel in Oslo", "The most expensive hotel in Oslo"),
        ("Should I eat before running?", "Should I eat after running?"),
        ("Turn on two-factor login", "Turn off two-factor login"),
        ("Flights from Rome", "Flights to Rome"),
        ("Arguments for a tax", "Arguments against a tax"),
        ("What is hypertension?", "What is hypotension?"),
        ("What is overfitting?", "What is underfitting?"),
        ("How do I install the driver?", "How do I uninstall the driver?"),
        ("Is a legal contract binding?", "Is an illegal contract binding?"),
        ("Does low pressure raise high fuel use?", "Does high pressure raise high fuel use?"),
        ("What is macroeconomics about?", "What is microeconomics about?"),
    ],
)
def test_opposites_are_refused(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "refuses"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is a lion stronger than a tiger?", "Is a tiger weaker than a lion?"),
        ("Is parking here legal?", "Is parking here not illegal?"),
        ("How do I raise my grades at school?", "my lower marks in class worry me, help"),
    ],
)
def test_an_opposite_that_something_makes_up_for_is_doubted(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "doubts"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the difference between hot and cold?", "How do cold and hot differ?"),
        ("Is it good or bad?", "Is it good?"),
        ("How do I start a car?", "How can I get a car started?"),
        ("Flights from Paris to London", "Flights to London from Paris"),
        ("How to lose weight?", "Losing weight"),
        ("How high is the tower?", "What is the height of the tower?"),
    ],
)
def test_texts_without_opposites_pass(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "silent"
