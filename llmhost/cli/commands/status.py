"""`llmhost status`: workers, health, prices, what they have cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from llmhost.cli.fleet_view import WorkerOutput, hourly_cost, show_workers, worker_output
from llmhost.cli.options import Globals, globals_of
from llmhost.cli.running import run_async
from llmhost.cli.session import configured, warn_of_others, wired
from llmhost.cli.text import money

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.config.models import Config

__all__ = ["status"]


@dataclass(frozen=True, slots=True)
class StatusOutput:
    workers: Sequence[WorkerOutput]
    hourly_cost_usd: float
    spent_usd: float


def status(ctx: typer.Context) -> None:
    """Show every worker: whether it answers, its price, and what it has cost so far.

    Examples:
      llmhost status
      llmhost status --json | jq '.workers[] | select(.ready | not)'
    """
    options = globals_of(ctx)
    run_async(_status(options, configured(options)))


async def _status(options: Globals, config: Config) -> None:
    async with wired(options, config) as wiring:
        found = await (await wiring.fleet()).status()
        await warn_of_others(options, wiring)
    for warning in found.warnings:
        options.output.warn(warning)
    workers = [worker_output(worker, wiring.now()) for worker in found.workers]
    spent = sum(worker.spent_usd for worker in workers)
    options.output.result(StatusOutput(workers, hourly_cost(found.workers), spent), _show)


def _show(output: StatusOutput, console: Console) -> None:
    show_workers(output.workers, console)
    if output.workers:
        console.print(
            f"{money(output.hourly_cost_usd)} an hour, {money(output.spent_usd)} spent", style="dim"
        )
