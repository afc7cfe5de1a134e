"""Numbers in words, and text from outside made safe for a terminal."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cli.text import (
    TextFilter,
    ago,
    clean,
    columns_of,
    credit,
    data_size,
    duration,
    milliseconds,
    money,
    percent,
    shortened,
    wrapped,
)

#: Text that is likely to hold control sequences, whole and cut off.
hostile = st.lists(
    st.one_of(
        st.sampled_from(list("\x1b[]()\\;?0123m \x07\x9b\x9c\x9d\x90PX^_\n\t\rHJ\u202e")), st.text(max_size=3)
    ),
    max_size=40,
).map("".join)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢\tand\nlines", "plain é 漢\tand\nlines"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1H", ""),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPpayload\x1b\\after", "after"),
        ("\x9b31mred", "red"),
        ("\x1b(Bset", "set"),
        ("\x1bcreset", "reset"),
        ("over\rwritten\x08", "overwritten"),
        ("\x1b\x1b[31m[31mnested", "[31mnested"),
        ("\x1b]never ends\nbut the text goes on", "]never ends\nbut the text goes on"),
        ("a\u202eb\u2066c", "abc"),
    ],
)
def test_clean_drops_what_a_terminal_would_obey(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(hostile)
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    left = {c for c in clean(text) if unicodedata.category(c) == "Cc"}
    assert left <= {"\n", "\t"}


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs"])))
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert clean(text) == text


@given(st.lists(hostile, max_size=8))
def test_a_stream_shows_what_the_whole_text_would_show(pieces: list[str]) -> None:
    text_filter = TextFilter()
    shown = "".join(text_filter.feed(piece) for piece in pieces) + text_filter.close()
    assert shown == clean("".join(pieces))


def test_a_stream_is_shown_at_once_where_nothing_is_unfinished() -> None:
    assert TextFilter().feed("Artificial") == "Artificial"


def test_a_stream_does_not_hold_text_back_for_ever() -> None:
    text_filter = TextFilter()
    shown = "".join(text_filter.feed(piece) for piece in ["\x1b]", *["words "] * 1000])
    assert shown.startswith("]words words")


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (money(0), "$0"),
        (money(0.00042), "$0.00042"),
        (money(0.000000012), "$0.000000012"),
        (money(0.0099), "$0.0099"),
        (money(0.0999), "$0.10"),
        (money(1.5), "$1.50"),
        (money(1234.567), "$1,234.57"),
        (money(-0.3), "-$0.30"),
        (duration(0.085), "85 ms"),
        (duration(0.9996), "1.0 s"),
        (duration(3.21), "3.2 s"),
        (duration(59.96), "1 min"),
        (duration(125), "2 min 5 s"),
        (duration(3600), "1 h"),
        (duration(11520), "3 h 12 min"),
        (duration(86399.9), "1 d"),
        (duration(187200), "2 d 4 h"),
        (milliseconds(0), "0 ms"),
        (milliseconds(0.421), "0.42 ms"),
        (milliseconds(8.14), "8.1 ms"),
        (milliseconds(1250), "1,250 ms"),
        (data_size(0), "0 B"),
        (data_size(1023), "1023 B"),
        (data_size(1536), "1.5 KiB"),
        (data_size(1048575), "1.0 MiB"),
        (data_size(5e9), "4.7 GiB"),
        (data_size(5e13), "45.5 TiB"),
        (percent(0), "0 %"),
        (percent(0.0004), "<0.1 %"),
        (percent(0.004), "0.4 %"),
        (percent(0.724), "72 %"),
        (percent(0.9999), "99.9 %"),
        (percent(1), "100 %"),
        (ago(100.0, 100.4), "just now"),
        (ago(100.0, 105.9), "5 s ago"),
        (ago(100.0, 400), "5 min ago"),
        (ago(100.0, 50), "just now"),
        (credit(12.3, 30.0), "credit $12.30, enough for 1 d 6 h"),
        (credit(12.3, None), "credit $12.30"),
        (credit(-0.0000042, 0.0), "credit $0: used up"),
        (credit(-1.5, 0.0), "credit -$1.50: used up"),
        (shortened("a\nb", 4), "a b"),
        (shortened("abcdef", 4), "abc…"),
    ],
)
def test_numbers_and_texts_are_short_and_have_their_units(shown: str, words: str) -> None:
    assert shown == words


@pytest.mark.parametrize(
    ("start", "rest"), [("", "\x90"), ("\x1b[", "0"), ("\x1b", " "), ("", "\x9d0;")], ids=repr
)
def test_a_long_run_of_control_characters_takes_no_longer_than_other_text(start: str, rest: str) -> None:
    """It took from 15 seconds to minutes when each was read again from the others."""
    text, filtered, began = start + rest * 100_000, TextFilter(), time.process_time()
    clean(text)
    for piece in text:
        filtered.feed(piece)
    assert time.process_time() - began < 8.0


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two three", ["one two", "three"]),
        ("onetwothr four", ["onetwothr", "four"]),
        ("hint:  `a b c d` it", ["hint:", "`a b c d`", "it"]),
        ("see `one two three four`.", ["see `one", "two three", "four`."]),
        ("at http://example.com now", ["at http://example.com now"]),  # the terminal breaks it
        ("漢字 漢字 漢", ["漢字 漢字", "漢"]),
        ("\x1b[2mone two three\x1b[0m", ["\x1b[2mone two", "three\x1b[0m"]),
        ("first\n  then another", ["first", "  then", "another"]),
        ("a lone ` and more", ["a lone ` ", "and more"]),
    ],
)
def test_text_is_broken_between_words_and_not_in_what_is_to_be_copied(text: str, lines: list[str]) -> None:
    assert wrapped(text, 10).split("\n") == [line.rstrip() for line in lines]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (31, ["· exact hit · 3.3 ms", "· saved $0.000012 · entry 1f2e"]),
        (15, ["· exact hit", "· 3.3 ms ·", "saved $0.000012", "· entry 1f2e"]),
    ],
)
def test_a_line_is_broken_at_a_dot_where_it_has_any(width: int, lines: list[str]) -> None:
    assert wrapped("· exact hit · 3.3 ms · saved $0.000012 · entry 1f2e", width).split("\n") == lines


@given(st.text(st.sampled_from("ab漢· `\n\t"), max_size=80), st.integers(1, 20))
def test_breaking_lines_changes_no_word_and_only_a_longer_word_is_wider_than_the_line(
    text: str, width: int
) -> None:
    text = "\n".join(map(str.strip, text.split("\n")))
    lines = wrapped(text, width).split("\n")
    assert " ".join(lines).split() == text.split()
    wide = [line for line in lines if columns_of(line) > width]
    assert all(max(map(columns_of, line.split())) > width for line in wide)
