"""A terminal, for what a command asks of people and how it looks to them."""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self

#: seconds; a command that has not said what it should by then hangs
LONGEST = 60.0


class Terminal:
    """One command on a terminal of 80 columns. `shown` is all that came on it so far."""

    def __init__(self, process: asyncio.subprocess.Process, controller: int) -> None:
        self.shown = ""
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
        async with asyncio.timeout(LONGEST):
            while words not in self.shown:
                assert self._process.returncode is None, f"ended without {words!r}: {self.shown}"
                await asyncio.sleep(0.02)
                self._look()

    def type(self, text: str) -> None:
        os.write(self._controller, text.encode())

    async def end(self) -> int:
        """The exit code."""
        async with asyncio.timeout(LONGEST):
            while self._process.returncode is None:
                await asyncio.sleep(0.02)
                self._look()
        self._look()
        return self._process.returncode

    def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        os.close(self._controller)

    def _look(self) -> None:
        with suppress(BlockingIOError, OSError):  # the other side is closed: that is its end
            while piece := os.read(self._controller, 65536):
                self.shown += piece.decode(errors="replace")
