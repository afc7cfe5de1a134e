"""The guard of negation."""

from __future__ import annotations

import pytest
from doubles.guard_verdict import verdict

from llmhost.cache.guards.negation import guard


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What can I eat while fasting?", "What can't I eat while fasting?"),
        ("Languages with garbage collection", "Languages without garbage collection"),
        ("Why is my phone charging?", "Why is my phone not charging?"),
        ("Which birds can fly?", "Which birds cannot fly?"),
        ("Which countries have an army?", "Which countries have no army?"),
        ("Who has climbed Everest?", "Who has never climbed Everest?"),
        ("Why do people vote?", "Why don\u2019t people vote?"),
        ("How do I log in with a password?", "How do I log in without a password?"),
    ],
)
def test_a_negation_on_one_side_only_is_refused(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "refuses"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I not lose my keys?", "How do I avoid losing my keys?"),
        ("Why am I not able to sleep?", "Why am I unable to sleep?"),
        ("Food without sugar", "Sugarless food"),
        ("Why is it not legal to park here?", "Why is it illegal to park here?"),
        ("How do I get there without a car?", "Getting up early every single morning"),
    ],
)
def test_a_negation_that_the_other_may_say_in_other_words_is_doubted(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "doubts"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Why can't I sleep?", "Why am I not sleeping?"),
        ("Food without sugar", "Food with no sugar"),
        ("Isn't it cold in Oslo?", "Is it cold in Oslo?"),
        ("It is cold in Oslo, isn't it?", "Is it cold in Oslo?"),
        ("Don't you think that dogs are clever?", "Do you think that dogs are clever?"),
        ("Is it true or not?", "Is it true?"),
        ("Not only dogs bark, what else does?", "What else barks besides dogs?"),
        ("Where is Rome?", "Where does Rome lie?"),
    ],
)
def test_questions_of_the_same_polarity_pass(one: str, other: str) -> None:
    assert verdict(guard, one, other) == "silent"
