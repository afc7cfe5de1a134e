"""Conversations with the same last turn, and models that condense it, rightly or in a wrong way."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from doubles.scripted_pool import ScriptedEngine

from llmhost.engines.engine import ChatRequest, Delta, Done, Message

PAIRS = Path(__file__).parents[2] / "bench" / "pairs"
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")

#: one of two conversations, "a" or "b", of a row of `follow_ups.jsonl`: what a model says of it
Said = Callable[[Mapping[str, Any], str], str]


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (PAIRS / name).read_text(encoding="utf-8").splitlines()]


def kept_apart() -> list[dict[str, Any]]:
    """Those of `conversations.jsonl`, by which nothing was chosen; all of them mean another thing."""

    def texts(turns: Sequence[Mapping[str, str]]) -> list[str]:
        return [turn["content"] for turn in turns[:-1]]

    return [
        {"a": texts(row["one"]), "b": texts(row["two"]), "last": row["last"], "same": False}
        for row in rows("conversations.jsonl")
    ]


def outright(row: Mapping[str, Any]) -> list[str]:
    """What others have asked without any conversation: what the first of the two asks; where that is not
    known, the user's turns of it, and the last turn."""
    return [rightly(row, "a")] if "standalone_a" in row else [*row["a"][::2], row["last"]]


def history(turns: Sequence[str]) -> list[Message]:
    """The turns, the first of which is the user's."""
    return [Message("assistant" if at % 2 else "user", turn) for at, turn in enumerate(turns)]


def rightly(row: Mapping[str, Any], side: str) -> str:
    return str(row[f"standalone_{side}"])


def echoes(row: Mapping[str, Any], _side: str) -> str:
    """The last turn itself, as if it stood alone."""
    return str(row["last"])


def drops_the_referent(row: Mapping[str, Any], side: str) -> str:
    """What tells the two conversations apart is left out."""
    other = set(_WORD.findall(rightly(row, "b" if side == "a" else "a").lower()))
    kept = set(_WORD.findall(str(row["last"]).lower())) | other
    said = _WORD.sub(lambda found: found[0] if found[0].lower() in kept else "", rightly(row, side))
    return " ".join(said.split()).replace(" ?", "?")


def names_it_in_general(row: Mapping[str, Any], side: str) -> str:
    """What tells the two apart is called a thing."""
    other = set(_WORD.findall(rightly(row, "b" if side == "a" else "a").lower()))
    kept = set(_WORD.findall(str(row["last"]).lower())) | other
    said = _WORD.sub(lambda found: found[0] if found[0].lower() in kept else "product", rightly(row, side))
    return re.sub(r"\bproduct(?: product)+", "product", said)


def takes_an_earlier_one(row: Mapping[str, Any], side: str) -> str:
    """What the first turns are about, where the last ones are about another thing: the same for both."""
    if "earlier" in row:
        return str(row["earlier"])
    names = [word for word in _WORD.findall(str(row[side][0]))[1:] if word[:1].isupper()]
    return str(row["last"]).rstrip("?") + f" for {' '.join(names) or 'the first thing'}?"


def answers(row: Mapping[str, Any], side: str) -> str:
    """The conversation goes on, in place of the question."""
    return f"As for {row['last'].rstrip('?')}: {row[side][-1]}"


def answers_after_asking(row: Mapping[str, Any], side: str) -> str:
    return f"{row['last']} {row[side][-1]}"


def invents_a_name(row: Mapping[str, Any], _side: str) -> str:
    return re.sub(r"\b(?:it|they|there|one|that)\b", "the Acme Zeta", str(row["last"])).rstrip(".?") + "?"


def puts_the_topic_in(row: Mapping[str, Any], side: str) -> str:
    """What a simple program would say: the last name or noun of the user's turn before, in the place of the
    word that refers to it."""
    before = str(row[side][-2] if len(row[side]) > 1 else row[side][-1])
    nouns = re.findall(
        r"\b(?:the|an?|my|our|of|for|in|to|about|with|is|are|was) ((?:[\w'-]+ ?){1,3})", before
    )
    thing = (nouns or [before])[-1].strip()
    said, put_in = re.subn(
        r"\b(?:it|they|them|he|she|there|that|this|one)\b", thing, str(row["last"]), count=1
    )
    return said if put_in else f"{said.rstrip('?.! ')} for {thing}?"


def takes_the_other_conversation(row: Mapping[str, Any], _side: str) -> str:
    """As a model that mixes up two users would: what one of them means, for both."""
    return rightly(row, "a")


class CondensingEngine(ScriptedEngine):
    """Says whatever `says` is when it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.says = ""

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Delta | Done]:
        self.requests.append(request)
        yield Delta(self.says)
        yield Done("stop", prompt_tokens=90, completion_tokens=9)
