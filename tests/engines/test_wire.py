"""Cutting bytes into lines, and reading values of an untrusted shape."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from doubles.engine_limits import LIMITS
from hypothesis import given
from hypothesis import strategies as st

from llmhost.engines.engine import Endpoint
from llmhost.engines.http import LineSplitter
from llmhost.engines.ollama import OllamaEngine
from llmhost.engines.openai import OpenAIEngine
from llmhost.engines.wire import BadReply, Characters, count, error_text, finish_reason, parse_object, shorten

LINES = st.lists(st.text().filter(lambda line: "\n" not in line and not line.endswith("\r")))


def cut(data: bytes, sizes: list[int], max_line: int = 1 << 20) -> list[str]:
    splitter = LineSplitter(max_line)
    lines: list[str] = []
    for size in [*sizes, len(data)]:
        lines += splitter.feed(data[:size])
        data = data[size:]
    return [*lines, splitter.rest()]


@given(LINES, st.sampled_from(["\n", "\r\n"]), st.lists(st.integers(1, 7)))
def test_lines_do_not_depend_on_how_the_bytes_are_cut(lines, end, sizes):
    data = "".join(line + end for line in lines).encode()
    assert cut(data, sizes) == [*lines, ""]


def test_what_follows_the_last_line_end_is_the_rest():
    assert cut(b"one\ntwo", []) == ["one", "two"]


@pytest.mark.parametrize("data", [b"x" * 11, b"x" * 11 + b"\n", b"ok\n" + b"x" * 11])
def test_a_line_over_the_limit_is_a_bad_reply(data):
    with pytest.raises(BadReply, match="more than 10 bytes"):
        cut(data, [], max_line=10)


def test_a_byte_order_mark_is_stripped_at_the_start_and_nowhere_else():
    assert cut(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo", [1, 1]) == ["one", "\ufefftwo"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("eos", "stop"),
        ("STOP", "stop"),
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("tool_calls", "tool_calls"),
    ],
)
def test_what_engines_call_the_ends_that_all_of_them_have_is_one_name(said, reason):
    assert finish_reason({"why": said}, "why") == reason


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_character_whose_halves_come_in_two_pieces_is_whole(text):
    units, characters = text.encode("utf-16-le"), Characters()
    halves = [units[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(units), 2)]
    joined = "".join(map(characters.whole, halves))
    characters.end()
    assert joined == text


def read_in_pieces(pieces: tuple[str, ...]) -> None:
    characters = Characters()
    for piece in pieces:
        characters.whole(piece)
    characters.end()


@pytest.mark.parametrize(
    "pieces", [("\ude00",), ("\ud83d", "a"), ("b", "a\ud83d")], ids=["low", "other", "end"]
)
def test_half_a_character_that_is_never_completed_is_a_bad_reply(pieces):
    with pytest.raises(BadReply, match="half a character"):
        read_in_pieces(pieces)


def test_a_line_as_long_as_the_limit_is_fine():
    assert cut(b"x" * 10 + b"\n", [], max_line=10) == ["x" * 10, ""]


def test_lines_before_a_bad_one_are_given():
    lines = LineSplitter().feed(b"good\n\xff\n")
    assert next(lines) == "good"
    with pytest.raises(BadReply, match="not UTF-8"):
        next(lines)


@given(st.text())
def test_an_object_is_read_or_a_bad_reply(source):
    with suppress(BadReply):
        assert isinstance(parse_object(source), dict)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "message", "done", "done_reason", "usage", "error"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@pytest.mark.parametrize(("kind", "prefix"), [(OpenAIEngine, "data: "), (OllamaEngine, "")])
@given(data=st.data())
def test_a_reader_gives_events_or_a_bad_reply_whatever_comes(kind, prefix, data):
    read = kind(Endpoint("http://127.0.0.1:1"), LIMITS)._reader()
    with suppress(BadReply):
        for value in data.draw(st.lists(JSON, max_size=3)):
            for event in read(prefix + json.dumps(value)):
                assert str(event).encode()


@given(st.text())
def test_words_of_an_engine_become_one_short_printable_line(words):
    line = shorten(words)
    assert len(line) <= 240
    assert line == "" or line.isprintable()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("no memory", "no memory"),
        ({"message": "no memory", "code": 500}, "no memory"),
        ({"code": 500}, "500"),
        ({}, "an error without words"),
        (None, "an error without words"),
        (["no", "memory"], "no; memory"),
        ([{"error": {"code": 400, "message": "no memory", "status": "FAILED"}}], "no memory"),
        (
            {"error": {"message": "upstream", "metadata": {"raw": '{"error": {"message": "no memory"}}'}}},
            "upstream; no memory",
        ),
        ({"detail": [{"loc": ["body", "seed"], "msg": "not an integer"}]}, "not an integer; body; seed"),
        ({"message": "[no JSON"}, "[no JSON"),
        (json.loads("[" * 900 + '"too deep"' + "]" * 900), "an error without words"),
    ],
)
def test_an_error_is_read_in_every_shape(error, expected):
    assert error_text(error) == expected


@pytest.mark.parametrize("value", [None, -1, 1.5, "7", True, [7]])
def test_a_count_that_is_none_is_zero(value):
    assert count({"n": value}, "n") == 0
