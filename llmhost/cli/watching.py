"""A screen that is refreshed until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from llmhost.cli.output import Output, is_terminal
from llmhost.errors import LlmhostError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["check_watches", "watch_screen"]

_Look = Callable[[], Awaitable["RenderableType"]]


def check_watches() -> None:
    """Raises UsageError where there is no terminal to refresh."""
    if not is_terminal(sys.stdout):
        raise UsageError("--watch needs a terminal", hint="leave it out, to see the figures once")


async def watch_screen(output: Output, look: _Look, every: float) -> None:
    """Shows what each look gives, without flicker, until Ctrl-C; above it what is wrong, which is never cut
    off. A look that fails is followed by others. `every` is the seconds between two looks."""
    from rich.live import Live

    with Live(console=output.console(), auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        try:
            while True:
                live.update(await _look(output, look), refresh=True)
                await asyncio.sleep(every)
        except asyncio.CancelledError:
            if task := asyncio.current_task():
                task.uncancel()  # Ctrl-C is how one ends it


async def _look(output: Output, look: _Look) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    seen: list[RenderableType] = []
    with output.kept() as messages:
        try:
            seen.append(await look())
        except LlmhostError as error:
            output.error(error.message, error.hint)
    return Group(*(Text.from_ansi(message) for message in messages), *seen)
