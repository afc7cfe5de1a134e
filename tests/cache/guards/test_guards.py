"""Each guard on its pairs, and all guards together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.guard_verdict import verdict
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.guards import GUARDS, numbers, objections, read
from llmhost.cache.guards.antonyms import OPPOSITES

VOCABULARY = (
    "what who why how is are not no without the a of in to from by than and or can't isn't 5 17 2016 km "
    "miles % + - python java Paris London Germany increase decrease hot cold before after affect cause learn "
    "teach one "
    'install "x" foo_bar --force monday May today tallest never better US U.S. \u200b \u0430 de la und ist '
    "15% "
    "seventeen . ?"
)
QUESTION = st.lists(st.sampled_from(VOCABULARY.split()), max_size=12).map(" ".join) | st.text(max_size=60)


def pairs() -> Iterator[tuple[str, str, str, str]]:
    """Guard, what it says, and the two questions, of each line of `pairs.txt`."""
    guard = expected = ""
    for line in (Path(__file__).parent / "pairs.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            guard, expected = line.strip("[]").split()
        elif line and not line.startswith("#"):
            one, other = line.split(" | ")
            yield guard, expected, one, other


@pytest.mark.parametrize(("guard", "expected", "one", "other"), list(pairs()))
def test_a_guard_says_of_a_pair_what_it_must(guard: str, expected: str, one: str, other: str) -> None:
    assert verdict(dict(GUARDS)[guard], one, other) == expected


def test_every_guard_that_reads_words_has_pairs() -> None:
    assert {guard for guard, *_ in pairs()} == {name for name, _ in GUARDS} - {"plain text", "length"}


def test_a_guard_says_what_each_asks_about() -> None:
    objection = numbers.guard(read("What is 24 times 7?"), read("What is 23 times 7?"))
    assert objection is not None
    assert objection.words == "one asks about 24, the other about 23"


@given(QUESTION, QUESTION)
def test_refusing_does_not_depend_on_which_is_which(one: str, other: str) -> None:
    said = {objection.guard for objection in objections(one, other) if objection.refuses}
    assert said == {objection.guard for objection in objections(other, one) if objection.refuses}


def test_the_pair_of_opposites_that_is_judged_does_not_depend_on_which_is_which() -> None:
    one, other = "Which engine is more fast?", "Which engine is less slow?"
    said = [[objection.refuses for objection in objections(*pair)] for pair in ((one, other), (other, one))]
    assert said[0] == said[1]


@given(QUESTION)
def test_only_faulty_text_speaks_against_itself(text: str) -> None:
    assert {objection.guard for objection in objections(text, text)} <= {"plain text", "length"}


@given(QUESTION, QUESTION)
def test_each_guard_objects_in_its_own_name_and_in_order(one: str, other: str) -> None:
    names = [name for name, _ in GUARDS]
    said = [objection.guard for objection in objections(one, other)]
    assert said == [name for name in names if name in said]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is artificial intelligence?", "Explain AI in simple terms"),
        ("What is the boiling point of water?", "At what temperature does water boil?"),
        ("How far is the Moon from Earth?", "What is the distance between the Earth and the Moon?"),
        ("How do I reset my password?", "I forgot my password, how can I reset it?"),
        ("What's the population of Japan?", "How many people live in Japan?"),
        ("Is coffee bad for you?", "Is drinking coffee unhealthy?"),
        ("\u6cd5\u56fd\u7684\u9996\u90fd", "\u6cd5\u56fd\u7684\u9996\u90fd\u662f\u4ec0\u4e48"),
        ("", ""),
        ("\U0001f600", "\U0001f601"),
    ],
)
def test_rewordings_are_not_refused(one: str, other: str) -> None:
    assert [objection for objection in objections(one, other) if objection.refuses] == []


@pytest.mark.parametrize(
    "text",
    [
        "one of the best words is not 5 km. " * 2000,
        "a" * 100_000,
        '"' * 100_000,
        "1," * 50_000,
        "a_" * 50_000,
        "1 + " * 25_000,
        " ".join(map(str, range(20_000))),
        " ".join(f"Name{number}" for number in range(10_000)),
        "'a " * 30_000,
        "\u200b" * 50_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    objections(text, text + "x")
    assert time.process_time() - began < 0.5


def test_an_opposite_is_opposed_to_its_opposite() -> None:
    assert [
        (word, other)
        for word, others in OPPOSITES.items()
        for other in others
        if word not in OPPOSITES[other]
    ] == []
    assert [word for word, others in OPPOSITES.items() if word in others] == []
