"""Can a turn be understood without the others, and does a text say what it asks?"""

from __future__ import annotations

import pytest

from llmhost.answering.standalone import objection, shown_turns, tidied
from llmhost.engines.engine import Message

KETTLE = ["What is the warranty on the Kestrel kettle?", "Two years on the Kestrel kettle."]


def turns(*texts: str) -> list[Message]:
    return [Message("assistant" if at % 2 else "user", text) for at, text in enumerate(texts)]


def why(text: str, last: str, *before: str) -> str:
    shown = shown_turns(turns(*before), last)
    assert shown
    return objection(text, last, shown)


# What the last turn may refer to


@pytest.mark.parametrize(
    "last",
    [
        "Yes, cancel it",
        "yes",
        "ok",
        "Ok, do it",
        "Sure, go ahead",
        "no thanks",
        "The second one",
        "the cheaper one please",
        "that one",
        "Option 2",
        "both",
        "Book it",
        "Could you cancel that?",
        "Tell me more",
        "Can you elaborate?",
        "Can you translate that into German?",
        "What do you mean?",
        "Are you sure?",
        "What else can it do?",
        "And the other one?",
        "Why?",
        "Another example?",
        "You said two years, why?",
        "Rome",
        "Two nights from Friday on",
        "",
        "thanks!",
        "👍",
    ],
)
def test_a_turn_that_agrees_chooses_answers_or_goes_on_is_never_condensed(last: str) -> None:
    assert shown_turns(turns(*KETTLE), last) == ()


@pytest.mark.parametrize("last", ["Can it be extended?", "Thanks! And how long is it?", "what about abroad"])
def test_a_follow_up_question_is_shown_with_the_turns_that_it_may_refer_to(last: str) -> None:
    assert shown_turns(turns("Hello", "Hi!", *KETTLE), last) == tuple(turns(*KETTLE))


def test_turns_before_the_nearest_that_needs_no_other_are_not_shown() -> None:
    spoken = turns(*KETTLE, "Who was Marie Curie?", "A physicist.", "When did she die?", "In 1934.")
    assert shown_turns(spoken, "And where was she buried?") == tuple(spoken[2:])


def test_what_is_too_far_away_is_not_looked_for() -> None:
    follow_ups = ["When did she die?", "In 1934."] * 3
    assert shown_turns(turns("Who was Marie Curie?", "A physicist.", *follow_ups), "Where was she?") == ()


@pytest.mark.parametrize(
    "said",
    [
        "From now on answer in one sentence.",
        "Please reply in French",
        "Pretend you are a pirate.",
        "Keep it short",
        "I am allergic to nuts, keep that in mind.",
        "Explain everything like I'm 5",
    ],
)
def test_where_the_user_has_said_how_to_answer_nothing_is_condensed(said: str) -> None:
    assert shown_turns(turns(said, "Fine.", *KETTLE), "Can it be extended?") == ()


def test_what_the_user_has_told_of_themselves_before_is_no_others_context() -> None:
    assert shown_turns(turns("My laptop runs Linux", "Nice.", *KETTLE), "Can it be extended?") == ()


@pytest.mark.parametrize(
    "turn", [Message("system", "Be kind."), Message("tool", "{}"), Message("user", [{"type": "text"}])]
)
def test_a_conversation_with_more_than_plain_turns_is_not_condensed(turn: Message) -> None:
    assert shown_turns([turn, *turns(*KETTLE)], "Can it be extended?") == ()


@pytest.mark.parametrize(
    ("topic", "told", "last"),
    [
        ("Was kostet der Pro-Tarif?", "Er kostet 20 Euro.", "Wie lange läuft er denn?"),
        ("Wer war Marie Curie?", "Eine Physikerin.", "Wann starb sie?"),
        ("¿Qué es un préstamo?", "Dinero prestado.", "¿Cuánto cuesta al año?"),
        ("Что такое Redis?", "База данных.", "Как его установить?"),  # noqa: RUF001
        ("什么是猫?", "一种动物。", "它吃什么?"),
    ],
)
def test_a_conversation_that_is_not_plainly_english_is_not_condensed(
    topic: str, told: str, last: str
) -> None:
    assert shown_turns(turns(topic, told), last) == ()


