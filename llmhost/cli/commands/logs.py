"""`llmhost logs`: the end of a worker's log, and what is added to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.running import asynchronous, configured, wired
from llmhost.cli.text import clean
from llmhost.errors import ProviderError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cli.output import Output
    from llmhost.fleet.provider import Provider

__all__ = ["logs"]

#: lines; more than a provider keeps, and still little memory
_MOST_LINES = 100_000
#: seconds between two looks with --follow; vast.ai takes longer than that to fetch a log
_PERIOD = 1.0
#: lines that are compared to find what is new
_WINDOW = 1_000


@asynchronous
async def logs(
    ctx: typer.Context,
    worker: Annotated[str, typer.Argument(help="Its id, as in `llmhost status`.")],
    lines: Annotated[int, typer.Option(min=1, max=_MOST_LINES, help="How many lines.")] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C.")
    ] = False,
) -> None:
    """Show the end of a worker's log.

    Examples:
      llmhost logs local-7f3a2c
      llmhost logs vast-1234567 --lines 500
      llmhost logs -f local-7f3a2c
    """
    options = globals_of(ctx)
    out = options.output
    if follow and options.json:
        raise UsageError("--follow is for people; --json prints once", hint="leave one of them out")
    async with wired(options, configured(options, lenient=True)) as wiring:
        # What is new is found by comparing as much of the log as the looks with --follow give.
        read = (await _read(wiring.provider, worker, max(lines, _WINDOW) if follow else lines)).splitlines()
        found = read[-lines:]
        if not found:
            out.note(f"{worker} has no log here: it is empty, or its operator keeps it")
        out.result(found, _show, {"worker": worker, "lines": found})
        if follow:
            await _follow(wiring.provider, worker, read[-_WINDOW:], out)


async def _follow(provider: Provider, worker: str, seen: Sequence[str], out: Output) -> None:
    try:
        while True:
            await asyncio.sleep(_PERIOD)
            now = (await provider.logs(worker, _WINDOW)).splitlines()
            if added := appended(seen, now):
                out.result(added, _show)
            seen = now
    except asyncio.CancelledError:
        if task := asyncio.current_task():
            task.uncancel()  # Ctrl-C is how one ends it


def appended(seen: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """The lines of `now` after those of `seen` that it still has; all of them where it has none.

    A last line that was not complete is given again, in full.
    """
    for start in range(len(seen)):
        kept, same = seen[start:], len(seen) - start - 1
        if len(now) > same and kept[:-1] == now[:same] and now[same].startswith(kept[-1]):
            return now[same + (now[same] == kept[-1]) :]
    return now


async def _read(provider: Provider, worker: str, lines: int) -> str:
    """The log, of a destroyed worker too where it is kept. Raises UsageError if there is no such worker."""
    from llmhost.fleet.plan import select

    listed = await provider.list()
    if worker not in {known.id for known in listed}:
        with suppress(ProviderError):  # the provider has just answered, so it does not know this worker
            if text := await provider.logs(worker, lines):
                return text
    select(listed, [worker])
    return await provider.logs(worker, lines)


def _show(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(clean(line), soft_wrap=True)
