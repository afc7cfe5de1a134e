"""What a command does while it waits for the operator."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import Iterator

import pytest

from llmhost.cli.running import confirm


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What is written here is typed at the terminal that is stdin."""
    controller, terminal = pty.openpty()
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield controller
    os.close(controller)


@pytest.mark.parametrize(
    ("typed", "agreed"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("what?\ny\n", True)]
)
async def test_only_a_yes_is_a_yes(keyboard: int, typed: str, agreed: bool) -> None:
    question = asyncio.create_task(confirm("Buy?"))
    for line in typed.splitlines(keepends=True):
        os.write(keyboard, line.encode())
        await asyncio.sleep(0)
    assert await question is agreed


async def test_other_work_goes_on_while_the_question_is_open(keyboard: int) -> None:
    question = asyncio.create_task(confirm("Buy?"))
    await asyncio.sleep(0)
    await asyncio.to_thread(str)  # comes back through the loop, which is not held up
    assert not question.done()
    os.write(keyboard, b"y\n")
    assert await question is True


async def test_a_question_can_be_cancelled(keyboard: int) -> None:
    question = asyncio.create_task(confirm("Buy?"))
    await asyncio.sleep(0)
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
