"""Which questions are asked, and yet not answered from the cache."""

from __future__ import annotations

import time

import pytest

from llmhost.answering.admission import is_creative, kind_of

CHANGING = [
    "What time is it?",
    "what\u2019s the date today",
    "Who is the current president of France?",
    "What's the weather like in Lisbon?",
    "Is GitHub down?",
    "Is the shop open?",
    "What is the price of gold?",
    "What is the latest version of Python?",
    "Are there any flights to Rome tonight?",
    "How many days until Christmas?",
    "Has it stopped raining yet?",
]
ACTING = [
    "Book a table for two",
    "Can you please book a table?",
    "Find a good restaurant. Then reserve a table.",
    "Cancel my subscription",
    "Remind me to call mum",
    "Turn off the lights",
    "turn the heating down",
    "Send 5 euros to Ann",
    "Play some jazz music",
    "set an alarm for 7",
    "Delete my account",
    "Add milk to my shopping list",
]
PERSONAL = [
    "Is my parcel here yet?",
    "What is my balance?",
    "Where is my order?",
    "show me my last three invoices",
    "My name is Bob. Who are you?",
    "I am 43 years old, what should I eat?",
    "I was diagnosed with asthma",
    "Write to joe@example.com",
    "Is 4111 1111 1111 1111 a valid card?",
    "My number is +41 44 123 45 67",
    "Is DE89 3704 0044 0532 0130 00 right?",
]
ORDINARY = [
    "What is Redis?",
    "How do I book a table online?",
    "How do I cancel my subscription?",
    "How do I reset my password?",
    "I forgot my password, how can I reset it?",
    "Where can I find my invoice?",
    "What happens if my parcel is late?",
    "What is the time complexity of quicksort?",
    "What is the current in a circuit?",
    "What is weather?",
    "Is a whale a mammal?",
    "Delete a branch in git",
    "Set a variable in bash",
    "Open a file in Python",
    "Remove duplicates from a list",
    "When did the war start?",
    "How do I push this branch?",
    "What is a reservation?",
    "\u6cd5\u56fd\u7684\u9996\u90fd",
    "",
]


@pytest.mark.parametrize("asked", CHANGING)
def test_a_question_about_now_is_changing(asked: str) -> None:
    assert kind_of(asked) == "changing"


@pytest.mark.parametrize("asked", ACTING)
def test_a_request_to_do_something_is_acting(asked: str) -> None:
    assert kind_of(asked) == "acting"


@pytest.mark.parametrize("asked", PERSONAL)
def test_a_question_about_ones_own_data_is_personal(asked: str) -> None:
    assert kind_of(asked) == "personal"


@pytest.mark.parametrize("asked", ORDINARY)
def test_a_question_that_has_one_answer_for_everyone_is_ordinary(asked: str) -> None:
    assert kind_of(asked) is None


@pytest.mark.parametrize(
    ("asked", "creative"),
    [
        ("Write a poem about the sea", True),
        ("Can you tell me a joke?", True),
        ("another limerick, please", True),
        ("Who wrote the poem?", False),
        ("Write a function that sorts", False),
    ],
)
def test_what_is_to_be_another_each_time_is_creative(asked: str, creative: bool) -> None:
    assert is_creative(asked) is creative


@pytest.mark.parametrize("frame", ["{} Is my parcel here?", "Is my parcel here?\n{}"])
def test_what_is_asked_is_found_before_and_after_a_long_text(frame: str) -> None:
    assert kind_of(frame.format("lorem ipsum. " * 2000)) == ("personal" if frame[0] == "I" else None)
    assert kind_of("lorem ipsum. " * 2000 + "Book a table.") == "acting"


@pytest.mark.parametrize(
    "text", ["please " * 20_000, "is " * 50_000, "1 " * 50_000, "a@" * 50_000, "my " * 9_000]
)
def test_no_text_takes_long(text: str) -> None:
    kind_of("warm up")
    is_creative("warm up")
    began = time.process_time()
    kind_of(text)
    is_creative(text)
    assert time.process_time() - began < 0.5
