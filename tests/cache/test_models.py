"""Answers as they lie in Redis."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.cache.models import Answer, decode_answer, encode_answer

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
