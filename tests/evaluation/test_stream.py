"""Streams of questions with a class each."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llmhost.lab.pairs import Asked, read_stream

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


def test_our_own_stream_looks_like_traffic() -> None:
    rows = read_stream(OURS).rows
    classes = Counter(row.about for row in rows)
    repeats = len(rows) - len(set(rows))
    assert (len(rows), len(classes)) == (400, 120)
    assert repeats / len(rows) == pytest.approx(0.5, abs=0.1)
    assert classes.most_common(1)[0][1] > 10 > min(classes.values())


def test_in_our_own_stream_one_wording_has_one_class() -> None:
    rows = read_stream(OURS).rows
    assert len({row.question for row in rows}) == len(set(rows))
