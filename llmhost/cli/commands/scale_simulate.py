"""What a trace would have cost, as `scale --simulate` shows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.cli.output import table
from llmhost.cli.text import duration, money, percent

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.lab.simulation.report import Row, SimulationReport

__all__ = ["SimulationOutput", "show_simulation", "simulation_output"]


@dataclass(frozen=True, slots=True)
class SimulationOutput:
    """The fleets in `rows`, and `floor_usd`: the cost of the work alone, on workers that are never idle."""

    questions: int
    hits: int
    seconds: float
    floor_usd: float
    rows: Sequence[Row]


def simulation_output(report: SimulationReport) -> SimulationOutput:
    load = report.load
    return SimulationOutput(len(load) + load.hits, load.hits, load.span, report.floor_usd, report.rows)


def show_simulation(simulated: SimulationOutput, console: Console) -> None:
    """Two tables, so that each fits in 80 columns: money with waiting, and the fleets."""
    hits = f", {percent(simulated.hits / simulated.questions)} of them answered by the cache"
    console.print(
        f"{simulated.questions:,} questions in {duration(simulated.seconds)}{hits if simulated.hits else ''}"
    )
    console.print()
    _show_costs(simulated.rows, console)
    console.print()
    _show_fleets(simulated.rows, console)
    console.print()
    console.print(f"The work alone costs {money(simulated.floor_usd)} on workers that are never idle.")
    console.print(
        "in 5 s: share of answers that began within 5 s, of those that needed a GPU. The clairvoyant fleet"
        " knows the trace: what it cannot serve in time, nobody could have.",
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
