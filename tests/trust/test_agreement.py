"""Do two answers say the same?"""

from __future__ import annotations

import pytest
from doubles.embedders import WordEmbedder
from hypothesis import given
from hypothesis import strategies as st

from llmhost.trust.agreement import Said, agree, answer_similarity, truncate_to_shorter

WHO = "who painted it"
MANY = "how many are there"
LONG = "there is more to be said of this than fits into one short line of text, so it goes on and on"


def said(answer: str, other: str, question: str = "", asked: str = "") -> tuple[Said, Said]:
    return Said(question, answer), Said(asked or question, other)


@pytest.mark.parametrize(
    ("one", "other", "similarity", "expected"),
    [
        ("Yes, it is.", "No, it is not.", 0.7, False),
        ("**No.** It is even.", "Yes: it is odd.", 0.7, False),
        ("There are 8.", "There are 9.", 0.7, False),
        ("There are eight planets.", "There are nine planets.", 0.7, False),
        ("It takes 5 minutes.", "It takes 2 hours.", 0.7, False),
        ("1.5 kg", "1500 mg", 0.7, False),
        ("It ended in 1918.", "It ended in 1945.", 0.7, False),
        ("Run `systemctl start nginx` as root.", "Run `systemctl stop nginx` as root.", 0.7, False),
        ("Leonardo da Vinci.", "Michelangelo.", 0.7, False),
        ("Hola", "Ciao", 0.7, False),
        ("Switch on the light with the key.", "Switch off the light with the key.", 0.7, False),
        ("It is odd.", "It is odd.", None, True),
        ("Paris", "The capital is Paris.", 0.5, True),
        ("8", "There are eight of them: Mercury, Venus, Earth, Mars and some more.", 0.3, True),
        ("1945", "It ended on 2 September 1945.", 0.6, True),
        ("Yes, since its only divisors are 1 and itself.", "Yes. It is the 1000th.", 0.8, True),
        (LONG, f"well, {LONG}", 0.8, True),
        ("", "", None, None),
        ("", "Paris", None, None),
        ("Paris", "London", None, None),
        ("New York City", "NYC", 0.77, None),
        ("Use the first one.", "That depends on what it is for, and on how much it may cost.", 0.2, None),
        (LONG, f"on the other hand, {LONG}", 0.6, None),
        ("100 °C at sea level", "212 °F at sea level", 0.6, None),
    ],
)
def test_answers_contradict_each_other_say_the_same_or_cannot_be_told(
    one: str, other: str, similarity: float | None, expected: bool | None
) -> None:
    assert agree(*said(one, other), similarity=similarity) is expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is 100 °C (212 °F).", "212 °F, which is 100 degrees Celsius."),
        ("About 384,400 km.", "Some 238,900 miles."),
        ("124 million people", "125 million people"),
        ("1,500 m", "1.5 km"),
        ("8 to 12 minutes", "10 minutes"),
        ("3-4 cups", "4 cups a day"),
        ("366", "366 days"),
        ("$7.25 an hour", "$7.25 per hour since 2009"),
        ("8,849 metres", "8,848.86 m high"),
    ],
)
def test_the_same_number_in_other_words_is_no_contradiction(one: str, other: str) -> None:
    assert agree(*said(one, other), similarity=0.6) is not False


@pytest.mark.parametrize(("similarity", "expected"), [(0.49, False), (0.5, None), (0.79, None), (0.8, True)])
def test_long_answers_are_told_apart_by_how_alike_they_are(similarity: float, expected: bool | None) -> None:
    assert agree(*said(LONG, LONG.replace("one short line", "a page")), similarity=similarity) is expected


def test_what_the_question_said_already_is_not_the_answer() -> None:
    answers = said("15% of 240 is 36.", "25% of 240 is 60.", "What is 15% of 240?", "What is 25% of 240?")
    assert agree(*answers, similarity=0.87) is False


def test_a_number_in_a_long_answer_does_not_decide() -> None:
    assert agree(*said(f"{LONG} {LONG} 8", f"{LONG} {LONG} 9"), similarity=0.7) is None


@given(
    st.text(max_size=200), st.text(max_size=200), st.floats(-1, 1), st.sampled_from(["", "What is 8 + 7?"])
)
def test_it_does_not_matter_which_answer_came_first(
    one: str, other: str, similarity: float, question: str
) -> None:
    ours, theirs = said(one, other, question)
    assert agree(ours, theirs, similarity) == agree(theirs, ours, similarity)


@given(st.text(), st.none() | st.floats(-1, 1))
def test_no_answer_contradicts_itself(answer: str, similarity: float | None) -> None:
    assert agree(*said(answer, answer), similarity=similarity) is (True if answer.strip() else None)


@given(st.text(alphabet="0123456789.,- to%°$kmg", max_size=60))
def test_whatever_looks_like_numbers_can_be_read(answer: str) -> None:
    one, other = said(answer, "8 kg or 9")
    assert agree(one, other, similarity=0.6) is agree(other, one, similarity=0.6)


def test_the_common_length_is_the_shorter_one() -> None:
    assert truncate_to_shorter("abcdef", "xyz") == ("abc", "xyz")


def test_likeness_is_the_mean_of_the_nearest_parts() -> None:
    one = "first words. " + "a " * 120 + "."
    embed = WordEmbedder().embed
    assert answer_similarity(embed, "b c d", "b c d") == pytest.approx(1)
    assert answer_similarity(embed, "b c d", "e f g") == pytest.approx(0)
    assert answer_similarity(embed, one, "first words.") is not None


def test_a_part_that_the_model_cannot_read_is_left_out() -> None:
    unreadable = "x " * 120
    embed = WordEmbedder().embed
    assert answer_similarity(embed, unreadable, "b c d") is None
    assert answer_similarity(embed, f"b c d\n{unreadable * 3}", "b c d") == pytest.approx(1)


def test_of_a_very_long_answer_the_beginning_is_read() -> None:
    embedder = WordEmbedder()
    answer_similarity(embedder.embed, "a sentence of five words. " * 10_000, "five")
    assert embedder.calls <= 25
