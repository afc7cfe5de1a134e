"""A chart of a simulation: what the questions asked for, and how large the fleets were."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, MultipleLocator
from numpy.typing import NDArray

from llmhost.lab.plots import save
from llmhost.lab.simulation.report import CLAIRVOYANT, POLICY, REQUEST_RATE, Report, Row
from llmhost.lab.simulation.settings import IN_TIME

__all__ = ["plot"]

#: Okabe and Ito's colours, which people who see few colours can tell apart (https://jfly.uni-koeln.de/color/)
_COLOURS = {POLICY: "#0072B2", CLAIRVOYANT: "#009E73", REQUEST_RATE: "#D55E00"}
_DEMAND, _INK, _FAINT = "#C4C4C4", "#222222", "#E6E6E6"

#: inches
_SIZE = (10.0, 8.0)

#: seconds and how many; demand is an average, of a minute or of as much as can be told apart on the chart
_MINUTE, _BINS = 60.0, 480

#: seconds: a unit of the time axis with its name, from how many seconds on, and between its lines
_UNITS = (
    (86_400.0, "days", 3 * 86_400.0, 1.0),
    (3600.0, "hours", 2 * 3600.0, 3.0),
    (60.0, "minutes", 0.0, 10.0),
)


def plot(report: Report, path: Path) -> None:
    """Writes the chart to `path`, an SVG or a PNG as its suffix says, whole or not at all.

    Raises:
        UsageError: the suffix is another, or the file cannot be written.
    """
    save(lambda: _draw(report), path)


def _draw(report: Report) -> Figure:
    """One panel for each fleet, on the same axes: lines over each other cannot be told apart."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    panels: list[Axes] = list(figure.subplots(len(_COLOURS), 1, sharex=True, sharey=True))
    unit, unit_name, every = _unit(report.load.span)
    for axes, (name, colour) in zip(panels, _COLOURS.items(), strict=True):
        _draw_panel(axes, report, report.row(name), colour, unit)
    handles = [Patch(color=_DEMAND), Line2D([], [], color=_INK)]
    labels = ["workers that the questions keep busy", "workers paid for"]
    figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False, fontsize=10)
    last = panels[-1]
    last.set_xlabel(unit_name, color=_INK)
    last.set_xlim(0, report.load.span / unit)
    last.set_ylim(0)
    last.xaxis.set_major_locator(MultipleLocator(every))
    figure.suptitle(_title(report), fontsize=13, color=_INK, x=0.01, ha="left", fontweight="bold")
    return figure


def _draw_panel(axes: Axes, report: Report, row: Row, colour: str, unit: float) -> None:
    edges, demand = _demand(report)
    axes.stairs(demand, edges / unit, fill=True, color=_DEMAND)
    times = np.append(row.timeline.seconds, report.load.span) / unit
    sizes = np.append(row.timeline.workers, row.timeline.workers[-1])
    axes.step(times, sizes, where="post", color=colour, linewidth=1.4)
    axes.set_title(_panel_title(row), loc="left", fontsize=11, color=colour)
    axes.set_ylabel("workers", color=_INK)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)


def _demand(report: Report) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The edges of the bins in seconds, and in each how many workers the work needs that came in it."""
    load = report.load
    bins = max(1, min(_BINS, math.ceil(load.span / _MINUTE)))
    work, edges = np.histogram(load.times, bins, (0.0, load.span), weights=load.service)
    return edges, work / np.diff(edges) / load.places


def _unit(span: float) -> tuple[float, str, float]:
    """Seconds of it, its name, and how many lie between two marks."""
    unit, name, _, every = next(row for row in _UNITS if span >= row[2])
    return unit, name, every * max(1, round(span / unit / every / 8))


def _title(report: Report) -> str:
    load = report.load
    asked = len(load) + load.hits
    hits = f", {load.hits / asked * 100:.0f} % answered by the cache" if load.hits else ""
    return f"{asked:,} questions{hits}: demand and fleet"


def _panel_title(row: Row) -> str:
    in_time = math.floor(row.in_time * 1000) / 10  # nearly all is not all
    return f"{row.name}: ${row.cost_usd:,.2f}, {in_time:.1f} % of answers begun within {IN_TIME:g} s"
