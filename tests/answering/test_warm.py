"""The files that a cache is filled from."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from doubles.answering_house import ASKED, DONE, House
from doubles.scripted_pool import ScriptedEngine

from llmhost.answering.admission import Admitted
from llmhost.answering.question import look_again
from llmhost.answering.warm import Warmed, Warmer, read_questions
from llmhost.config.models import Config
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from llmhost.cache.service import SemanticCache
    from llmhost.store.keys import NamespaceKeys


def test_a_line_is_a_question_or_an_object_with_one() -> None:
    lines = '\ufeffWhat is Redis?\r\n\n  who was Plato \n{"question": "a", "answer": "b"}\n{"question": "ä"}'
    assert list(read_questions("file", io.BytesIO(lines.encode()))) == [
        ("What is Redis?", None),
        ("who was Plato", None),
        ("a", "b"),
        ("ä", None),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b'{"answer": "b"}',
        b'{"question": 1}',
        b'{"question": "a", "answer": 2}',
        b'{"question": "a", "answer": ""}',
        b"{",
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_neither_is_named(line: bytes) -> None:
    read = read_questions("file", io.BytesIO(b"a question\n" + line))
    assert next(read) == ("a question", None)
    with pytest.raises(UsageError, match="file: line 2 "):
        next(read)


async def test_an_answer_that_is_not_cached_by_what_its_question_s_vector_says_is_counted_as_such(
    redis_client: Redis, cache: SemanticCache, keys: NamespaceKeys
) -> None:
    async def digest(_: str) -> str:
        return ""

    house = House(redis_client, cache, keys)
    house.sessions.second_look = lambda question, _: look_again(
        Config().cache, question, Admitted("changing", "right now")
    )
    warmer = Warmer(
        cache,
        house.answerer(ScriptedEngine("today's", DONE)),
        lambda text: replace(ASKED, prompt=text, settled=False),
        digest,
        lambda: house.now,
        parallel=1,
    )
    assert await warmer.run(iter([(ASKED.prompt, None)])) == Warmed(bypassed=1)
