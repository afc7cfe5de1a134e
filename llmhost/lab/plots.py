"""Charts as files: an SVG or a PNG, whole or not at all, and the same bytes for the same figures."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np

from llmhost.errors import UsageError
from llmhost.lab.evaluate import Evaluation, FrontierPoint
from llmhost.lab.replay import Replay
from llmhost.lab.simulation.report import CLAIRVOYANT, POLICY, REQUEST_RATE, Row, SimulationReport
from llmhost.lab.simulation.workload import IN_TIME
from llmhost.machine.paths import cache_dir

# Else it keeps a list of fonts in the user's cache folder.
os.environ.setdefault("MPLCONFIGDIR", str(cache_dir() / "matplotlib"))
try:
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator, MultipleLocator, PercentFormatter, StrMethodFormatter
except ModuleNotFoundError as error:
    raise UsageError("a chart needs matplotlib", hint="run `pip install 'llmhost[plots]'`") from error

__all__ = ["check_drawable", "plot_evaluation", "plot_replay", "plot_simulation", "save"]

_SUFFIXES = (".svg", ".png")
#: dots an inch of a .png
_DOTS = 150


def check_drawable(path: Path) -> None:
    """Before anything is worked out, which may take a minute. Raises UsageError where the suffix is neither
    .svg nor .png, or nothing can be written there.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"cannot draw {path.name}", hint=f"name it {' or '.join(_SUFFIXES)}")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"cannot write {path}: there is no such folder")
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write {path}: its folder may not be written to")


def save(draw: Callable[[], Figure], path: Path) -> None:
    """Writes what `draw` draws to `path`, an SVG or a PNG as its suffix says, whole or not at all. Raises
    UsageError where the suffix is another, or the file cannot be written.
    """
    check_drawable(path)
    kind, image = path.suffix.lower()[1:], BytesIO()
    # The same figures give the same bytes.
    with rc_context({"svg.hashsalt": "llmhost", "font.family": "DejaVu Sans"}):
        draw().savefig(image, format=kind, dpi=_DOTS, metadata={"Date": None} if kind == "svg" else None)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(image.getvalue())
        unfinished.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


_INK, _FAINT = "#222222", "#E6E6E6"


