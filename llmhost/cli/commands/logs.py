"""`llmhost logs`: the end of a worker's log."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.running import asynchronous, configured, wired
from llmhost.cli.text import clean
from llmhost.errors import ProviderError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.fleet.provider import Provider

__all__ = ["logs"]

#: lines; more than a provider keeps, and still little memory
_MOST_LINES = 100_000


@asynchronous
async def logs(
    ctx: typer.Context,
    worker: Annotated[str, typer.Argument(help="Its id, as in `llmhost status`.")],
    lines: Annotated[int, typer.Option(min=1, max=_MOST_LINES, help="How many lines.")] = 100,
) -> None:
    """Show the end of a worker's log.

    Examples:
      llmhost logs local-7f3a2c
      llmhost logs vast-1234567 --lines 500
    """
    options = globals_of(ctx)
    async with wired(options, configured(options, lenient=True)) as wiring:
        text = await _read(wiring.provider, worker, lines)
    if not text:
        options.output.note(f"{worker} has no log here: it is empty, or its operator keeps it")
    found = text.splitlines()
    options.output.result(found, _show, {"worker": worker, "lines": found})


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
