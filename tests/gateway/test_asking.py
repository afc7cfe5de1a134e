"""From a body to questions: what a client sends is either a question or its mistake."""

from __future__ import annotations

import json
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmhost.config.models import Config
from llmhost.errors import LlmhostError
from llmhost.gateway import openai
from llmhost.gateway.asking import CacheControl, questions_of, read_cache_control
from llmhost.gateway.fleets import ServedFleet

FLEET = ServedFleet(
    Config.model_validate(
        {
            "fleet": {"provider": "static", "workers": [{"url": "http://127.0.0.1:1"}]},
            "engine": {"kind": "openai", "model": "tiny"},
        }
    ),
    cast("Any", None),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
READ = [
    "model",
    "messages",
    "prompt",
    "stream",
    "n",
    "stop",
    "temperature",
    "tools",
    "stream_options",
    "seed",
]
FIELDS = st.dictionaries(st.sampled_from(READ) | st.text(max_size=8), JSON, max_size=4)
ASKED: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


@given(changes=FIELDS)
def test_any_body_of_a_chat_is_questions_or_a_mistake(changes: dict[str, Any]) -> None:
    try:
        body = openai.CHAT_BODY.validate_json(json.dumps({**ASKED, **changes}))
        questions = questions_of([openai.chat_of(body)], FLEET, CacheControl(), None)
    except (ValidationError, LlmhostError):
        return
    assert len(questions) == (body.n or 1)
    assert all(question.model == "tiny" and question.request() for question in questions)


@given(changes=FIELDS)
def test_any_body_of_a_completion_is_questions_or_a_mistake(changes: dict[str, Any]) -> None:
    try:
        body = openai.COMPLETION_BODY.validate_json(json.dumps({"model": "tiny", "prompt": "Hi", **changes}))
        questions = questions_of(openai.completions_of(body), FLEET, CacheControl(), None)
    except (ValidationError, LlmhostError):
        return
    assert 1 <= len(questions) <= openai.MOST_CHOICES


@given(header=st.text(max_size=60))
def test_any_cache_control_can_be_read(header: str) -> None:
    control = read_cache_control(header)
    assert control.max_age is None or control.max_age >= 0


def test_the_seeds_of_several_choices_differ() -> None:
    body = openai.CHAT_BODY.validate_python({**ASKED, "n": 3, "seed": 7})
    questions = questions_of([openai.chat_of(body)], FLEET, CacheControl(), None)
    assert [question.sampling.seed for question in questions] == [7, 8, 9]
