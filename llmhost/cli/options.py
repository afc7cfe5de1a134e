"""The options that every command takes, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.output import Output

if TYPE_CHECKING:
    from typer._click.core import Context

__all__ = ["Globals", "global_options", "globals_of"]


@dataclass
class Globals:
    """What the global options say; filled while the command line is read, left to right."""

    config: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    version: bool = False

    @cached_property
    def output(self) -> Output:
        """Where this command prints; asked for after the command line has been read."""
        return Output(json=self.json, quiet=self.quiet, verbose=self.verbose)


def globals_of(ctx: Context) -> Globals:
    """The global options of this invocation."""
    return ctx.ensure_object(Globals)


def _remember(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> None:
    # What was given after the command's name is read later, so it wins; what was not given changes nothing.
    if value:
        setattr(globals_of(ctx), param.name, value)


def _option(*names: str, says: str, metavar: str | None = None) -> Any:
    return typer.Option(
        *names, help=says, metavar=metavar, expose_value=False, callback=_remember, show_default=False
    )


def _declare(
    config: Annotated[
        Path | None,
        _option("--config", metavar="PATH", says="Configuration file to use."),
    ] = None,
    json: Annotated[bool, _option("--json", says="Print one JSON object on stdout.")] = False,
    quiet: Annotated[
        bool, _option("--quiet", "-q", says="Print no words besides results and errors.")
    ] = False,
    verbose: Annotated[
        bool, _option("--verbose", "-v", says="Print more; tracebacks of errors too.")
    ] = False,
    version: Annotated[bool, _option("--version", says="Print the version.")] = False,
) -> None:
    pass


@cache
def global_options() -> tuple[typer.core.TyperOption, ...]:
    """The global options as Typer knows them, to be added to every command and group."""
    app = typer.Typer(add_completion=False)
    app.command()(_declare)
    return tuple(p for p in typer.main.get_command(app).params if isinstance(p, typer.core.TyperOption))
