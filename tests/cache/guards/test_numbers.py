"""The guard of numbers, units and reckoning."""

from __future__ import annotations

import pytest
from doubles.guard_verdict import verdict

from llmhost.cache.guards.numbers import guard
from llmhost.cache.guards.wording import read


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 15% of 240?", "What is 25% of 240?"),
        ("Is 7919 a prime number?", "Is 7917 a prime number?"),
        ("How do I install Python 2?", "How do I install Python 3?"),
        ("What is new in Node 18.2?", "What is new in Node 18.4?"),
        ("What happened in 1914?", "What happened in 1918?"),
        ("How long is a 5 km run?", "How long is a 5 mile run?"),
        ("Things to do in Rome in two days", "Things to do in Rome in four days"),
        ("Who won World War II?", "Who won World War I in 1918?"),
        ("Art of the 18th century", "Art of the nineteenth century"),
        ("What is 7 + 5?", "What is 7 - 5?"),
        ("What is 8 / 2?", "What is 2 / 8?"),
        ("What is the square of -3?", "What is the square of 3?"),
        ("Best phone under 10k", "Best phone under 20k"),
    ],
)
def test_other_numbers_are_refused(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "refuses"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is my cat too heavy at 6 kg?", "Is my cat too heavy?"),
        ("How many ounces are in 5 pounds?", "How many ounces are in a pound?"),
    ],
)
def test_a_measure_on_one_side_only_is_refused(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "refuses"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Best laptops in 2016", "Best laptops"),
        ("Rename 10 branches in git", "Rename branches in git"),
    ],
)
def test_a_number_that_only_one_says_is_doubted(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "doubts"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is 17 a prime number?", "Is seventeen a prime number?"),
        ("What is 1,000 times 3?", "What is 1000 times three?"),
        ("Best phone under 10k", "Best phone under 10,000"),
        ("What is 50% of 8?", "What is 50 percent of 8?"),
        ("Who won World War II?", "Who won World War 2?"),
        ("How far is 5 km?", "How far is 5000 m?"),
        ("A walk of 90 minutes", "A walk of 1.5 hours"),
        ("What cost $5 million?", "What cost 5,000,000 dollars?"),
        ("The third planet", "The 3rd planet"),
        ("How many ounces in 1 pound?", "How many ounces in one pound?"),
        ("How do I install iPhone7 apps?", "How do I install iPhone 7 apps?"),
        ("Twenty-five ways to cook rice", "25 ways to cook rice"),
        ("What is new in 4G?", "What is new in 4 G?"),
        ("Where is Rome?", "Where is Rome exactly?"),
    ],
)
def test_equal_numbers_pass_however_they_are_written(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "silent"


def test_it_says_what_each_asks_about() -> None:
    objection = guard(read("What is 24 times 7?"), read("What is 23 times 7?"))
    assert objection is not None
    assert objection.words == "one asks about 24, the other about 23"
