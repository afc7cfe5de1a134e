"""`llmhost scale simulate`: what recorded questions would have cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.output import table
from llmhost.cli.running import configured
from llmhost.cli.text import duration, money, percent

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.lab.simulation.report import Row, SimulationReport

__all__ = ["show_simulation", "simulate_trace", "simulation_json"]


def _number(metavar: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar=metavar, help=text)
    return option


def simulate_trace(
    ctx: typer.Context,
    trace: Annotated[Path, typer.Argument(metavar="TRACE.csv", help="Recorded questions; or .csv.gz.")],
    speed: Annotated[float | None, _number("FACTOR", "Replay it this many times as fast.")] = None,
    repeat: Annotated[int | None, _number("N", "Replay it N times, one after the other.")] = None,
    hit_ratio: Annotated[float | None, _number("SHARE", "Share that the cache answers, 0 to 1.")] = None,
    worker_tokens_per_s: Annotated[
        float | None, _number("N", "What a whole worker generates; else `scale.tokens_per_s`.")
    ] = None,
    boot_seconds: Annotated[
        float | None, _number("S", "Time until a worker answers; else `scale.boot_time`.")
    ] = None,
    price: Annotated[
        float | None, _number("USD", "$/h of a worker; else `fleet.price_per_hour`, or 0.40.")
    ] = None,
    boot_failures: Annotated[float | None, _number("SHARE", "Share of purchases that never answer.")] = None,
    deaths_per_hour: Annotated[float | None, _number("N", "How often an hour a worker breaks.")] = None,
    interval: Annotated[float | None, _number("S", "Seconds between two steps; else 60.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="OUT.svg", help="Draw demand and fleet; .svg or .png.")
    ] = None,
) -> None:
    """Replay recorded questions, and show what the fleet would have cost.

    Examples:
      llmhost scale simulate questions.csv --worker-tokens-per-s 400 --plot week.svg
    """
    from llmhost.lab.simulation.report import simulate
    from llmhost.lab.simulation.trace import read_trace
    from llmhost.lab.simulation.workload import Settings
    from llmhost.wiring.fleets import budget_limits, scale_spec

    if plot is not None:
        from llmhost.lab.plots import check_drawable, plot_simulation

        check_drawable(plot)
    options = globals_of(ctx)
    config = configured(options)
    spec = scale_spec(config)
    chosen: dict[str, Any] = {
        "worker_tokens_per_s": spec.tokens_per_s if worker_tokens_per_s is None else worker_tokens_per_s,
        "boot_seconds": spec.boot_seconds if boot_seconds is None else boot_seconds,
        "price": config.fleet.price_per_hour or None if price is None else price,
        "speed": speed,
        "repeat": repeat,
        "hit_ratio": hit_ratio,
        "boot_failures": boot_failures,
        "deaths_per_hour": deaths_per_hour,
        "interval": interval,
    }
    settings = Settings(**{name: value for name, value in chosen.items() if value is not None})
    questions = read_trace(trace)
    with options.output.progress() as progress, progress.one_by_one("playing", "played") as on_progress:
        report = simulate(questions, settings, spec, on_progress, limits=budget_limits(config))
    if plot is not None:
        plot_simulation(report, plot)
    options.output.result(report, show_simulation, simulation_json(report))


def simulation_json(report: SimulationReport) -> dict[str, object]:
    """`floor_usd` is the cost of the work alone, on workers that are never idle."""
    load = report.load
    return {
        "questions": len(load) + load.hits,
        "hits": load.hits,
        "seconds": load.span,
        "floor_usd": report.floor_usd,
        "rows": report.rows,
    }


def show_simulation(report: SimulationReport, console: Console) -> None:
    """Two tables, so that each fits in 80 columns: money with waiting, and the fleets."""
    load = report.load
    questions = len(load) + load.hits
    hits = f", {percent(load.hits / questions)} of them answered by the cache" if load.hits else ""
    console.print(f"{questions:,} questions in {duration(load.span)}{hits}")
    console.print()
    _show_costs(report.rows, console)
    console.print()
    _show_fleets(report.rows, console)
    console.print()
    console.print(f"The work alone costs {money(report.floor_usd)} on workers that are never idle.")
    console.print(
        "in 5 s: share of answers that began within 5 s, of those that needed a GPU. The clairvoyant fleet"
        " knows the trace in advance: what it cannot serve in time, no fleet could.",
        style="dim",
    )


def _show_costs(rows: Sequence[Row], console: Console) -> None:
    numbers = ("cost", "per 1,000", "ratio", "in 5 s", "p50", "p95", "p99")
    grid = table("fleet", *numbers, right=numbers)
    for row in rows:
        waits = (_wait(row.wait_p50), _wait(row.wait_p95), _wait(row.wait_p99))
        ratio = f"{row.versus_clairvoyant:.2f}"
        grid.add_row(
            row.name, money(row.cost_usd), money(row.cost_per_1000), ratio, _share(row.in_time), *waits
        )
    console.print(grid)


def _show_fleets(rows: Sequence[Row], console: Console) -> None:
    numbers = ("mean size", "peak size", "busy", "bought", "failed")
    grid = table("fleet", *numbers, right=numbers)
    for row in rows:
        counts = (f"{row.purchases:,}", f"{row.failed_purchases:,}")
        grid.add_row(row.name, f"{row.mean_size:.1f}", str(row.peak_size), _share(row.utilisation), *counts)
    console.print(grid)


def _wait(seconds: float) -> str:
    """One unit in a column: so the eye sees which is longer."""
    if math.isinf(seconds):
        return "never"
    return f"{seconds:.1f} s" if seconds < 99.95 else f"{seconds:,.0f} s"


def _share(ratio: float) -> str:
    """With one digit, as the last percent is what matters; never rounded up to all."""
    return f"{math.floor(ratio * 1000) / 10:.1f} %"