def _figure(width: float, height: float, title: str) -> Figure:
    """Sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=13, color=_INK, x=0.01, ha="left", fontweight="bold")
    return figure


def _style(axes: Axes, grid: Literal["both", "y"] = "y") -> None:
    axes.grid(axis=grid, color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)


# A chart of precision against recall: a policy beside similarity alone.

#: Okabe and Ito's colours, which people who see few colours can tell apart (https://jfly.uni-koeln.de/color/)
_POLICY, _COSINE = "#0072B2", "#D55E00"


def plot_evaluation(evaluation: Evaluation, cosine: Sequence[FrontierPoint], path: Path) -> None:
    """Writes the chart, as `save`. `cosine`: what a threshold on similarity would do with the same pairs."""
    save(lambda: _draw_evaluation(evaluation, cosine), path)


def _draw_evaluation(evaluation: Evaluation, cosine: Sequence[FrontierPoint]) -> Figure:
    figure = _figure(8.0, 6.0, f"{evaluation.pairs:,} pairs, {evaluation.same:,} of them ask the same")
    axes: Axes = figure.subplots()
    name, _, _ = evaluation.policy.partition(":")
    if name != "threshold":
        _line(axes, cosine, _COSINE, "similarity alone (cosine)")
    _line(axes, evaluation.frontier, _POLICY, name)
    if evaluation.precision is not None and evaluation.recall is not None:
        here = (evaluation.recall, evaluation.precision)
        axes.plot(*here, "o", color=_POLICY, markersize=9, label=evaluation.policy)
    axes.set_xlabel("recall: share of the pairs that ask the same that is served", color=_INK)
    axes.set_ylabel("precision: share of what is served that asks the same", color=_INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(top=1.01)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.legend(frameon=False, loc="lower left")
    _style(axes, grid="both")
    return figure


def _line(axes: Axes, points: Sequence[FrontierPoint], colour: str, label: str) -> None:
    known = [(p.recall, p.precision) for p in points if p.recall is not None and p.precision is not None]
    recalls, precisions = [recall for recall, _ in known], [precision for _, precision in known]
    axes.plot(recalls, precisions, color=colour, linewidth=1.8, label=label)


# A chart of a replay: what each policy served as its cache filled, and how much of that was wrong.

_POLICY_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_STYLES = ("-", "--", "-.", ":")


def plot_replay(played: Replay, path: Path) -> None:
    """Writes the chart, as `save`."""
    save(lambda: _draw_replay(played), path)


def _draw_replay(played: Replay) -> Figure:
    asked = [point.questions for point in played.points]
    figure = _figure(10.0, 7.0, f"{asked[-1]:,} questions through a cache that starts empty")
    served, wrong = figure.subplots(2, 1, sharex=True)
    for name, colour, style in zip(played.policies, _POLICY_COLOURS, _STYLES, strict=False):
        shares = [point.policies[name] for point in played.points]
        drawn = {"color": colour, "linestyle": style, "linewidth": 1.8, "clip_on": False, "zorder": 3}
        served.plot(asked, [share.hit_ratio for share in shares], label=name, **drawn)
        wrong.plot(asked, [share.wrong_hits for share in shares], **drawn)
    titles = {
        served: "answered from the cache, of all questions so far",
        wrong: "wrong hits so far: the answer to a question of another class",
    }
    for axes, title in titles.items():
        axes.set_title(title, loc="left", fontsize=11, color=_INK)
        axes.set_ylim(bottom=0)
        _style(axes)
    served.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    wrong.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    wrong.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    wrong.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    wrong.set_xlabel("questions asked", color=_INK)
    wrong.set_xlim(0, asked[-1])
    figure.legend(loc="outside lower right", ncols=len(_POLICY_COLOURS), frameon=False, fontsize=10)
    return figure


# A chart of a simulation: what the questions asked for, and how large the fleets were.

_FLEET_COLOURS = {POLICY: "#0072B2", CLAIRVOYANT: "#009E73", REQUEST_RATE: "#D55E00"}
_DEMAND = "#C4C4C4"

#: seconds and how many; demand is an average, of a minute or of as much as can be told apart on the chart
_MINUTE, _BINS = 60.0, 480

#: seconds: a unit of the time axis with its name, from how many seconds on, and between its lines
_UNITS = (
    (86_400.0, "days", 3 * 86_400.0, 1.0),
    (3600.0, "hours", 2 * 3600.0, 3.0),
    (60.0, "minutes", 0.0, 10.0),
)


def plot_simulation(report: SimulationReport, path: Path) -> None:
    """Writes the chart, as `save`."""
    save(lambda: _draw_simulation(report), path)


def _draw_simulation(report: SimulationReport) -> Figure:
    """One panel for each fleet, on the same axes: lines over each other cannot be told apart."""
    load = report.load
    asked = len(load) + load.hits
    hits = f", {load.hits / asked * 100:.0f} % answered by the cache" if load.hits else ""
    figure = _figure(10.0, 8.0, f"{asked:,} questions{hits}: demand and fleet")
    panels: list[Axes] = list(figure.subplots(len(_FLEET_COLOURS), 1, sharex=True, sharey=True))
    # The unit of time, and how many of it lie between two marks.
    unit, unit_name, _, every = next(row for row in _UNITS if load.span >= row[2])
    every *= max(1, round(load.span / unit / every / 8))
    for axes, (name, colour) in zip(panels, _FLEET_COLOURS.items(), strict=True):
        _draw_panel(axes, report, report.row(name), colour, unit)
    handles = [Patch(color=_DEMAND), Line2D([], [], color=_INK)]
    labels = ["workers that the questions keep busy", "workers paid for"]
    figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False, fontsize=10)
    last = panels[-1]
    last.set_xlabel(unit_name, color=_INK)
    last.set_xlim(0, load.span / unit)
    last.set_ylim(0)
    last.xaxis.set_major_locator(MultipleLocator(every))
    return figure


def _draw_panel(axes: Axes, report: SimulationReport, row: Row, colour: str, unit: float) -> None:
    load = report.load
    bins = max(1, min(_BINS, math.ceil(load.span / _MINUTE)))
    work, edges = np.histogram(load.times, bins, (0.0, load.span), weights=load.service)
    # How many workers the work needs that came in each bin.
    axes.stairs(work / np.diff(edges) / load.slots, edges / unit, fill=True, color=_DEMAND)
    times = np.append(row.played.steps, load.span) / unit
    sizes = np.append(row.played.sizes, row.played.sizes[-1])
    axes.step(times, sizes, where="post", color=colour, linewidth=1.4)
    in_time = math.floor(row.in_time * 1000) / 10  # nearly all is not all
    title = f"{row.name}: ${row.cost_usd:,.2f}, {in_time:.1f} % of answers begun within {IN_TIME:g} s"
    axes.set_title(title, loc="left", fontsize=11, color=colour)
    axes.set_ylabel("workers", color=_INK)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _style(axes)
