"""The files that a cache is filled from."""

from __future__ import annotations

import io

import pytest

from llmhost.answering.warm import read_questions
from llmhost.errors import UsageError


def test_a_line_is_a_question_or_an_object_with_one() -> None:
    lines = '\ufeffWhat is Redis?\r\n\n  who was Plato \n{"question": "a", "answer": "b"}\n{"question": "ä"}'
    assert list(read_questions("file", io.BytesIO(lines.encode()))) == [
        ("What is Redis?", None),
        ("who was Plato", None),
        ("a", "b"),
        ("ä", None),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b'{"answer": "b"}',
        b'{"question": 1}',
        b'{"question": "a", "answer": 2}',
        b'{"question": "a", "answer": ""}',
        b"{",
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_neither_is_named(line: bytes) -> None:
    read = read_questions("file", io.BytesIO(b"a question\n" + line))
    assert next(read) == ("a question", None)
    with pytest.raises(UsageError, match="file: line 2 "):
        next(read)
