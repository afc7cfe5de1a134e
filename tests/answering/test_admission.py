"""Which questions are asked, and yet not answered from the cache."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmhost.answering import admission
from llmhost.answering.admission import admit, brings_own_data, writing_tool
from llmhost.cache.guards.word_lists import read_sections
from llmhost.config.models import CacheConfig


def requests() -> Iterator[tuple[str, str]]:
    """Kind and text of each line of `requests.txt`."""
    for kind, lines in read_sections(Path(__file__).parent / "requests.txt").items():
        yield from ((kind, line) for line in lines)


@pytest.mark.parametrize(("kind", "asked"), list(requests()))
def test_a_request_is_of_its_kind(kind: str, asked: str) -> None:
    assert admit(asked).kind == kind


@pytest.mark.parametrize("asked", ["", "   \n ", "?", "\u6cd5\u56fd\u7684\u9996\u90fd", "\U0001f600"])
def test_what_says_nothing_in_english_is_plain(asked: str) -> None:
    assert admit(asked).kind == "plain"


@pytest.mark.parametrize(
    ("asked", "kind", "because"),
    [
        ("Thanks! What time is it?", "changing", "what time is it"),
        ("Hi. Please cancel my order", "acting", "please cancel my"),
        ("Is joe@example.com a good name?", "personal", "joe@example.com"),
        ("What is Redis?", "plain", ""),
    ],
)
def test_the_words_that_tell_the_kind_are_named(asked: str, kind: str, because: str) -> None:
    admitted = admit(asked)
    assert (admitted.kind, admitted.because) == (kind, because)


@pytest.mark.parametrize("frame", ["{} Is my parcel here?", "Is my parcel here?\n{}"])
def test_what_is_asked_is_found_before_and_after_a_long_text(frame: str) -> None:
    assert admit(frame.format("lorem ipsum. " * 2000)).kind == "personal"
    assert admit("lorem ipsum. " * 2000 + "Book a table.").kind == "acting"


def test_words_that_a_text_is_about_are_not_what_it_asks() -> None:
    assert admit('Translate "Where is my order?" into French').kind == "plain"
    assert admit("Is “yesterday” an adverb?").kind == "plain"
    assert admit('Translate "write to joe@example.com"').kind == "personal"
    assert admit(f"Translate for {'İ' * 20}: where is my order?").kind == "plain"


@pytest.mark.parametrize(
    "wrap",
    ["i was wondering if {}", "do you know whether {}", "could you find out if {}", "just curious if {}"],
)
def test_a_question_within_another_one_is_of_the_same_kind(wrap: str) -> None:
    assert admit(wrap.format("the museum's open")).kind == "changing"
    assert admit(wrap.format("a tomato is a fruit")).kind == "plain"


def test_how_something_is_done_stays_plain_within_another_question() -> None:
    assert admit("do you know how to cancel an order").kind == "plain"
    assert admit("i was wondering how tides work").kind == "plain"


def test_a_request_after_what_it_is_about_is_read_by_itself() -> None:
    admitted = admit("I'm stuck in a tunnel, could you push the standup to noon?")
    assert (admitted.kind, admitted.because) == ("acting", "could you push the standup")
    assert admit("I'm stuck in a tunnel, could you explain what a standup is?").kind == "plain"


# The operator's own patterns


def test_what_the_operator_denies_is_denied_in_either_case() -> None:
    admitted = admit("Who leads Project Falcon?", deny=(r"project \w+",))
    assert (admitted.kind, admitted.because) == ("denied", "Project Falcon")


@pytest.mark.parametrize("before", [1_400, 50_000])
def test_what_the_operator_denies_is_found_in_the_middle_of_a_long_text(before: int) -> None:
    text = "lorem ipsum. " * (before // 13) + "Project Falcon is late. " + "lorem ipsum. " * 2_000
    assert admit(text, deny=("falcon",)).kind == "denied"


def test_what_is_too_long_to_be_read_whole_is_not_cached() -> None:
    assert admit("lorem ipsum. " * 7_000).kind == "plain"
    admitted = admit("lorem ipsum. " * 8_000)
    assert (admitted.kind, admitted.because) == ("denied", "too long to be read whole")


def test_what_the_operator_allows_is_plain() -> None:
    assert admit("What is the status of order processing?").kind != "plain"
    assert admit("What is the status of order processing?", allow=("order processing",)).kind == "plain"


def test_what_is_both_allowed_and_denied_is_denied() -> None:
    assert admit("order processing", allow=("order",), deny=("order",)).kind == "denied"


def test_a_persons_own_data_stays_personal_whatever_is_allowed() -> None:
    assert admit("order processing for joe@example.com", allow=("order",)).kind == "personal"


# What brings a person's own data


@pytest.mark.parametrize(
    "text",
    [
        "sk-abcdEFGH1234567890abcd",
        "-----BEGIN RSA PRIVATE KEY-----",
        "4111-1111-1111-1111",
        "DE89 3704 0044 0532 0130 00",
        "Dear Ms. Ortega",
        "Best regards,\nAnna",
    ],
)
def test_own_data_is_found_anywhere(text: str) -> None:
    assert brings_own_data(f"Correct this:\n{text}\nPlease.")


@pytest.mark.parametrize("before", [1_400, 5_000, 50_000, 90_000])
@pytest.mark.parametrize("own", ["4111 1111 1111 1111", "anna@example.com", "My name is Anna Smith"])
def test_own_data_is_found_in_the_middle_of_a_long_text(before: int, own: str) -> None:
    long = "lorem ipsum. " * 7_500
    admitted = admit(f"What does this say? {long[:before]} {own}. {long[before:]}"[:100_000])
    assert (admitted.kind, admitted.because) == ("personal", brings_own_data(own))


@pytest.mark.parametrize("before", range(1_400, 2_100, 25))
def test_what_a_piece_of_a_text_ends_in_is_found_in_the_next(before: int) -> None:
    text = ("lorem ipsum. " * 500)[:before] + " DE89 3704 0044 0532 0130 00 " + "lorem ipsum. " * 500
    assert brings_own_data(text)


@pytest.mark.parametrize(
    "text",
    [
        "What was new in Python 3.11 and 3.12?",
        "How far is 384,400 km in miles?",
        "Convert 1,000,000 rupees to words",
        "What happened on 14 July 1789?",
        "Is RFC 9110 newer than RFC 2616?",
        "Who was Albert Einstein?",
        "What does HTTP 404 mean?",
        "Is 192.168.0.1 a private address?",
        "What is the token limit?",
        "How long should a password be?",
        "What is 192.168.0.1 used for?",
        "What is 8.8.8.8?",
        "Is 1.1.1.1 faster than 8.8.8.8?",
        "What is the netmask 255.255.255.0?",
        "Is 203.0.113.7 a documentation address?",
        "What does 127.0.0.1 mean?",
        "What is new in version 2.3.4.5?",
        "What is 2001:db8::1?",
        "How do I find out my IP address?",
        "What is my IP used for by websites?",
        "When was Ada Lovelace born?",
        "Was Ada Lovelace born on 10 December 1815?",
        "Who was born on 12.03.1987?",
        "Who was born on 14 March 1979?",
        "How do I write a date like 12.03.1987 in ISO format?",
        "What happened at the dot com bubble?",
        "How does email work?",
        "How do I know if I have diabetes?",
        "Can I take ibuprofen if I have asthma?",
        "What are the symptoms of HIV?",
        "Do I have depression when I am sad?",
        "What is type 2 diabetes?",
        "I have a question about Redis",
        "I have two disks and one fails, what now?",
        "I have 34 apples",
        "I'm 15 minutes late, what do I say?",
        'What does "ich heiße" mean?',
        "Wie heißt die Hauptstadt von Frankreich?",
        "Meine Katze frisst nicht",
        "Wie hoch ist der Eiffelturm?",
        "Was ist eine Allee?",
        'How do you say "je m\'appelle" in English?',
        "What time is it at 12:30:45?",
        "Which theme fits Magento 1.9.2.4?",
        "I have a build failure, what now?",
        "I had a disk failure",
        "How do I free up my phone's storage?",
        "Was Goethe born on 28 August 1749?",
        "Is amazon dot com a store?",
        "Was kostet die Welt?",
    ],
)
def test_numbers_and_names_that_everyone_knows_are_nobodys_own(text: str) -> None:
    assert not brings_own_data(text)


# Tools


@pytest.mark.parametrize(
    ("tool", "writes"),
    [
        ({"type": "function", "function": {"name": "send_email"}}, True),
        ({"name": "createEvent", "input_schema": {}}, True),
        ({"type": "function", "name": "files.delete"}, True),
        ({"type": "bash_20250124", "name": "bash"}, True),
        ({"type": "function", "function": {"name": "get_weather"}}, False),
        ({"type": "function", "function": {"name": "search_orders"}}, False),
        ({"type": "function", "function": {"name": None}}, False),
        ("send_email", False),
    ],
)
def test_a_tool_that_does_something_is_told_by_its_name(tool: Any, writes: bool) -> None:
    assert bool(writing_tool([tool])) is writes


@pytest.mark.parametrize("tools", [None, [], "send", 7, {"name": "send"}])
def test_what_is_no_list_of_tools_has_none(tools: Any) -> None:
    assert writing_tool(tools) == ""


# Time


@pytest.mark.parametrize(
    "text",
    [
        "please " * 20_000,
        "is " * 50_000,
        "1 " * 50_000,
        "a@" * 50_000,
        "my " * 9_000,
        "is the " * 9_000,
        "what is the current " * 5_000,
        "send a b c d " * 5_000,
        "how many of the " * 5_000,
        "A b. " * 9_000,
        "a1" * 9_000,
        "a1" * 50_000,
        "eyj-" * 25_000,
        "a.b-" * 25_000,
        "Mr Anna " * 12_500,
        "born 1.1.1999 " * 7_000,
        "lorem ipsum dolor " * 5_500,
        "please, " * 10_000,
        "and give me a random " * 5_000,
        "generate new " * 8_000,
        "i wonder if you know " * 4_000,
        ", so could someone " * 5_000,
        "i need a b c d " * 6_000,
        " 'a b" * 20_000,
        ' say "a b"' * 5_000,
        "explain, please keep it short" * 2_000,
        "translate the " * 5_000 + ":",
        "Order Order " * 5_000,
        "\n" * 50_000,
        '"' * 50_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    admit("warm up")
    assert seconds(varied(text)) < 1.5


def test_patterns_that_begin_alike_are_searched_for_together() -> None:
    """Each is a pass over the text, which looks for where words begin, and finds nothing."""
    sections = read_sections(Path(admission.__file__).parent / "admission.txt")
    lines = {name: len(lines) for name, lines in sections.items() if name != "parts"}
    assert sum(len(admission._patterns(name)) for name in lines) < sum(lines.values()) / 2


def test_a_pattern_that_is_joined_with_others_has_no_alternatives_beside_it() -> None:
    for section, lines in read_sections(Path(admission.__file__).parent / "admission.txt").items():
        for line in lines:
            bare = re.sub(r"\[[^\]]*\]", "", re.sub(r"\\.", "", line))
            while (shorter := re.sub(r"\([^()]*\)", "", bare)) != bare:
                bare = shorter
            joined = section != "parts" and line.startswith(("<ask>", "^<polite>", r"\b"))
            assert not (joined and "|" in bare), line


def test_a_text_takes_time_by_its_length_alone() -> None:
    admit("warm up")
    short, long = (min(seconds(words(size)) for _ in range(3)) for size in (20_000, 80_000))
    assert long < 8 * short


def varied(text: str) -> str:
    """100,000 characters of it at most, in pieces of which each is another."""
    pieces = (text[begin : begin + 900] for begin in range(0, len(text), 900))
    return "".join(f"{piece} {chr(97 + at // 20)}q{chr(97 + at % 20)} " for at, piece in enumerate(pieces))[
        :100_000
    ]


def words(size: int) -> str:
    """Another text each time, of which nothing is remembered."""
    return " ".join(f"ab{uuid.uuid4().hex[:6]}" for _ in range(size // 9))


def seconds(text: str) -> float:
    """What it takes the processor to admit it."""
    began = time.process_time()
    admit(text)
    return time.process_time() - began


def test_no_text_takes_long_whatever_the_operator_denies() -> None:
    slow = tuple(f".{{0,66}}.{{0,66}}x{number}" for number in range(4))
    CacheConfig(deny=slow)
    began = time.process_time()
    admitted = [admit("r" * size, deny=slow).kind for size in (2_000, 4_000, 8_000, 30_000, 100_000)]
    assert admitted == ["plain", "plain", "denied", "denied", "denied"]
    assert time.process_time() - began < 2.5
