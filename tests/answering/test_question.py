"""What may be asked, and what an answer depends on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.answering.question import Question, admit
from llmhost.engines.engine import Message, Sampling
from llmhost.errors import UsageError

ASKED = Question(prompt="What is AI?", model="m", tenant="t")


def entry(question: Question) -> str:
    return admit(question, 1000).entry


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "other"},
        {"tenant": "other"},
        {"system": "Answer in French."},
        {"history": (Message("user", "Hi"), Message("assistant", "Hello"))},
        {"sampling": Sampling(temperature=0.1)},
        {"sampling": Sampling(top_p=0.1)},
        {"sampling": Sampling(seed=1)},
        {"sampling": Sampling(max_tokens=5)},
        {"sampling": Sampling(stop=("\n",))},
    ],
    ids=lambda changes: next(iter(changes)) + str(next(iter(changes.values())))[:30],
)
def test_whatever_an_answer_depends_on_separates_answers(changes: dict[str, object]) -> None:
    assert entry(replace(ASKED, **changes)) != entry(ASKED)


@pytest.mark.parametrize("changes", [{"use_cache": False}, {"refresh": True}, {"threshold": 0.5}])
def test_how_the_cache_is_used_does_not_separate_answers(changes: dict[str, object]) -> None:
    assert entry(replace(ASKED, **changes)) == entry(ASKED)


def test_a_turn_cannot_pass_for_two() -> None:
    one = replace(ASKED, history=(Message("user", "a\nassistant: b"),))
    two = replace(ASKED, history=(Message("user", "a"), Message("assistant", "b")))
    assert entry(one) != entry(two)


@pytest.mark.parametrize("prompt", ["", " ", "\n\t "])
def test_an_empty_question_is_refused(prompt: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        admit(replace(ASKED, prompt=prompt), 1000)


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 50), st.integers(1, 120))
def test_the_limit_holds_for_the_question_with_all_that_comes_with_it(
    prompt: int, system: int, turn: int, limit: int
) -> None:
    question = replace(
        ASKED, prompt="p" * prompt, system="s" * system, history=(Message("user", "t" * turn),)
    )
    if prompt + system + turn > limit:
        with pytest.raises(UsageError, match=f"the limit is {limit}"):
            admit(question, limit)
    else:
        admit(question, limit)
