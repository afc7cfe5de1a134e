"""`llmhost doctor`: checks the set-up and says how to mend it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.running import run_async, wired
from llmhost.cli.text import clean
from llmhost.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.config.load import LoadedConfig
    from llmhost.doctor.checks import Check

__all__ = ["doctor"]


@dataclass(frozen=True, slots=True)
class DoctorOutput:
    checks: Sequence[Check]


def doctor(ctx: typer.Context) -> int:
    """Check configuration, Redis, models and workers, and say how to mend each.

    With rented workers also the account, the market, the budget, and what may have been forgotten.
    It starts nothing, buys nothing and changes nothing. The exit code is 0 when all is well, else 1.

    Examples:
      llmhost doctor
      llmhost doctor --json | jq '.checks[] | select(.ok | not)'
    """
    options = globals_of(ctx)
    checks = run_async(_checks(options))
    options.output.result(DoctorOutput(checks), _render)
    return 0 if all(check.ok for check in checks) else 1


async def _checks(options: Globals) -> Sequence[Check]:
    from llmhost.config.load import load_config
    from llmhost.doctor.checks import check_machine, failed, fine

    try:
        loaded = load_config(options.config, environ=os.environ)
    except ConfigError as error:
        return [failed("config", error), check_machine()]
    for warning in loaded.warnings:
        options.output.warn(warning)
    return [fine("config", _source(loaded)), check_machine(), *await _examined(options, loaded)]


def _source(loaded: LoadedConfig) -> str:
    if loaded.source is None:
        return "no file: the built-in local fleet (`llmhost init` writes one)"
    return f"{loaded.source.absolute()} is valid"


async def _examined(options: Globals, loaded: LoadedConfig) -> Sequence[Check]:
    from llmhost.doctor.checks import examine
    from llmhost.doctor.gather import looks

    async with wired(options, loaded.config) as wiring:
        return await examine(looks(wiring, loaded.config))


def _render(output: DoctorOutput, console: Console) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    grid = Table.grid("", "", Column(overflow="fold"), padding=(0, 2))
    for check in output.checks:
        mark = Text("ok", "green") if check.ok else Text("wrong", "bold red")
        words = Text(clean(check.detail))
        if check.fix:
            words.append(f"\n{clean(check.fix)}", "cyan")
        grid.add_row(mark, Text(clean(check.name)), words)
    console.print(grid)
    wrong = sum(not check.ok for check in output.checks)
    summary = (
        f"{wrong} of {len(output.checks)} {'needs' if wrong == 1 else 'need'} mending."
        if wrong
        else "All is well."
    )
    console.print()
    console.print(Text(summary, "bold red" if wrong else "bold green"))
