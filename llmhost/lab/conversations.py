"""Files of conversations whose last turn is known to ask a question, and how well a model finds it out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmhost.answering.standalone import says_it
from llmhost.engines.engine import Message
from llmhost.lab.pairs import Lines, question_in, read_lines
from llmhost.trust.condense import CondenserEvaluation, CondenserTrial, condenser_evaluation_of

__all__ = ["Conversation", "measured", "read_conversations"]

_HINT = 'write {"turns": ["...", "..."], "last": "...", "standalone": "..."} on each line'
#: turns of one conversation
_MOST_TURNS = 100


@dataclass(frozen=True, slots=True)
class Conversation:
    """`turns` are those before the last one, the first of them a user's. `standalone` is what the last one
    asks; empty where it asks nothing by itself, as "yes, cancel it"."""

    turns: tuple[Message, ...]
    last: str
    standalone: str


def read_conversations(path: Path) -> Lines[tuple[Conversation, ...]]:
    """Reads a file with ``{"turns": [...], "last", "standalone"}`` on each line, ``standalone`` null where it
    asks nothing by itself; or two conversations with one last turn, as ``{"a": [...], "b": [...], "last",
    "standalone_a", "standalone_b"}``. ``.gz`` is unpacked. Raises UsageError as `read_pairs` does.
    """

    def conversations(row: Mapping[str, Any]) -> tuple[Conversation, ...]:
        if "turns" in row:
            return (_conversation(row, "turns", "standalone"),)
        return tuple(_conversation(row, side, f"standalone_{side}") for side in ("a", "b"))

    return read_lines(path, conversations, hint=_HINT)


def _conversation(row: Mapping[str, Any], turns: str, standalone: str) -> Conversation:
    before = row.get(turns)
    if not isinstance(before, list) or not 1 <= len(before) <= _MOST_TURNS:
        raise ValueError(f"{turns!r} is no list of 1 to {_MOST_TURNS} turns")
    texts = [question_in({turns: turn}, turns) for turn in before]
    right = "" if row.get(standalone) is None else question_in(row, standalone)
    messages = tuple(Message("assistant" if at % 2 else "user", text) for at, text in enumerate(texts))
    return Conversation(messages, question_in(row, "last"), right)


async def measured(
    condense: Callable[[Sequence[Message], str], Awaitable[str | None]],
    model: str,
    conversations: Sequence[Conversation],
    now: float,
) -> CondenserEvaluation:
    """Asks about each conversation, one after the other; there must be at least one. `now`: Unix seconds.

    Raises what `condense` raises: a model that cannot be asked has not been measured.
    """
    trials = []
    for one in conversations:
        begun = time.perf_counter()
        said = await condense(one.turns, one.last)
        right = says_it(said, one.standalone) if said else None
        trials.append(CondenserTrial(right, (time.perf_counter() - begun) * 1000))
    return condenser_evaluation_of(model, trials, now)
