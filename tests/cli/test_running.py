"""What is common to commands: their configuration, and what they do while they wait for the operator."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plugins.cli import Ran

from llmhost.cli.errors import _describe
from llmhost.cli.frame import Globals
from llmhost.cli.running import configured_if_readable, confirm, run_async


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


@pytest.mark.parametrize("args", [("--fleet", "", "down", "--yes"), ("down", "--yes", "--fleet=")])
def test_an_empty_name_of_a_fleet_does_not_stand_for_the_configured_one(
    cli: Callable[..., Ran], args: tuple[str, ...]
) -> None:
    ran = cli(*args)
    assert (ran.code, "`fleet.name` cannot be empty" in ran.stderr) == (2, True)


def test_a_command_that_goes_on_without_its_file_is_as_lenient_as_one_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "llmhost.yaml"
    file.write_text("fleet: [\n")
    options = Globals(config=file)
    configured_if_readable(options)
    assert options.lenient
