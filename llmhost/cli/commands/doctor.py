"""`llmhost doctor`: diagnoses the setup and says how to fix it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from llmhost.cli.fleet_view import hourly_cost
from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.running import configured_if_readable, described, load, run_async, show_fleet, wired
from llmhost.cli.text import clean, counted, money
from llmhost.errors import ConfigError, LlmhostError, StateError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.doctor.checks import Check
    from llmhost.wiring import Wiring

__all__ = ["doctor"]

_MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}


def doctor(ctx: typer.Context) -> int:
    """Diagnose the setup: configuration, Redis, models and workers, with a fix for each problem.

    For rented workers also the account, the offers, the budget and orphaned purchases. Fleets of other
    configurations are named.
    It starts, buys and changes nothing; what it writes to Redis, it deletes. The exit code is 0 if no
    check failed, else 1; what warns works now.

    Examples:
      llmhost doctor
      llmhost doctor --json | jq '.checks[] | select(.ok | not)'
    """
    options = globals_of(ctx)
    checks = run_async(_checks(options))
    options.output.result(checks, _render, {"checks": checks})
    return 0 if all(check.ok for check in checks) else 1


async def _checks(options: Globals) -> Sequence[Check]:
    from llmhost.doctor.checks import check_machine, from_error, ok, run_checks, warn

    try:
        loaded = load(options)
    except ConfigError as error:
        async with wired(options, configured_if_readable(options, warned=False)) as wiring:
            paid_for = [*await _own_fleet(wiring), *await _other_fleets(wiring)]
        return [from_error("config", error), check_machine(), *paid_for]
    show_fleet(options, loaded)
    from llmhost.doctor.gather import probes

    source = "no file: the built-in local fleet (`llmhost init` writes one)"
    if loaded.source is not None:
        source = f"{loaded.source.absolute()} is valid"
    async with wired(options, loaded.config) as wiring:
        probed = [*await run_checks(probes(wiring, loaded.config)), *await _other_fleets(wiring)]
    warned = [warn("config", warning, "correct it") for warning in loaded.warnings]
    return [ok("config", source), *warned, check_machine(), *probed]


async def _own_fleet(wiring: Wiring) -> Sequence[Check]:
    """What is paid for although the configuration is not valid."""
    from llmhost.doctor.checks import from_error, warn

    try:
        workers = await wiring.provider.list() if wiring.provider.rents else ()
    except LlmhostError as error:
        return [from_error("workers", error)]
    if not workers:
        return []
    what = f"{counted(len(workers), 'worker')}, {money(hourly_cost(workers))}/h"
    return [warn("workers", what, "`llmhost status` shows them, `llmhost down` destroys them")]


async def _other_fleets(wiring: Wiring) -> Sequence[Check]:
    """What is paid for although this configuration is not about it."""
    from llmhost.doctor.checks import from_error, warn

    try:
        others = await wiring.others.found()
    except StateError as error:
        return [from_error("other fleets", error)]
    return [
        warn("other fleets", described(fleet), f"`llmhost down --fleet {fleet.name}` destroys them")
        for fleet in others
    ]


def _render(checks: Sequence[Check], console: Console) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    grid = Table.grid("", "", Column(overflow="fold"), padding=(0, 2))
    before = [len(_MARKS[check.level][0]) for check in checks], [len(check.name) for check in checks]
    room = max(console.width - sum(max(lengths, default=0) + 2 for lengths in before), 1)
    for check in checks:
        mark = Text(*_MARKS[check.level])
        detail = Text(_at_slashes(clean(check.detail), room))
        if check.fix:
            detail.append(f"\n{clean(check.fix)}", "cyan")
        grid.add_row(mark, Text(clean(check.name)), detail)
    console.print(grid)
    failed, warnings = (sum(check.level == level for check in checks) for level in ("fail", "warn"))
    summary = f"{failed} of {len(checks)} checks failed" if failed else "All checks passed"
    summary += f", {counted(warnings, 'warning')}." if warnings else "."
    console.print()
    console.print(Text(summary, "bold red" if failed else "bold" if warnings else "bold green"))


def _at_slashes(text: str, room: int) -> str:
    """`text`, in which a path that is longer than a line breaks after a slash rather than within a name."""
    piece = rf"\S{{1,{room}}}$|\S{{0,{room - 1}}}/|\S{{{room}}}"
    return re.sub(rf"\S{{{room + 1},}}", lambda word: "\n".join(re.findall(piece, word[0])), text)