def test_long_turns_of_the_assistant_are_cut_and_of_the_user_end_it() -> None:
    long = shown_turns(turns(KETTLE[0], "word " * 5000), "Can it be extended?")
    assert [len(str(turn.content)) for turn in long] == [len(KETTLE[0]), 800]
    assert shown_turns(turns(KETTLE[0] + " word" * 200, "Yes."), "Can it be extended?") == ()


# Is this the question?


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("Can the warranty on the Kestrel kettle be extended?", "Can it be extended?"),
        ("How long is the warranty on the Kestrel kettle abroad?", "And how long is it abroad?"),
        ("what is the warranty on the kestrel kettle in spain", "and in spain?"),
    ],
)
def test_a_question_that_says_all_of_it_with_the_words_that_were_said_is_taken(text: str, last: str) -> None:
    assert why(text, last, *KETTLE) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Can it be extended?", "refers to something else: it"),
        ("Can the warranty be extended?", "refers to something else: the warranty"),
        ("Can the warranty on the kettle be extended?", "refers to something else: the kettle"),
        ("Can the warranty on a kettle be extended?", "user has named: kestrel"),
        ("Can the warranty on the Kestrel toaster be extended?", "nobody has said: toast"),
        ("Can the warranty on the Kestrel kettle be extended to 5 years?", "nobody has said: 5"),
        ("Can the warranty on the Kestrel kettle never be extended?", "nobody has said: never"),
        ("Why can the warranty on the Kestrel kettle be extended?", "nobody has said: why"),
        ("Is there a warranty on the Kestrel kettle?", "lacks what the last turn says: extend"),
        ("Can the warranty on the Kestrel kettle be extended by them?", "refers to something else: them"),
        ("Can this warranty on the Kestrel kettle be extended?", "refers to something else: this"),
        ("The warranty on the Kestrel kettle can be extended.", "no single question"),
        ("Can the warranty on the Kestrel kettle be extended? Two years.", "no single question"),
        ("Can the warranty on the\nKestrel kettle be extended?", "more than one paragraph"),
        ("NONE", "too short"),
        ("", "too short"),
        ("Can the warranty on the Kestrel kettle be extended" + " two years" * 40 + "?", "too long"),
    ],
)
def test_what_cannot_be_shown_to_be_the_question_is_refused_and_it_is_said_why(text: str, words: str) -> None:
    assert words in why(text, "Can it be extended?", *KETTLE)


@pytest.mark.parametrize(
    ("text", "last", "topic"),
    [
        ("What are the side effects?", "What are the side effects?", "What is ibuprofen for?"),
        ("How many calories?", "How many calories?", "Tell me about avocados"),
        ("Is breakfast included?", "Is breakfast included?", "What does a room in Rome cost?"),
        ("How do I export a report to PDF?", "How do I export a report to PDF?", "How do I print a report?"),
        ("How do I install the thing?", "How do I install it?", "What is redis?"),
    ],
)
def test_a_turn_that_only_seems_to_stand_alone_is_refused(text: str, last: str, topic: str) -> None:
    assert why(text, last, topic, "It is so.") != ""


def test_a_turn_about_another_thing_that_it_names_stands_alone() -> None:
    asked = "What is the capital of France?"
    assert why(asked, f"Thanks! {asked}", *KETTLE) == ""
    assert why(asked, asked, "Is Paris the capital of Texas?", "No.") != ""


def test_a_name_of_which_the_model_took_one_of_two_is_refused() -> None:
    topic = "Which is quieter, the Zephyr fan or the Gale fan?"
    assert "user has named" in why("How heavy is the Gale fan?", "How heavy is it?", topic, "The Gale.")


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ('"Can it be extended?"', "Can it be extended?"),
        ("Question: What is it?\n", "What is it?"),
        ("Standalone question: “What is it?”", "What is it?"),
        ("  What is it? ", "What is it?"),
    ],
)
def test_what_models_put_around_a_question_is_taken_away(said: str, left: str) -> None:
    assert tidied(said) == left


@pytest.mark.parametrize("unit", ["the ", "it that ", "is it ", "so ", "ok, ", "A.B? ", "and or ", "do it "])
def test_reading_takes_no_longer_for_hostile_texts(unit: str) -> None:
    text = (unit * 2000)[:600]
    shown = shown_turns(turns(*KETTLE), f"{text}?") or tuple(turns(text))
    objection(text, text, shown)
