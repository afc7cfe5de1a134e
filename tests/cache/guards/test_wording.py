"""How a question is read."""

from __future__ import annotations

import pytest

from llmhost.cache.guards.stems import stem
from llmhost.cache.guards.wording import MOST_WORDS, named, overlap, read


@pytest.mark.parametrize(
    "forms",
    [
        "increase increases increased increasing",
        "stop stops stopped stopping",
        "country countries",
        "fast faster fastest",
        "happy happier happiest",
        "buy buys bought buying",
        "good better best",
        "child children",
        "try tries tried trying",
        "sell sells sold selling",
        "quick quickly",
    ],
)
def test_inflected_forms_have_one_stem(forms: str) -> None:
    assert len({stem(form) for form in forms.split()}) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("new", "news"), ("less", "lesson"), ("speed", "spend"), ("thing", "thin")]
)
def test_other_words_keep_other_stems(one: str, other: str) -> None:
    assert stem(one) != stem(other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I can't go", ("i", "can", "not", "go")),
        ("I cannot go", ("i", "can", "not", "go")),
        ("They don\u2019t", ("they", "do", "not")),
        ("What's Tom's name?", ("what", "is", "tom", "name")),
        ("We're here, they've left", ("we", "are", "here", "they", "have", "left")),
        ("C++ or C# on iPhone7?", ("c++", "or", "c#", "on", "iphone", "7")),
        ("5km at 3.5%", ("5", "km", "at", "3.5")),
        ("", ()),
    ],
)
def test_words_are_split_where_their_parts_mean_something(text: str, words: tuple[str, ...]) -> None:
    assert read(text).words == words


def test_written_words_and_stems_stand_beside_the_words() -> None:
    wording = read("Why can't Dogs run? They're tired.")
    assert len(wording.written) == len(wording.words) == len(wording.stems)
    assert wording.written[wording.words.index("dogs")] == "Dogs"


def test_the_first_word_of_each_sentence_opens_it() -> None:
    wording = read("Hello there. Where is Rome?")
    assert {wording.words[place] for place in wording.opening} == {"hello", "where"}


def test_no_more_than_the_first_words_are_read() -> None:
    wording = read("word " * (3 * MOST_WORDS))
    assert len(wording.words) == MOST_WORDS
    assert wording.cut


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("bake bread", "Bread baking", 1.0),
        ("bake bread", "cut bread", 0.5),
        ("bake bread", "ride horses", 0.0),
        ("what is it", "who are you", 1.0),
    ],
)
def test_likeness_is_the_share_of_words_that_both_say(one: str, other: str, alike: float) -> None:
    assert overlap(read(one), read(other)) == alike


def test_likeness_leaves_out_what_is_known_to_differ() -> None:
    assert overlap(read("bake bread"), read("cut bread"), without=2) == 1.0


def test_things_are_named_as_people_list_them() -> None:
    assert named({"b", "a"}) == "a and b"
    assert named(["only"]) == "only"
    assert named("dcba") == "a, b and c"
