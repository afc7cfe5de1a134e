"""Which bar to set, as `cache tune` shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.cli.evaluation_view import interval_words, share_words
from llmhost.cli.output import table

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.config.models import Config
    from llmhost.lab.frontier import Frontier
    from llmhost.lab.lines import BrokenLine
    from llmhost.lab.tune import Row, Tuning, Wanted

__all__ = ["TuningOutput", "show_tuning", "tuning_output"]


@dataclass(frozen=True, slots=True)
class TuningOutput:
    """`present` is the configured bar, `suggested` the one for what is `wanted`, None where none does it.
    `supported`: the pairs are enough to claim that it does.
    """

    pairs: int
    same: int
    different: int
    skipped_lines: int
    policy: str
    present: float
    wanted: Wanted
    suggested: Row | None
    supported: bool
    rows: Sequence[Row]
    warnings: Sequence[str]


def tuning_output(
    curve: Frontier, tuning: Tuning, wanted: Wanted, config: Config, broken: Sequence[BrokenLine]
) -> TuningOutput:
    return TuningOutput(
        pairs=curve.same + curve.different,
        same=curve.same,
        different=curve.different,
        skipped_lines=len(broken),
        policy=config.cache.policy,
        present=config.cache.confidence,
        wanted=wanted,
        suggested=tuning.suggested,
        supported=tuning.supported,
        rows=tuning.rows,
        warnings=_warnings(tuning, wanted, curve),
    )


def show_tuning(output: TuningOutput, console: Console) -> None:
    """The table of bars, then what to write."""
    console.print(f"verified on {output.pairs:,} pairs, {output.same:,} of which ask the same")
    console.print()
    _show_rows(output, console)
    console.print()
    if output.suggested is None:
        console.print(f"No bar does it: {_in_words(output.wanted)}.")
        return
    doubt = "" if output.supported else ", if so few pairs can be believed"
    console.print(f"The lowest bar with {_in_words(output.wanted)}{doubt}; in the configuration:")
    console.print()
    console.print("cache:")
    if output.policy != "verified":
        console.print("  policy: verified")
    console.print(f"  confidence: {output.suggested.confidence:g}")


def _show_rows(output: TuningOutput, console: Console) -> None:
    numbers = ("bar", "hits", "recall", "wrong", "of served", "95 % interval", "of others")
    grid = table(*numbers, "", right=numbers)
    bars = {"present": output.present if output.policy == "verified" else None}
    bars["suggested"] = output.suggested.confidence if output.suggested else None
    for row in output.rows:
        marks = [word for word, bar in bars.items() if bar == row.confidence]
        if not (row.hits or row.wrong or marks):
            continue
        grid.add_row(
            f"{row.confidence:g}",
            f"{row.hits:,}",
            share_words(row.recall),
            f"{row.wrong:,}",
            share_words(row.error),
            interval_words(row.error_interval),
            share_words(row.false_accept_rate),
            ", ".join(marks),
            style="bold" if "suggested" in marks else None,
        )
    console.print(grid)
    console.print(
        "of served: the share of what is served that is wrong. of others: the share of the pairs that ask"
        " something else that is served. A guard that doubts asks for more than the bar.",
        style="dim",
    )


def _in_words(wanted: Wanted) -> str:
    words = []
    if wanted.error is not None:
        words.append(f"at most {wanted.error * 100:g} % of what is served wrong")
    if wanted.false_accept is not None:
        words.append(f"at most {wanted.false_accept * 100:g} % of what asks something else served")
    return " and ".join(words)


def _warnings(tuning: Tuning, wanted: Wanted, curve: Frontier) -> list[str]:
    if not curve.same or not curve.different:
        missing = "different" if curve.same else "the same"
        return [f"no pair of the file is labelled {missing}: this says little about real questions"]
    if tuning.suggested is None or tuning.supported:
        return []
    row, limited = tuning.suggested, wanted.error is not None
    known = row.error_interval if limited else row.false_accept_interval
    most = share_words(known.high if known else None)
    may = f"{most} of what is served may be wrong" if limited else f"{most} of the others may be served"
    least = f"; no fewer than {tuning.enough:,} without a mistake could show it" if tuning.enough else ""
    return [f"too few pairs to be sure: up to {may} in truth{least}"]
