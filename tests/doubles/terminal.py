"""A terminal, for what a command asks of people and how it looks to them."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self

from doubles.waiting import until


def shown_on_terminal(
    command: Sequence[str], environ: Mapping[str, str] | None = None, typed: str = ""
) -> str:
    """What a command shows on a terminal on which this is typed. It must succeed."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environ)
    os.close(terminal)
    os.write(controller, typed.encode())
    shown = b""
    with suppress(OSError):  # the other side is closed: that is its end
        while piece := os.read(controller, 65536):
            shown += piece
    os.close(controller)
    assert process.wait(timeout=30) == 0
    return shown.decode()


class Terminal:
    """One command on a terminal of 80 columns. `shown` is all that came on it so far."""

    def __init__(self, process: asyncio.subprocess.Process, controller: int) -> None:
        self.shown = ""
        self.pid = process.pid
        self._process = process
        self._controller = controller

    @classmethod
    async def run(cls, command: Sequence[str], environ: Mapping[str, str]) -> Self:
        controller, terminal = pty.openpty()
        os.set_blocking(controller, False)
        process = await asyncio.create_subprocess_exec(
            *("setsid", "--ctty", *command),  # its own, so that Ctrl-C reaches it
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**environ, "TERM": "xterm-256color", "COLUMNS": "80"},
        )
        os.close(terminal)
        return cls(process, controller)

    async def until(self, words: str) -> None:
        """Returns when `words` have been shown."""

        def are_shown() -> bool:
            ended = self._process.returncode is not None
            self._look()
            assert words in self.shown or not ended, f"ended without {words!r}: {self.shown}"
            return words in self.shown

        await until(are_shown)

    def type(self, text: str) -> None:
        os.write(self._controller, text.encode())

    async def end(self) -> int:
        """The exit code."""

        def has_ended() -> bool:
            ended = self._process.returncode is not None
            self._look()  # it hangs while what it writes is not read
            return ended

        await until(has_ended)
        assert self._process.returncode is not None
        return self._process.returncode

    def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        os.close(self._controller)

    def look(self) -> int:
        """How many characters have come so far."""
        self._look()
        return len(self.shown)

    def _look(self) -> None:
        with suppress(BlockingIOError, OSError):  # the other side is closed: that is its end
            while piece := os.read(self._controller, 65536):
                self.shown += piece.decode(errors="replace")
