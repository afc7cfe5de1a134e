"""`llmhost up`: makes the fleet be what is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.fleet_view import WorkerOutput, hourly_cost, show_failures, show_workers, worker_output
from llmhost.cli.options import Globals, globals_of
from llmhost.cli.running import run_async
from llmhost.cli.session import configured, warn_of_others, wired
from llmhost.cli.text import money
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cli.progress import Progress
    from llmhost.config.models import Config
    from llmhost.fleet.health import WorkerProgress
    from llmhost.fleet.plan import Plan
    from llmhost.fleet.results import UpResult
    from llmhost.wiring import Wiring

__all__ = ["up"]


@dataclass(frozen=True, slots=True)
class PlanOutput:
    """How many workers to create, and which to keep and to destroy."""

    create: int
    keep: Sequence[str]
    destroy: Sequence[str]


@dataclass(frozen=True, slots=True)
class FailureOutput:
    worker: str | None
    message: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class UpOutput:
    plan: PlanOutput
    workers: Sequence[WorkerOutput]
    hourly_cost_usd: float
    failed: Sequence[FailureOutput]


def up(
    ctx: typer.Context,
    gpus: Annotated[int | None, typer.Option(help="How many workers; else `fleet.gpus`.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until they answer.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait in all; else as long as there is progress.")
    ] = None,
) -> None:
    """Make the fleet be N ready workers. Asking twice changes nothing.

    Examples:
      llmhost up
      llmhost up --gpus 3
      llmhost up --gpus 3 --dry-run
    """
    options = globals_of(ctx)
    config = configured(options)
    wanted = config.fleet.gpus if gpus is None else gpus
    if wanted < 1:
        raise UsageError(f"{wanted} workers make no fleet", hint="`llmhost down` takes all workers down")
    run_async(_plan(options, config, gpus) if dry_run else _up(options, config, gpus, not no_wait, timeout))


async def _plan(options: Globals, config: Config, gpus: int | None) -> None:
    async with wired(options, config) as wiring:
        plan = await (await wiring.fleet()).plan(gpus)
    price = config.fleet.price_per_hour
    output = UpOutput(
        plan=_plan_output(plan),
        workers=[worker_output(worker, wiring.now()) for worker in plan.keep],
        hourly_cost_usd=hourly_cost(plan.keep) + plan.create * price,
        failed=[],
    )
    options.output.result(output, _show_plan)


async def _up(options: Globals, config: Config, gpus: int | None, wait: bool, timeout: float | None) -> None:
    async with wired(options, config) as wiring:
        fleet = await wiring.fleet()
        try:
            with options.output.progress() as progress:
                result = await fleet.up(
                    gpus, wait=wait, timeout=timeout, on_progress=lambda step: _follow(progress, step)
                )
        except asyncio.CancelledError:
            await _say_what_runs(options, wiring)
            raise
        for warning in result.warnings:
            options.output.warn(warning)
        await warn_of_others(options, wiring)
        options.output.result(_up_output(result, wiring.now()), _show_up)
        await wiring.prepare_embedder()
    show_failures(options.output, result.failed, done=any(worker.url for worker in result.workers))


async def _say_what_runs(options: Globals, wiring: Wiring) -> None:
    """An interrupted `up` leaves workers behind; the user must know of each."""
    workers = await wiring.provider.list()
    if workers:
        names = ", ".join(worker.id for worker in workers)
        cost = money(hourly_cost(workers))
        options.output.warn(
            f"still there: {names} ({cost} an hour); `llmhost up` goes on, `llmhost down` ends them"
        )
    else:
        options.output.warn("no worker is left")


def _follow(progress: Progress, step: WorkerProgress) -> None:
    if step.stage == "ready":
        progress.done(step.worker)
    elif step.stage in ("failed", "gone"):
        progress.fail(step.worker, step.detail)
    else:
        progress.update(step.worker, step.stage, step.fraction)


def _up_output(result: UpResult, now: float) -> UpOutput:
    return UpOutput(
        plan=_plan_output(result.plan),
        workers=[worker_output(worker, now) for worker in result.workers],
        hourly_cost_usd=hourly_cost(result.workers),
        failed=[FailureOutput(failure.worker, failure.message, failure.hint) for failure in result.failed],
    )


def _plan_output(plan: Plan) -> PlanOutput:
    return PlanOutput(plan.create, [w.id for w in plan.keep], [w.id for w in plan.destroy])


def _show_plan(output: UpOutput, console: Console) -> None:
    console.print(f"would {_plan_words(output.plan)}; nothing was done")
    console.print(f"cost {money(output.hourly_cost_usd)} an hour, {money(output.hourly_cost_usd * 24)} a day")


def _show_up(output: UpOutput, console: Console) -> None:
    if not output.plan.create and not output.plan.destroy:
        console.print("nothing to do: the fleet is as wanted", style="dim")
    if output.plan.destroy:
        console.print(f"destroyed: {', '.join(output.plan.destroy)}")
    if output.workers:
        show_workers(output.workers, console)
        console.print(f"{money(output.hourly_cost_usd)} an hour", style="dim")


def _plan_words(plan: PlanOutput) -> str:
    parts = [f"create {plan.create}", f"keep {len(plan.keep)}", f"destroy {len(plan.destroy)}"]
    return ", ".join(parts)
