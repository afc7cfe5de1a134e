"""Commands that only the tests of the command line's frame have."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from llmhost.cli.frame import App, Lazy, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import run_async
from llmhost.errors import LimitError, UnreachableError

COMMANDS = {
    "show": Lazy("doubles.sample_commands:show", "A summary"),
    "fail": Lazy("doubles.sample_commands:fail", "A summary"),
    "wait": Lazy("doubles.sample_commands:wait", "A summary"),
    "pour": Lazy("doubles.sample_commands:pour", "A summary"),
    "code": Lazy("doubles.sample_commands:code", "A summary"),
    "nest": Lazy("doubles.sample_commands:nest", "A summary"),
    "gone": Lazy("no_such_module_of_ours:gone", "A summary"),
}


@dataclass(frozen=True, slots=True)
class Shown:
    config: str | None
    quiet: bool
    verbose: bool
    number: int
    ratio: float
    secret: str = field(repr=False)


def show(ctx: typer.Context, number: Annotated[int, typer.Option(help="Any number.")] = 0) -> None:
    """Show what was understood.

    A second paragraph, which is long enough that it has to be wrapped on a terminal of eighty columns.

    Examples:
      llmhost show --number 3
      llmhost show --json | jq .number
    """
    given = globals_of(ctx)
    out = given.output
    out.note("a note")
    out.detail("a detail")
    out.warn("a warning")
    config = None if given.config is None else str(given.config)
    model = Shown(config, given.quiet, given.verbose, number, float("nan"), "hunter2-secret")
    out.result(model, lambda shown, console: console.print(f"number [bold]{shown.number}[/bold] :smile:"))


def fail(ctx: typer.Context, how: str) -> None:
    """Fail in one of several ways."""
    if how == "limit":
        raise LimitError("too many\nworkers: \x1b[31m9\x1b[0m", hint="ask for fewer")
    if how == "unexpected":
        raise ValueError("redis://user:hunter2-secret@host said no, Authorization: Bearer abc.def")
    if how == "group":
        raise ExceptionGroup("two", [ValueError("first"), ExceptionGroup("in", [UnreachableError("gone")])])
    if how == "after":
        globals_of(ctx).output.document({"done": 1})
        raise LimitError("half done")
    if how == "abort":
        raise typer.Abort
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "pipe":
        raise BrokenPipeError("a socket, not stdout")


def wait(marker: Path) -> None:
    """Wait for a signal; `marker` tells how far it is."""

    def note(text: str) -> None:
        marker.write_text(text)

    async def stay() -> None:
        note("waiting")
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            note("cleaned up")

    run_async(stay())


def pour(letter: str = "x") -> None:
    """Print a lot of lines."""
    for _ in range(100_000):
        sys.stdout.write(letter + "\n")


def code() -> int:
    """Return an exit code."""
    return 3


@dataclass(frozen=True, slots=True)
class Inner:
    from_: int


nest = App("Hold other commands.")


@nest.command()
def inner(ctx: typer.Context) -> None:
    """Draw a table."""
    made = table("name", "count", right=("count",))
    made.add_row("[red]raw[/red]", "1")
    globals_of(ctx).output.result(Inner(1), lambda _, console: console.print(made))
