"""A chart of a replay: what each policy served as its cache filled, and how much of that was wrong."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from llmhost.lab.plots import save
from llmhost.lab.replay import Replay

__all__ = ["plot"]

#: Okabe and Ito's colours, which people who see few colours can tell apart (https://jfly.uni-koeln.de/color/)
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_STYLES = ("-", "--", "-.", ":")
_INK, _FAINT = "#222222", "#E6E6E6"

#: inches
_SIZE = (10.0, 7.0)


def plot(played: Replay, path: Path) -> None:
    """Writes the chart to `path`, an SVG or a PNG as its suffix says, whole or not at all.

    Raises:
        UsageError: the suffix is another, or the file cannot be written.
    """
    save(lambda: _draw(played), path)


def _draw(played: Replay) -> Figure:
    figure = Figure(figsize=_SIZE, layout="constrained")
    served, wrong = figure.subplots(2, 1, sharex=True)
    asked = [point.questions for point in played.points]
    for name, colour, style in zip(played.policies, _COLOURS, _STYLES, strict=False):
        shares = [point.policies[name] for point in played.points]
        drawn = {"color": colour, "linestyle": style, "linewidth": 1.8, "clip_on": False, "zorder": 3}
        served.plot(asked, [share.hit_ratio for share in shares], label=name, **drawn)
        wrong.plot(asked, [share.wrong_hits for share in shares], **drawn)
    _dress(served, "answered from the cache, of all questions so far")
    served.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _dress(wrong, "wrong hits so far: the answer to a question of another class")
    wrong.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    wrong.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    wrong.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    wrong.set_xlabel("questions asked", color=_INK)
    wrong.set_xlim(0, asked[-1])
    figure.legend(loc="outside lower right", ncols=len(_COLOURS), frameon=False, fontsize=10)
    title = f"{asked[-1]:,} questions through a cache that starts empty"
    figure.suptitle(title, fontsize=13, color=_INK, x=0.01, ha="left", fontweight="bold")
    return figure


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK)
