"""Answers as they lie in Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache import stored
from llmhost.cache.models import Answer
from llmhost.cache.stored import StoredEntry, decode_answer, decode_entry, encode_answer, pack_entry

SECONDS = st.floats(0, 1e10, allow_nan=False)
COUNTS = st.integers(0, 10**9)
ANSWERS = st.builds(
    Answer,
    text=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    model=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    timestamp=SECONDS,
    prompt_tokens=COUNTS,
    completion_tokens=COUNTS,
    finish_reason=st.just("stop"),
    engine_seconds=SECONDS,
    cost_usd=SECONDS,
)


@given(ANSWERS)
def test_an_answer_comes_back_as_it_went(answer: Answer) -> None:
    assert decode_answer(encode_answer(answer).encode()) == answer


@given(st.binary(max_size=200))
def test_whatever_else_lies_there_is_no_answer(raw: bytes) -> None:
    assert decode_answer(raw) is None


GOOD = json.loads(encode_answer(Answer("text", "model", 1.0, 2, 3, "stop", 4.0, 5.0)))


@pytest.mark.parametrize(
    "change",
    [
        {"response": None},
        {"response": ["text"]},
        {"timestamp": "yesterday"},
        {"timestamp": float("nan")},
        {"tokens": 3},
        {"tokens": {"prompt": True, "completion": 1}},
        {"cost_usd": -1},
        {"engine_seconds": 1e999},
        {"tokens": {"prompt": 10**400, "completion": 1}},
    ],
)
def test_an_answer_with_a_wrong_field_is_no_answer(change: dict[str, object]) -> None:
    assert decode_answer(json.dumps(GOOD | change)) is None


@pytest.mark.parametrize("name", sorted(GOOD.keys() - {"worker", "machine"}))
def test_an_answer_without_a_field_is_no_answer(name: str) -> None:
    assert decode_answer(json.dumps({key: value for key, value in GOOD.items() if key != name})) is None


def pack(answer: Answer) -> bytes:
    return pack_entry(StoredEntry("What is this?", "a" * 32, "embedder", 384, answer))


@given(ANSWERS)
def test_a_packed_answer_comes_back_with_its_words_and_counts(answer: Answer) -> None:
    read = decode_answer(pack(answer))
    assert read is not None
    assert read.timestamp == pytest.approx(answer.timestamp, abs=1e-3)
    assert read.cost_usd == pytest.approx(answer.cost_usd, abs=1e-9)
    assert read == replace(
        answer, timestamp=read.timestamp, engine_seconds=read.engine_seconds, cost_usd=read.cost_usd
    )


def test_packing_makes_every_entry_shorter_and_halves_an_english_one() -> None:
    english = Path(stored.__file__).with_name("service.py").read_text()[:1000]
    for text in (english, "", "Paris.", "0123456789abcdef" * 3, "パリ"):
        answer = Answer(text, "llama3.1:8b", 1764000000.5, 20, 220, "stop", 3.2, 0.0002, "vast-1", "9")
        packed, plain = pack(answer), encode_answer(answer).encode() + b"a" * 100
        assert len(packed) < len(plain) * (0.6 if text is english else 1)


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: raw[:1] + raw])
def test_a_damaged_packed_answer_is_none(damage: Callable[[bytes], bytes]) -> None:
    packed = pack(Answer("text " * 99, "model", 1.0, 2, 3, "stop", 4.0, 5.0))
    assert packed[:1] != b"{"
    assert decode_answer(damage(packed)) is None


def test_what_would_unpack_to_more_than_any_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_LONGEST", 10_000)
    long = Answer("a" * 20_000, "model", 1.0, 2, 3, "stop", 4.0, 5.0)
    assert decode_answer(pack(long)) is None


def test_an_entry_comes_back_with_its_question() -> None:
    entry = StoredEntry("Why?", "a" * 32, "embedder", 384, Answer("So.", "m", 1.0, 2, 3, "stop", 4.0, 5.0))
    assert decode_entry(pack_entry(entry)) == entry


@pytest.mark.parametrize("change", [{"question": 5}, {"scope": None}, {"dimensions": -1}, {"embedder": []}])
def test_an_entry_with_a_wrong_field_is_none(change: dict[str, object]) -> None:
    assert decode_entry(json.dumps(GOOD | {"question": "q", "scope": "s"} | change)) is None
