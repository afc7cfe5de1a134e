"""Files of pairs and streams come from outside: nothing in them is taken on trust."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.errors import UsageError
from llmhost.lab import pairs as lines
from llmhost.lab.pairs import Asked, BrokenLine, Lines, Pair, read_pairs, read_stream, sample, skipped_words

SOUND = {"a": "How old is it?", "b": "What is its age?", "same": 1}

in_one_folder = settings(max_examples=40)


def line(**changes: Any) -> str:
    return json.dumps({key: value for key, value in {**SOUND, **changes}.items() if value is not ...}) + "\n"


def read(folder: Path, content: str | bytes, name: str = "pairs.jsonl") -> Lines[Pair]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_pairs(path)


def refusal(folder: Path, content: str | bytes, name: str = "pairs.jsonl") -> str:
    with pytest.raises(UsageError) as caught:
        read(folder, content, name)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_sound_file_gives_its_pairs_in_order(tmp_path: Path) -> None:
    content = line(same=True, kind="seed") + "\n  \n" + line(a="Ä?", same=0, kind=None, more=[1])
    assert read(tmp_path, content) == Lines(
        (
            Pair("How old is it?", "What is its age?", True, "seed"),
            Pair("Ä?", "What is its age?", False),
        ),
        (),
    )


def test_a_pair_may_bring_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"a": "x", "b": "y", "same": 1, "answer": "z"}\n')
    assert read_pairs(path).rows == (Pair("x", "y", True, None, "z"),)


def test_a_packed_file_with_a_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    packed = gzip.compress((chr(0xFEFF) + line() * 2).replace("\n", "\r\n").encode())
    assert len(read(tmp_path, packed, "pairs.jsonl.gz").rows) == 2


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("[1, 2]\n", "not a JSON object"),
        ("{\n", "not JSON"),
        ("[" * 100_000 + "\n", "not JSON"),
        (line(a=...), "'a' is missing"),
        (line(b=7), "'b' is not a text with words in it"),
        (line(a=" \t"), "'a' is not a text with words in it"),
        (line(a="x" * 100_001), "'a' is longer than 100,000 characters"),
        (line(same=...), "'same' is missing"),
        (line(same=2), "'same' is neither 0, 1, true nor false"),
        (line(same=1.0), "'same' is neither"),
        (line(same="1"), "'same' is neither"),
        (line(kind=3), "'kind' is not a text of 1 to 60 characters"),
        (line(kind="k" * 61), "'kind' is not a text"),
        (line(kind=" "), "'kind' is not a text"),
        ('"' + "x" * 1_000_001 + '"\n', "longer than 1,000,000 bytes"),
    ],
)
def test_a_broken_line_is_named_and_skipped(tmp_path: Path, broken: str, words: str) -> None:
    read_file = read(tmp_path, line() * 10 + broken + line() * 10)
    assert len(read_file.rows) == 20
    ((place, reason),) = [(one.line, one.reason) for one in read_file.broken]
    assert place == 11
    assert words in reason


def test_one_line_in_twenty_may_be_broken_and_no_more(tmp_path: Path) -> None:
    assert len(read(tmp_path, line() * 19 + "{\n").broken) == 1
    message = refusal(tmp_path, line() * 18 + "{\n")
    assert message == "pairs.jsonl: 1 of 19 lines make no sense: line 19: it is not JSON"


def test_of_many_broken_lines_the_first_are_named(tmp_path: Path) -> None:
    message = refusal(tmp_path, "{\n" * 8)
    assert message.startswith("pairs.jsonl: 8 of 8 lines make no sense: line 1: ")
    assert message.endswith("line 3: it is not JSON; and 5 more")
    broken = [BrokenLine(number, "no") for number in range(1, 6)]
    assert skipped_words(Path("x/f"), broken) == (
        "f: 5 lines make no sense and are skipped: line 1: no; line 2: no; line 3: no; and 2 more"
    )


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_lines_is_refused(tmp_path: Path, content: str) -> None:
    assert refusal(tmp_path, content) == "pairs.jsonl is empty"


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    assert "not text in UTF-8" in refusal(tmp_path, line().encode("utf-16"))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_pairs(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="directory"):
        read_pairs(tmp_path)


PACKED = gzip.compress((line() * 1000).encode(), mtime=0)


@pytest.mark.parametrize(
    "content",
    [b"plain", PACKED[:-12], PACKED[:20], PACKED[5:]],
    ids=["plain", "without its end", "its beginning alone", "without its beginning"],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "cannot read" in refusal(tmp_path, content, "pairs.jsonl.gz")


def test_a_file_with_too_many_lines_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_MOST_LINES", 3)
    assert len(read(tmp_path, line() * 3).rows) == 3
    assert "more than 3 lines" in refusal(tmp_path, line() * 4)


@pytest.mark.parametrize("unpacked", [b"x" * 3_000_000, line().encode() * 40_000])
def test_an_archive_that_holds_too_much_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpacked: bytes
) -> None:
    monkeypatch.setattr(lines, "_LARGEST_FILE", 2_000_000)
    assert refusal(tmp_path, gzip.compress(unpacked), "bomb.gz") == "bomb.gz holds more than 0.002 GB"


@in_one_folder
@given(st.binary(max_size=200) | st.lists(st.binary(max_size=40)).map(b"\n".join), st.booleans())
def test_no_bytes_do_more_than_break_their_own_lines(tmp_path: Path, noise: bytes, beside: bool) -> None:
    if beside:
        rows = read(tmp_path, line().encode() + noise.replace(b"\n", b"") + b"\n" + line().encode() * 30).rows
        assert (rows[0], rows[-30:]) == (rows[-1], (rows[-1],) * 30)
        return
    try:
        assert read(tmp_path, noise).rows
    except UsageError:
        return


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@in_one_folder
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("a", "b", "same", "kind"), json_values)))
def test_whatever_a_line_says_a_pair_is_whole_or_left_out(tmp_path: Path, row: dict[str, Any]) -> None:
    content = line() * 19 + json.dumps(row) + "\n"
    found = read(tmp_path, content)
    assert len(found.rows) + len(found.broken) == 20
    for pair in found.rows[19:]:
        assert (pair.a, pair.b, pair.same, pair.kind) == (
            row["a"],
            row["b"],
            bool(row["same"]),
            row.get("kind"),
        )
        assert pair.a.strip()
        assert pair.b.strip()


def test_a_sample_is_the_same_each_time_in_the_order_of_the_file() -> None:
    pairs = [Pair(f"{number:03}", "b", True) for number in range(500)]
    drawn = sample(pairs, 50)
    assert list(drawn) == list(sample(pairs, 50)) == sorted(drawn, key=lambda pair: pair.a)
    assert len({pair.a for pair in drawn}) == 50
    assert drawn[-1].a > "400"


@pytest.mark.parametrize("limit", [None, 3, 7])
def test_a_sample_of_as_many_as_there_are_is_all(limit: int | None) -> None:
    pairs = [Pair(name, "b", True) for name in "abc"]
    assert sample(pairs, limit) == pairs


# Streams of questions with a class each.


def test_after_the_limit_nothing_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, {"question": "Why?", "class": 1}, {"question": "How?", "class": 2}, "broken")
    assert read_stream(path, limit=2) == Lines((Asked("Why?", 1), Asked("How?", 2)), ())


OURS = Path(__file__).parents[2] / "bench" / "pairs" / "stream.jsonl"


def write(folder: Path, *rows: object) -> Path:
    path = folder / "stream.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("about", ["a class", 7, 0, -1])
def test_a_class_is_a_text_or_a_whole_number(tmp_path: Path, about: str | int) -> None:
    path = write(tmp_path, {"question": "Why?", "class": about, "more": 1})
    assert read_stream(path).rows == (Asked("Why?", about),)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "Why?"}, "'class' is missing"),
        ({"question": "Why?", "class": ""}, "'class' is neither a text nor a whole number"),
        ({"question": "Why?", "class": True}, "'class' is neither a text nor a whole number"),
        ({"question": "Why?", "class": 1.5}, "'class' is neither a text nor a whole number"),
        ({"class": 1}, "'question' is missing"),
    ],
)
def test_a_line_that_makes_no_sense_is_left_out(tmp_path: Path, row: Any, reason: str) -> None:
    sound = [{"question": "Why?", "class": 1}] * 30
    found = read_stream(write(tmp_path, *sound, row))
    assert (len(found.rows), [broken.reason for broken in found.broken]) == (30, [reason])


def test_our_own_stream_looks_like_traffic_and_has_one_class_for_each_wording() -> None:
    rows = read_stream(OURS).rows
    classes = Counter(row.about for row in rows)
    repeats = len(rows) - len(set(rows))
    assert (len(rows), len(classes)) == (400, 120)
    assert repeats / len(rows) == pytest.approx(0.5, abs=0.1)
    assert classes.most_common(1)[0][1] > 10 > min(classes.values())
    assert len({row.question for row in rows}) == len(set(rows))
