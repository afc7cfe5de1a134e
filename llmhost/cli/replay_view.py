"""What a stream of questions would have been served, as `cache replay` shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.cli.output import table
from llmhost.cli.text import percent

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.lab.replay import PlayedPolicy, Point

__all__ = ["ReplayOutput", "show_replay"]


@dataclass(frozen=True, slots=True)
class ReplayOutput:
    """`broken` lines of the file were left out. `threshold` is a cosine; `max_error` the share of all
    questions that the learned policy was allowed to answer wrongly, 0..1.
    """

    questions: int
    broken: int
    threshold: float
    max_error: float
    policies: Mapping[str, PlayedPolicy]
    points: Sequence[Point]


def show_replay(played: ReplayOutput, console: Console) -> None:
    numbers = ("hit ratio", "exact", "semantic", "wrong", "of hits", "explored")
    grid = table("policy", *numbers, right=numbers)
    for name, row in played.policies.items():
        counts = (f"{row.exact_hits:,}", f"{row.semantic_hits:,}", f"{row.wrong_hits:,}")
        wrong = "-" if row.wrong_share_of_hits is None else percent(row.wrong_share_of_hits)
        grid.add_row(name, percent(row.hit_ratio), *counts, wrong, f"{row.explored:,}")
    console.print(grid)
    console.print()
    console.print(" ".join(_in_words(name, row) for name, row in played.policies.items()))
    console.print(
        "wrong: served the answer to a question of another class."
        f" threshold: cosine {played.threshold:g} and nothing else."
        " learned: every entry learns its own threshold, as in vCache's paper, so that at most"
        f" {percent(played.max_error)} of all questions are answered wrongly; to learn it explores: asks an"
        " engine although something like it is stored.",
        style="dim",
    )


def _in_words(name: str, row: PlayedPolicy) -> str:
    hits = row.exact_hits + row.semantic_hits
    if not hits:
        return f"{name}: nothing was served."
    if not row.wrong_hits:
        return f"{name}: {hits:,} of {row.questions:,} served, none wrong."
    one_in = f"1 hit in {hits / row.wrong_hits:,.0f}"
    return f"{name}: {hits:,} of {row.questions:,} served, {row.wrong_hits:,} wrong, {one_in}."
