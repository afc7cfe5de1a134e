"""`llmhost up`: creates or updates the fleet, after showing what that costs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.fleet_view import (
    WorkerOutput,
    ended_word,
    follow,
    hourly_cost,
    show_failures,
    show_workers,
    warn_of_running,
    worker_output,
)
from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.gateway_process import ensure_gateway
from llmhost.cli.output import table
from llmhost.cli.running import (
    configured,
    confirm,
    run_async,
    say_what_a_toy_is,
    warn_of_others,
    wired,
)
from llmhost.cli.text import clean, counted, credit, money
from llmhost.errors import Cancelled, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cli.output import Progress
    from llmhost.config.models import Config
    from llmhost.fleet.budget import Projection
    from llmhost.fleet.health import WorkerProgress
    from llmhost.fleet.models import Worker
    from llmhost.fleet.plan import Plan, Quote
    from llmhost.fleet.results import UpResult
    from llmhost.fleet.service import FleetService
    from llmhost.wiring import Wiring

__all__ = ["up"]

_DAY = 24  #: hours
_MONTH = 730  #: hours; a twelfth of a year, as vendors count it
#: what to do where it was interrupted
_RESUMES = "`llmhost up` resumes, `llmhost down` destroys them"


def _plan_json(quote: Quote) -> dict[str, object]:
    """`purchases` are what would be bought; fewer than `create` where not enough fits."""
    plan = quote.plan
    return {
        "create": plan.create,
        "keep": [worker.id for worker in plan.keep],
        "destroy": [worker.id for worker in plan.destroy],
        "replace": min(plan.create, len(plan.destroy)),
        "purchases": [
            {
                "offer": offer.id,
                "gpu": offer.gpu,
                "price_per_hour": offer.price_per_hour,
                "region": offer.region,
                "interruptible": offer.bid is not None,
            }
            for offer in quote.purchases
        ],
    }


def _prices_json(quote: Quote) -> dict[str, object]:
    """USD of the whole fleet once the plan is done; None where not known."""
    from llmhost.fleet.budget import runway_hours

    hourly, credit_usd = quote.hourly_usd, quote.funds.credit
    return {
        "hourly": hourly,
        "daily": hourly * _DAY,
        "monthly": hourly * _MONTH,
        "credit": credit_usd,
        "runway_hours": runway_hours(credit_usd, hourly),
        "budget": [
            {
                "name": row.name,
                "limit": row.limit,
                "spent": row.spent,
                "projected": row.projected,
                "next_period": row.whole,
            }
            for row in _budget(quote)
        ],
    }


def _budget(quote: Quote) -> Sequence[Projection]:
    from llmhost.fleet.budget import projections

    return projections(quote.funds.limits, quote.funds.spent, quote.hourly_usd, quote.now)


def _show_quote(quote: Quote, console: Console) -> None:
    """The steps, what would be bought, and what the fleet costs then."""
    from llmhost.fleet.budget import runway_hours

    hourly, credit_usd = quote.hourly_usd, quote.funds.credit
    _show_steps(quote.plan, console)
    if quote.purchases:
        grid = table("offer", "gpu", "region", "$/h", right=("$/h",))
        for offer in quote.purchases:
            price = money(offer.price_per_hour) + ("" if offer.bid is None else " bid")
            grid.add_row(clean(offer.id), clean(offer.gpu or "-"), clean(offer.region or "-"), price)
        console.print(grid)
    if quote.missing:
        console.print(
            f"No offer fits for {quote.missing} of {counted(quote.plan.create, 'worker')}", style="bold"
        )
    console.print(f"Cost: {money(hourly)}/h, {money(hourly * _DAY)}/day, {money(hourly * _MONTH)}/month")
    for row in _budget(quote):
        console.print(_budget_line(row, quote.now))
    if credit_usd is not None:
        console.print(credit(credit_usd, runway_hours(credit_usd, hourly)))


def _show_steps(plan: Plan, console: Console) -> None:
    """What the plan does, without what it does not do, and why a worker is destroyed."""
    if not plan.changes:
        console.print("Plan: no changes")
        return
    kept = len(plan.keep)
    destroy = ended_word(plan.destroy[0].id, "destroy") if plan.destroy else ""
    steps = {"create": plan.create, "keep": kept, destroy: len(plan.destroy)}
    shown = ", ".join(f"{step} {count}" for step, count in steps.items() if count)
    console.print(f"Plan: {shown} ({plan.create + kept} wanted, {kept} running)")
    for worker in plan.destroy:
        console.print(f"  {destroy} {worker.id}: {clean(_why_destroyed(worker, plan))}")


def _why_destroyed(worker: Worker, plan: Plan) -> str:
    if worker.state.value == "failed":
        return worker.detail or "it failed"
    fits = any((worker.model, worker.engine) == (kept.model, kept.engine) for kept in plan.keep)
    return "more than wanted" if fits else f"it serves {worker.model}"


def _budget_line(row: Projection, now: float) -> str:
    """One limit, with what its period will have cost when it ends; `now` is Unix seconds."""
    from datetime import UTC, datetime

    next_hour = (datetime.fromtimestamp(now, UTC).hour + 1) % 24
    budget, until = {
        "hour": ("This hour's budget", f"{next_hour:02d}:00 UTC"),
        "day": ("Today's budget", "00:00 UTC"),
        "month": ("This month's budget", "the month ends, UTC"),
    }[row.period]
    later = f"; a whole {row.period} would cost {money(row.whole)}" if row.whole > row.limit else ""
    return f"{budget}: {money(row.projected)} of {money(row.limit)} if it runs until {until}{later}"


def up(
    ctx: typer.Context,
    gpus: Annotated[int | None, typer.Option(help="How many workers; else `fleet.gpus`.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Buy without asking first.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until they answer.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait in all; else as long as there is progress.")
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Do not let workers finish their answers before they are destroyed.")
    ] = False,
) -> None:
    """Create or update the fleet: N ready workers. Running it twice changes nothing.

    Before anything is bought it shows what that costs, and asks. Of workers that are too many, idle ones are
    destroyed first, and busy ones finish their answers.

    Examples:
      llmhost up
      llmhost up --gpus 3 --dry-run
      llmhost up --gpus 3 --yes
    """
    options = globals_of(ctx)
    config = configured(options, header=True)
    wanted = config.fleet.gpus if gpus is None else gpus
    if wanted < 1:
        raise UsageError(
            f"a fleet needs at least 1 worker, not {wanted}", hint="`llmhost down` destroys all workers"
        )
    if dry_run:
        run_async(_plan(options, config, gpus))
    else:
        run_async(_up(options, config, wanted, yes=yes, wait=not no_wait, timeout=timeout, now=now))


async def _plan(options: Globals, config: Config, gpus: int | None) -> None:
    async with wired(options, config) as wiring:
        quote = await (await wiring.fleet()).plan(gpus)
    document = {
        "plan": _plan_json(quote),
        "workers": [
            worker_output(worker, wiring.now(), estimated=wiring.provider.rents) for worker in quote.plan.keep
        ],
        "hourly_cost_usd": quote.hourly_usd,
        "failed": [],
        "replaced": [],
        "cost_usd": _prices_json(quote),
        "endpoint": None,
    }

    def show(quote: Quote, console: Console) -> None:
        _show_quote(quote, console)
        console.print("Dry run: nothing was changed.", style="dim")

    options.output.result(quote, show, document)
    if refusal := quote.refusal():
        raise refusal


async def _up(
    options: Globals, config: Config, gpus: int, *, yes: bool, wait: bool, timeout: float | None, now: bool
) -> None:
    from llmhost.machine.process import began

    approval = _Approval(options, yes)
    rented: set[str] = set()
    async with wired(options, config) as wiring:
        await wiring.others.remember(options.source)
        fleet = await wiring.fleet()
        try:
            with options.output.progress() as progress:
                approval.progress = progress
                result = await fleet.up(
                    gpus,
                    wait=wait,
                    timeout=timeout,
                    on_progress=lambda step: _note(step, rented, progress),
                    approve=approval,
                    now=now,
                    began=began(),
                )
            await wiring.others.settle(options.source)
            await warn_of_others(options, wiring)
            gateway = await ensure_gateway(options, config) if result.workers else None
        except (asyncio.CancelledError, Exception) as error:
            await _warn_of_remains(options, wiring, fleet, rented, approval, error)
            raise
        for warning in result.warnings:
            options.output.warn(warning)
        for failure in result.replaced:
            options.output.warn(f"{failure.worker} was replaced: {failure.message}")
        endpoint = None if gateway is None else gateway.url
        workers = [
            worker_output(worker, wiring.now(), result.spent.get(worker.id), estimated=wiring.provider.rents)
            for worker in result.workers
        ]
        options.output.result(
            result,
            lambda shown, console: _show_up(shown, workers, endpoint, console),
            _up_json(result, workers, approval.quote) | {"endpoint": endpoint},
        )
    _say_what_is_missing(options, result, gpus)
    say_what_a_toy_is(options, config)
    show_failures(options.output, result.failed, done=any(worker.url for worker in result.workers))


async def _warn_of_remains(
    options: Globals,
    wiring: Wiring,
    fleet: FleetService,
    rented: set[str],
    approval: _Approval,
    error: BaseException,
) -> None:
    """Where `error` ends the command: what runs, and which purchases may have bought something. Before the
    first purchase there is nothing to report."""
    if rented or (isinstance(error, asyncio.CancelledError) and not approval.is_open):
        await warn_of_running(options.output, wiring.provider, _RESUMES, rented)
    if fleet.rents and not approval.is_open:
        with suppress(Exception):  # it must not hide what ended the command
            for doubt in await fleet.doubts():
                if not str(error) or str(error) not in doubt:  # that vast.ai cannot be asked is said once
                    options.output.warn(doubt)


class _Approval:
    """Shows the quote and asks before the first purchase. `is_open`: the operator has not answered yet."""

    def __init__(self, options: Globals, yes: bool) -> None:
        self._options = options
        self._yes = yes
        self.progress: Progress | None = None
        self.quote: Quote | None = None
        self.is_open = False

    async def __call__(self, quote: Quote) -> None:
        """Raises UsageError where there is no terminal to ask at, Cancelled where the answer is no."""
        self.quote = quote
        if self._yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(
                f"this would buy {counted(len(quote.purchases), 'worker')}, {money(quote.hourly_usd)}/h"
                " in all, and there is no terminal to ask at",
                hint="pass --yes to buy without being asked, or --dry-run to see the plan",
            )
        with self.progress.paused() if self.progress else nullcontext():
            _show_quote(quote, self._options.output.console_of_errors())
            self.is_open = True
            if not await confirm("Buy?"):
                raise Cancelled("Cancelled. Nothing was bought.")
            self.is_open = False


def _say_what_is_missing(options: Globals, result: UpResult, gpus: int) -> None:
    ready = sum(worker.state.value == "ready" for worker in result.workers)
    if result.failed and ready < gpus:
        options.output.note(
            f"{ready} of {gpus} workers are ready; meanwhile the fleet costs"
            f" {money(hourly_cost(result.workers))}/h"
        )


def _note(step: WorkerProgress, rented: set[str], progress: Progress) -> None:
    """Keeps `rented` what was bought by this command and not given back."""
    if step.stage == "rented":
        rented.add(step.worker)
    elif step.stage == "ended":
        rented.discard(step.worker)
    follow(progress, step)


def _up_json(result: UpResult, workers: Sequence[WorkerOutput], quote: Quote | None) -> dict[str, object]:
    """`cost_usd` is None where nothing had to be planned. `replaced` failed, and others stand in for them."""
    from llmhost.fleet.plan import Quote

    return {
        "plan": _plan_json(quote or Quote(result.plan, ())),
        "workers": workers,
        "hourly_cost_usd": hourly_cost(result.workers),
        "failed": result.failed,
        "replaced": result.replaced,
        "cost_usd": _prices_json(quote) if quote else None,
    }


def _show_up(
    result: UpResult, workers: Sequence[WorkerOutput], endpoint: str | None, console: Console
) -> None:
    if not result.plan.changes:
        console.print("Nothing to do: the fleet is up to date.", style="dim")
    if result.plan.destroy:
        names = [worker.id for worker in result.plan.destroy]
        console.print(f"{ended_word(names[0]).capitalize()} {', '.join(names)}.")
    if workers:
        show_workers(workers, console)
        console.print(f"{money(hourly_cost(result.workers))}/h", style="dim")
    if endpoint is not None:
        where = f"Endpoint: {endpoint}/v1 (for clients of OpenAI, Ollama, Anthropic)"
        console.print(where, soft_wrap=not console.is_terminal)
