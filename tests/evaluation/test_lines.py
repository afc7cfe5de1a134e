"""Files of JSON lines: what is read, what is left out, what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmhost.errors import UsageError
from llmhost.lab import pairs as lines
from llmhost.lab.pairs import BrokenLine, Lines, question_in, read_lines, skipped_words

#: enough sound lines beside one that is broken
SOUND = b'{"q": "one"}\n' * 30


def parse(row: Mapping[str, Any]) -> str:
    return question_in(row, "q")


def read(folder: Path, content: bytes, *, name: str = "f.jsonl", limit: int | None = None) -> Lines[str]:
    path = folder / name
    path.write_bytes(content)
    return read_lines(path, parse, hint="write lines", limit=limit)


def test_rows_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, b'{"q": "one"}\n\n \n{"q": "two"}').rows == ("one", "two")


def test_a_packed_file_is_unpacked(tmp_path: Path) -> None:
    assert read(tmp_path, gzip.compress(b'{"q": "one"}\n'), name="f.jsonl.gz").rows == ("one",)


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    assert read(tmp_path, b'\xef\xbb\xbf{"q": "one"}\n').rows == ("one",)


def test_after_the_limit_nothing_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, b'{"q": "one"}\n{"q": "two"}\nbroken', limit=2) == Lines(("one", "two"), ())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b'"text"', "it is not a JSON object"),
        (b"\xff\xfe", "it is not text in UTF-8"),
        (b'{"a": "b"}', "'q' is missing"),
        (b'{"q": 7}', "'q' is not a text with words in it"),
        (b'{"q": " \\t"}', "'q' is not a text with words in it"),
        (b'{"q": "' + b"a" * 100_001 + b'"}', "'q' is longer than 100,000 characters"),
        (b'{"q": "' + b"a" * 2_500_000 + b'"}', "it is longer than 1,000,000 bytes"),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else value,
)
def test_a_broken_line_is_named_and_left_out(tmp_path: Path, line: bytes, reason: str) -> None:
    found = read(tmp_path, SOUND + line + b"\n" + SOUND)
    assert (len(found.rows), found.broken) == (60, (BrokenLine(31, reason),))


def test_a_file_with_more_than_a_twentieth_broken_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"2 of 32 lines make no sense: line 31: it is not JSON; line 32: "):
        read(tmp_path, SOUND + b"no\nno\n")


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match=r"f\.jsonl is empty"):
        read(tmp_path, content)


@pytest.mark.parametrize("content", [b"plain", gzip.compress(SOUND)[:-12]], ids=["plain", "cut off"])
def test_what_is_no_whole_packed_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*f\.gz"):
        read(tmp_path, content, name="f.gz")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_lines(tmp_path / "none", parse, hint="")


def test_a_file_with_too_many_lines_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_MOST_LINES", 3)
    assert len(read(tmp_path, b'{"q": "one"}\n' * 3).rows) == 3
    with pytest.raises(UsageError, match="more than 3 lines"):
        read(tmp_path, b'{"q": "one"}\n' * 4)


def test_of_many_broken_lines_three_are_named() -> None:
    broken = [BrokenLine(number, "no") for number in range(1, 6)]
    assert skipped_words(Path("x/f"), broken) == (
        "f: 5 lines make no sense and are skipped: line 1: no; line 2: no; line 3: no; and 2 more"
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.binary(max_size=200), st.text(min_size=1).filter(str.strip))
def test_no_bytes_do_more_than_break_their_own_lines(tmp_path: Path, noise: bytes, text: str) -> None:
    sound = json.dumps({"q": text}).encode() + b"\n"
    found = read(tmp_path, sound + noise.replace(b"\n", b"")[:100] + b"\n" + sound * 30)
    assert (found.rows[0], found.rows[-30:]) == (text, (text,) * 30)
