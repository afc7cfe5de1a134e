"""A screen that is refreshed until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["check_watches", "watch_screen"]


def check_watches() -> None:
    """Raises UsageError where there is no terminal to refresh."""
    if not sys.stdout.isatty():
        raise UsageError("--watch needs a terminal", hint="leave it out, to see the figures once")


async def watch_screen(console: Console, look: Callable[[], Awaitable[RenderableType]], every: float) -> None:
    """Shows what each look gives, without flicker, until Ctrl-C. `every` is the seconds between two looks."""
    from rich.live import Live

    with Live(console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as live:
        try:
            while True:
                live.update(await look(), refresh=True)
                await asyncio.sleep(every)
        except asyncio.CancelledError:
            if task := asyncio.current_task():
                task.uncancel()  # Ctrl-C is how one ends it
