"""Files of conversations, and how well a model finds out what their last turns ask."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from doubles import condensing
from doubles.condensing import PAIRS, Said

from llmhost.answering.standalone import objection, shown_turns
from llmhost.engines.engine import Message
from llmhost.errors import NoWorkerError, UsageError
from llmhost.lab.conversations import Conversation, measured, read_conversations
from llmhost.trust.condense import CondenserEvaluation

ONE = {"turns": ["Who was Marie Curie?", "A physicist."], "last": "When did she die?"}
ALONE = "When did Marie Curie die?"


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "conversations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_line_is_a_conversation_or_two_with_one_last_turn(tmp_path: Path) -> None:
    two = {"a": ["x y"], "b": ["z"], "last": "yes", "standalone_a": "Do x", "standalone_b": None}
    first, second = read_conversations(written(tmp_path, {**ONE, "standalone": ALONE}, two)).rows
    turns = (Message("user", ONE["turns"][0]), Message("assistant", ONE["turns"][1]))
    assert first == (Conversation(turns, "When did she die?", ALONE),)
    assert second == (
        Conversation((Message("user", "x y"),), "yes", "Do x"),
        Conversation((Message("user", "z"),), "yes", ""),
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"turns": []}, "no list of 1 to 100 turns"),
        ({"turns": "Who?"}, "no list"),
        ({"turns": ["Who?", 5]}, "not a text"),
        ({"last": ""}, "not a text"),
        ({"standalone": 7}, "not a text"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_conversations(written(tmp_path, {**ONE, "standalone": ALONE, **changes}))


async def evaluation(says: Said) -> CondenserEvaluation:
    """Of a model that says this of each conversation of our own pairs, and what the rules let through."""
    rows = [(row, side) for row in condensing.rows("follow_ups.jsonl") for side in ("a", "b")]
    known = read_conversations(PAIRS / "follow_ups.jsonl").rows
    said = iter([says(row, side) for row, side in rows])

    async def condense(history: Sequence[Message], last: str) -> str:
        text, turns = next(said), shown_turns(history, last)
        return "" if not turns or objection(text, last, turns) else text

    return await measured(condense, "m", [one for row in known for one in row], 1.0)


async def test_a_model_that_condenses_rightly_is_good_enough() -> None:
    found = await evaluation(condensing.rightly)
    assert (found.conversations, found.disqualification(3.0)) == (400, None)
    assert found.condensed >= 70


@pytest.mark.parametrize(
    "says",
    [
        condensing.echoes,
        condensing.drops_the_referent,
        condensing.takes_an_earlier_one,
        condensing.answers,
        condensing.answers_after_asking,
        condensing.invents_a_name,
    ],
)
async def test_a_model_that_condenses_wrongly_is_not(says: Said) -> None:
    assert (await evaluation(says)).disqualification(3.0) is not None


async def test_a_model_that_cannot_be_asked_is_not_measured() -> None:
    async def condense(history: Sequence[Message], last: str) -> str:
        raise NoWorkerError("none")

    with pytest.raises(NoWorkerError):
        await measured(condense, "m", [Conversation((), "x", "")], 1.0)
