"""What a command does while it waits for the operator."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import Iterator

import pytest

from llmhost.cli.errors import _describe
from llmhost.cli.running import confirm, run_async


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


def test_a_second_interruption_ends_a_clean_up_that_waits_and_says_what_may_be_left() -> None:
    never = asyncio.Event()

    async def waits_whatever_happens() -> None:
        try:
            await never.wait()
        except (asyncio.CancelledError, GeneratorExit):
            await waits_whatever_happens()

    async def work() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            loop.call_soon(os.kill, os.getpid(), signal.SIGINT)
        await waits_whatever_happens()

    with pytest.raises(KeyboardInterrupt) as caught:
        run_async(work())
    _, message, hint, code = _describe(caught.value)
    assert (message, code) == ("interrupted: what it began may be half done", 130)
    assert "`llmhost fleets` shows what runs" in (hint or "")
