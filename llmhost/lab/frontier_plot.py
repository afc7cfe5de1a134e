"""A chart of precision against recall: a policy beside similarity alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from llmhost.lab.frontier import Point
from llmhost.lab.plots import save
from llmhost.lab.report import Evaluation

__all__ = ["plot"]

#: Okabe and Ito's colours, which people who see few colours can tell apart (https://jfly.uni-koeln.de/color/)
_POLICY, _COSINE = "#0072B2", "#D55E00"
_INK, _FAINT = "#222222", "#E6E6E6"

#: inches
_SIZE = (8.0, 6.0)


def plot(evaluation: Evaluation, cosine: Sequence[Point], path: Path) -> None:
    """Writes the chart to `path`; `cosine` is what a threshold on similarity would do with the same pairs.

    Raises:
        UsageError: the suffix is neither .svg nor .png, or the file cannot be written.
    """
    save(lambda: _draw(evaluation, cosine), path)


def _draw(evaluation: Evaluation, cosine: Sequence[Point]) -> Figure:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes: Axes = figure.subplots()
    name, _, _ = evaluation.policy.partition(":")
    if name != "threshold":
        _line(axes, cosine, _COSINE, "similarity alone (cosine)")
    _line(axes, evaluation.frontier, _POLICY, name)
    if evaluation.precision is not None and evaluation.recall is not None:
        here = (evaluation.recall, evaluation.precision)
        axes.plot(*here, "o", color=_POLICY, markersize=9, label=evaluation.policy)
    _dress(axes)
    title = f"{evaluation.pairs:,} pairs, {evaluation.same:,} of them ask the same"
    figure.suptitle(title, fontsize=13, color=_INK, x=0.01, ha="left", fontweight="bold")
    return figure


def _line(axes: Axes, points: Sequence[Point], colour: str, label: str) -> None:
    known = [(p.recall, p.precision) for p in points if p.recall is not None and p.precision is not None]
    axes.plot(
        [recall for recall, _ in known],
        [precision for _, precision in known],
        color=colour,
        linewidth=1.8,
        label=label,
    )


def _dress(axes: Axes) -> None:
    axes.set_xlabel("recall: share of the pairs that ask the same that is served", color=_INK)
    axes.set_ylabel("precision: share of what is served that asks the same", color=_INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(top=1.01)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.grid(color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)
    axes.legend(frameon=False, loc="lower left")
