"""`llmhost status`: workers, health, prices, what they have cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.fleet_view import WorkerOutput, hourly_cost, show_workers, worker_output
from llmhost.cli.gpu_view import GpuOutput, gather_metrics, show_gpus
from llmhost.cli.options import Globals, globals_of
from llmhost.cli.running import run_async
from llmhost.cli.session import configured, warn_of_others, wired
from llmhost.cli.text import credit, money

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.config.models import Config
    from llmhost.fleet.results import FleetStatus

__all__ = ["status"]


@dataclass(frozen=True, slots=True)
class SpentOutput:
    """USD of all workers, gone ones included: this UTC day, this month, ever."""

    today: float
    month: float
    total: float


@dataclass(frozen=True, slots=True)
class StatusOutput:
    """`spent_usd` is what the workers listed have cost. None where not known, or not asked for."""

    workers: Sequence[WorkerOutput]
    hourly_cost_usd: float
    spent_usd: float
    spent: SpentOutput
    credit_usd: float | None
    runway_hours: float | None
    gpus: Sequence[GpuOutput] | None


def status(
    ctx: typer.Context,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Also load, memory and temperature of each GPU.")
    ] = False,
) -> None:
    """Show every worker: whether it answers, its price, and what it has cost so far.

    Examples:
      llmhost status
      llmhost status --gpu
      llmhost status --json | jq '.workers[] | select(.ready | not)'
    """
    options = globals_of(ctx)
    run_async(_status(options, configured(options), gpu))


async def _status(options: Globals, config: Config, gpu: bool) -> None:
    async with wired(options, config) as wiring:
        found = await (await wiring.fleet()).status()
        gpus = await gather_metrics(wiring.engines, found.workers) if gpu else None
        await warn_of_others(options, wiring)
    for warning in found.warnings:
        options.output.warn(warning)
    options.output.result(_output(found, gpus, wiring.now()), _show)


def _output(found: FleetStatus, gpus: Sequence[GpuOutput] | None, now: float) -> StatusOutput:
    from llmhost.fleet.budget import runway_hours

    spending, hourly = found.spending, hourly_cost(found.workers)
    workers = [worker_output(worker, now, spending.by_worker.get(worker.id)) for worker in found.workers]
    left = found.account.credit if found.account else None
    return StatusOutput(
        workers=workers,
        hourly_cost_usd=hourly,
        spent_usd=sum(worker.spent_usd for worker in workers),
        spent=SpentOutput(spending.periods.day, spending.periods.month, spending.total),
        credit_usd=left,
        runway_hours=runway_hours(left, hourly),
        gpus=gpus,
    )


def _show(output: StatusOutput, console: Console) -> None:
    show_workers(output.workers, console)
    if output.gpus:
        show_gpus(output.gpus, console)
    spent = f"{money(output.spent.today)} today, {money(output.spent.month)} this month"
    if output.workers:
        spent = f"{money(output.spent_usd)} by these workers, {spent}"
        console.print(f"{money(output.hourly_cost_usd)} an hour; spent {spent}", style="dim")
    elif output.spent.total:
        console.print(f"spent {spent}", style="dim")
    if output.credit_usd is not None:
        console.print(credit(output.credit_usd, output.runway_hours), style="dim")
