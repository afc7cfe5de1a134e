"""`llmhost cache warm`, with a worker."""

from __future__ import annotations

import json
from pathlib import Path

from doubles.openai_server import OpenAIServer
from plugins.commands import House

COUNTS = ("asked", "stored", "hits", "bypassed")


def write(*lines: str) -> None:
    Path("questions").write_text("\n".join(lines))


async def warm(house: House, *args: str) -> list[int]:
    done = await house.ok("cache", "warm", *args)
    return [done[name] for name in COUNTS]


async def test_questions_are_asked_once_and_given_answers_are_stored(
    static_house: House, openai_server: OpenAIServer
) -> None:
    lines = ["What is Redis?", "Who was Plato?", "What is the weather today?"]
    lines.append(json.dumps({"question": "How tall is Mont Blanc?", "answer": "4,806 m"}))
    write(*lines)
    assert await warm(static_house, "questions") == [2, 1, 0, 1]
    assert await warm(static_house, "questions") == [0, 0, 3, 1]
    given = await static_house.ok("ask", "How tall is Mont Blanc?")
    assert (given["source"], given["answer"]) == ("exact", "4,806 m")
    assert (await static_house.ok("ask", "Who was Plato?"))["source"] == "exact"
    assert await warm(static_house, "questions", "--system", "be brief") == [2, 1, 0, 1]


async def test_a_run_that_fails_says_how_far_it_came_and_is_continued_by_the_next(
    static_house: House,
) -> None:
    good = ["What is Redis?", "Who was Plato?"]
    write(*good, "{broken")
    failed = await static_house.run("cache", "warm", "questions", "--parallel", "1")
    assert failed.code == 2
    assert "questions: line 3 has no question" in failed.error
    assert "(after 2 questions)" in failed.error
    write(*good, "How tall is Mont Blanc?")
    assert await warm(static_house, "questions") == [1, 0, 2, 0]
