"""`llmhost up`: creates or updates the fleet, after showing what that costs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.fleet_view import (
    WorkerOutput,
    follow,
    hourly_cost,
    show_failures,
    show_workers,
    worker_output,
)
from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import configured, confirm, run_async, warn_of_others, wired
from llmhost.cli.text import clean, credit, money
from llmhost.errors import Cancelled, LlmhostError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cli.output import Progress
    from llmhost.config.models import Config
    from llmhost.fleet.health import WorkerProgress
    from llmhost.fleet.models import Offer, Worker
    from llmhost.fleet.plan import Plan, Quote
    from llmhost.fleet.results import UpResult
    from llmhost.wiring import Wiring

__all__ = [
    "BudgetOutput",
    "OfferedOutput",
    "PlanOutput",
    "PricesOutput",
    "plan_output",
    "prices_output",
    "show_quote",
    "up",
]


# What `up` would do and what it costs, for people and for machines.


_DAY = 24  #: hours
_MONTH = 730  #: hours; a twelfth of a year, as vendors count it


@dataclass(frozen=True, slots=True)
class OfferedOutput:
    """One purchase; USD an hour, the disk included."""

    offer: str
    gpu: str
    price_per_hour: float
    region: str
    interruptible: bool


@dataclass(frozen=True, slots=True)
class PlanOutput:
    """How many workers to create, and which to keep and to destroy. `purchases` are what would be bought;
    fewer than `create` where not enough fits.
    """

    create: int
    keep: Sequence[str]
    destroy: Sequence[str]
    replace: int
    purchases: Sequence[OfferedOutput]


@dataclass(frozen=True, slots=True)
class BudgetOutput:
    """One limit, USD: what its period will have cost when it ends, and what the next one would cost."""

    name: str
    limit: float
    spent: float
    projected: float
    next_period: float


@dataclass(frozen=True, slots=True)
class PricesOutput:
    """USD of the whole fleet once the plan is done; a month is 730 hours. None where not known."""

    hourly: float
    daily: float
    monthly: float
    credit: float | None
    runway_hours: float | None
    budget: Sequence[BudgetOutput]


def plan_output(quote: Quote) -> PlanOutput:
    plan = quote.plan
    return PlanOutput(
        plan.create,
        [worker.id for worker in plan.keep],
        [worker.id for worker in plan.destroy],
        min(plan.create, len(plan.destroy)),
        [_offered(offer) for offer in quote.purchases],
    )


def prices_output(quote: Quote) -> PricesOutput:
    from llmhost.fleet.budget import projections, runway_hours

    hourly, funds = quote.hourly_usd, quote.funds
    budget = [
        BudgetOutput(row.name, row.limit, row.spent, row.projected, row.whole)
        for row in projections(funds.limits, funds.spent, hourly, quote.now)
    ]
    runway = runway_hours(funds.credit, hourly)
    return PricesOutput(hourly, hourly * _DAY, hourly * _MONTH, funds.credit, runway, budget)


def show_quote(quote: Quote, console: Console) -> None:
    """The steps, what would be bought, and what the fleet costs then."""
    plan, prices = plan_output(quote), prices_output(quote)
    _show_steps(quote, console)
    if plan.purchases:
        grid = table("offer", "gpu", "region", "$/h", right=("$/h",))
        for offer in plan.purchases:
            price = money(offer.price_per_hour) + (" bid" if offer.interruptible else "")
            grid.add_row(clean(offer.offer), clean(offer.gpu or "-"), clean(offer.region or "-"), price)
        console.print(grid)
    if quote.missing:
        console.print(f"No offer fits for {quote.missing} of {plan.create} workers", style="yellow")
    console.print(f"Cost: {money(prices.hourly)}/h, {money(prices.daily)}/day, {money(prices.monthly)}/month")
    for row in prices.budget:
        console.print(_budget_line(row, quote.now))
    if prices.credit is not None:
        console.print(credit(prices.credit, prices.runway_hours))


def _show_steps(quote: Quote, console: Console) -> None:
    """What the plan does, without what it does not do, and why a worker is destroyed."""
    plan = quote.plan
    if not plan.changes:
        console.print("Plan: no changes")
        return
    kept = len(plan.keep)
    steps = {"create": plan.create, "keep": kept, "destroy": len(plan.destroy)}
    shown = ", ".join(f"{step} {count}" for step, count in steps.items() if count)
    console.print(f"Plan: {shown} ({plan.create + kept} wanted, {kept} running)")
    for worker in plan.destroy:
        console.print(f"  destroy {worker.id}: {clean(_why_destroyed(worker, plan))}")


def _why_destroyed(worker: Worker, plan: Plan) -> str:
    if worker.state.value == "failed":
        return worker.detail or "it failed"
    fits = any((worker.model, worker.engine) == (kept.model, kept.engine) for kept in plan.keep)
    return "more than wanted" if fits else f"it serves {worker.model}"


def _budget_line(row: BudgetOutput, now: float) -> str:
    """One limit, with what its period will have cost when it ends; `now` is Unix seconds."""
    from datetime import UTC, datetime

    next_hour = (datetime.fromtimestamp(now, UTC).hour + 1) % 24
    budget, until = {
        "per_hour": ("This hour's budget", f"{next_hour:02d}:00 UTC"),
        "per_day": ("Today's budget", "00:00 UTC"),
        "per_month": ("This month's budget", "the month ends, UTC"),
    }[row.name]
    period = row.name.removeprefix("per_")
    later = f"; a whole {period} would cost {money(row.next_period)}" if row.next_period > row.limit else ""
    return f"{budget}: {money(row.projected)} of {money(row.limit)} if it runs until {until}{later}"


def _offered(offer: Offer) -> OfferedOutput:
    return OfferedOutput(offer.id, offer.gpu, offer.price_per_hour, offer.region, offer.bid is not None)


@dataclass(frozen=True, slots=True)
class FailureOutput:
    worker: str | None
    message: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class UpOutput:
    """`cost_usd` is None where nothing had to be planned. `replaced` failed and others stand in for them."""

    plan: PlanOutput
    workers: Sequence[WorkerOutput]
    hourly_cost_usd: float
    failed: Sequence[FailureOutput]
    replaced: Sequence[FailureOutput]
    cost_usd: PricesOutput | None


def up(
    ctx: typer.Context,
    gpus: Annotated[int | None, typer.Option(help="How many workers; else `fleet.gpus`.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Buy without asking first.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until they answer.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait in all; else as long as there is progress.")
    ] = None,
) -> None:
    """Create or update the fleet: N ready workers. Running it twice changes nothing.

    Before anything is bought it shows what that costs, and asks.

    Examples:
      llmhost up
      llmhost up --gpus 3 --dry-run
      llmhost up --gpus 3 --yes
    """
    options = globals_of(ctx)
    config = configured(options)
    wanted = config.fleet.gpus if gpus is None else gpus
    if wanted < 1:
        raise UsageError(
            f"a fleet needs at least 1 worker, not {wanted}", hint="`llmhost down` destroys all workers"
        )
    if dry_run:
        run_async(_plan(options, config, gpus))
    else:
        run_async(_up(options, config, wanted, yes, not no_wait, timeout))


async def _plan(options: Globals, config: Config, gpus: int | None) -> None:
    async with wired(options, config) as wiring:
        quote = await (await wiring.fleet()).plan(gpus)
    prices = prices_output(quote)
    output = UpOutput(
        plan=plan_output(quote),
        workers=[worker_output(worker, wiring.now()) for worker in quote.plan.keep],
        hourly_cost_usd=prices.hourly,
        failed=[],
        replaced=[],
        cost_usd=prices,
    )
    options.output.result(output, lambda _, console: _show_plan(quote, console))
    if refusal := quote.refusal():
        raise refusal


async def _up(
    options: Globals, config: Config, gpus: int, yes: bool, wait: bool, timeout: float | None
) -> None:
    approval = _Approval(options, yes)
    rented: set[str] = set()
    async with wired(options, config) as wiring:
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
                )
        except asyncio.CancelledError:
            if rented or not approval.is_open:  # before the first purchase there is nothing to report
                await _say_what_runs(options, wiring, rented)
            raise
        except LlmhostError:
            if rented:
                await _say_what_runs(options, wiring, rented)
            raise
        for warning in result.warnings:
            options.output.warn(warning)
        for failure in result.replaced:
            options.output.warn(f"{failure.worker} was replaced: {failure.message}")
        await warn_of_others(options, wiring)
        options.output.result(_up_output(result, approval.quote, wiring.now()), _show_up)
    _say_what_is_missing(options, result, gpus)
    show_failures(options.output, result.failed, done=any(worker.url for worker in result.workers))


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
                f"this would buy {len(quote.purchases)} workers, {money(quote.hourly_usd)}/h in all,"
                " and there is no terminal to ask at",
                hint="pass --yes to buy without being asked, or --dry-run to see the plan",
            )
        with self.progress.paused() if self.progress else nullcontext():
            show_quote(quote, self._options.output.console_of_errors())
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


async def _say_what_runs(options: Globals, wiring: Wiring, rented: set[str]) -> None:
    """An interrupted `up` leaves workers behind; the user must know of each."""
    try:
        workers = await wiring.provider.list()
    except LlmhostError:
        bought = f": {', '.join(sorted(rented))}" if rented else ""
        options.output.warn(
            f"the running workers cannot be listed{bought}; `llmhost status` shows them later, `llmhost down`"
            " destroys them"
        )
        return
    if workers:
        names = ", ".join(worker.id for worker in workers)
        cost = money(hourly_cost(workers))
        options.output.warn(
            f"still running: {names} ({cost}/h); `llmhost up` resumes, `llmhost down` destroys them"
        )
    else:
        options.output.warn("no workers are running")


def _up_output(result: UpResult, quote: Quote | None, now: float) -> UpOutput:
    from llmhost.fleet.plan import Quote

    return UpOutput(
        plan=plan_output(quote or Quote(result.plan, ())),
        workers=[worker_output(worker, now) for worker in result.workers],
        hourly_cost_usd=hourly_cost(result.workers),
        failed=[FailureOutput(failure.worker, failure.message, failure.hint) for failure in result.failed],
        replaced=[FailureOutput(failure.worker, failure.message, None) for failure in result.replaced],
        cost_usd=prices_output(quote) if quote else None,
    )


def _show_plan(quote: Quote, console: Console) -> None:
    show_quote(quote, console)
    console.print("Dry run: nothing was changed.", style="dim")


def _show_up(output: UpOutput, console: Console) -> None:
    if not output.plan.create and not output.plan.destroy:
        console.print("Nothing to do: the fleet is up to date.", style="dim")
    if output.plan.destroy:
        console.print(f"Destroyed {', '.join(output.plan.destroy)}.")
    if output.workers:
        show_workers(output.workers, console)
        console.print(f"{money(output.hourly_cost_usd)}/h", style="dim")
