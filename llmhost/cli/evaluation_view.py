"""How good a policy is, as `cache eval` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmhost.cli.output import table
from llmhost.cli.text import clean, milliseconds

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.lab.report import Disagreement, Evaluation, Interval

__all__ = ["interval_words", "share_words", "show_evaluation"]

#: kinds; a file with more has called something else a kind
_MOST_KINDS = 30

#: characters of a question that are shown
_LONGEST = 300


def show_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Figures first, then where they come from, then single pairs."""
    console.print(f"{evaluation.policy} on {_pairs(evaluation.pairs)}")
    console.print()
    _show_accepted(evaluation, console)
    console.print()
    for line in _summary(evaluation):
        console.print(line)
    for show in (_show_kinds, _show_guards, _show_reliability, _show_best, _show_disagreements):
        show(evaluation, console)


def share_words(share: float | None) -> str:
    """``93.2 %``; ``-`` where there is nothing to divide by."""
    return "-" if share is None else f"{share * 100:.1f} %"


def interval_words(interval: Interval | None) -> str:
    """``81.3 to 98.6 %``"""
    return "-" if interval is None else f"{interval.low * 100:.1f} to {interval.high * 100:.1f} %"


def _show_accepted(evaluation: Evaluation, console: Console) -> None:
    grid = table("pairs that ask", "", "accepted", "share", right=("", "accepted", "share"))
    recall, wrong = share_words(evaluation.recall), share_words(evaluation.false_accept_rate)
    grid.add_row("the same", f"{evaluation.same:,}", f"{evaluation.accepted_same:,}", recall)
    grid.add_row("something else", f"{evaluation.different:,}", f"{evaluation.accepted_different:,}", wrong)
    console.print(grid)


def _summary(evaluation: Evaluation) -> list[str]:
    lines = [_precision(evaluation)]
    taken = evaluation.latency_ms
    if taken.p50 is not None and taken.p99 is not None:
        times = f"{milliseconds(taken.p50)} (p99 {milliseconds(taken.p99)})"
        lines.append(f"One decision takes {times}, embedding included.")
    if evaluation.exact:
        lines.append(f"{_pairs(evaluation.exact)} with the same wording: an exact hit, whatever the policy.")
    if evaluation.unread:
        lines.append(f"{_pairs(evaluation.unread)} that the embedding model cannot read: a miss.")
    left = evaluation.left_to_judge.same + evaluation.left_to_judge.different
    if left:
        lines.append(f"{_pairs(left)} for the judge, who is not asked here: not accepted.")
    return lines


def _precision(evaluation: Evaluation) -> str:
    if evaluation.precision is None:
        return "Nothing was accepted."
    figures = f"{share_words(evaluation.precision)} (95 %: {interval_words(evaluation.precision_interval)})"
    return f"Precision {figures}: the share of what is accepted that asks the same."


def _pairs(count: int) -> str:
    return f"{count:,} pair{'' if count == 1 else 's'}"


def _show_kinds(evaluation: Evaluation, console: Console) -> None:
    if not evaluation.by_kind:
        return
    numbers = ("pairs", "same accepted", "others accepted", "share of others")
    grid = table("kind", *numbers, right=numbers)
    largest = sorted(evaluation.by_kind.items(), key=lambda item: (-item[1].pairs, item[0]))
    for kind, counts in largest[:_MOST_KINDS]:
        share = counts.accepted_different / counts.different if counts.different else None
        same = f"{counts.accepted_same:,} of {counts.same:,}" if counts.same else "-"
        other = f"{counts.accepted_different:,} of {counts.different:,}" if counts.different else "-"
        grid.add_row(_line(kind), f"{counts.pairs:,}", same, other, share_words(share))
    console.print()
    console.print(grid)
    if len(largest) > _MOST_KINDS:
        console.print(f"{_MOST_KINDS} of {len(largest):,} kinds; --json has all.", style="dim")


def _show_guards(evaluation: Evaluation, console: Console) -> None:
    if not evaluation.by_guard:
        return
    numbers = ("refused: same", "others", "doubted: same", "others ")
    grid = table("guard", *numbers, right=numbers)
    for guard, counts in evaluation.by_guard.items():
        refused = (f"{counts.refused_same:,}", f"{counts.refused_different:,}")
        grid.add_row(guard, *refused, f"{counts.doubted_same:,}", f"{counts.doubted_different:,}")
    console.print()
    console.print(grid)
    console.print("A pair is counted under each guard that objects to it.", style="dim")


def _show_reliability(evaluation: Evaluation, console: Console) -> None:
    if not evaluation.reliability:
        return
    numbers = ("pairs", "said", "true")
    grid = table("confidence", *numbers, right=numbers)
    for band in evaluation.reliability:
        said, true = share_words(band.mean_confidence), share_words(band.same_share)
        grid.add_row(f"{band.low:.2f} to {band.high:.2f}", f"{band.pairs:,}", said, true)
    console.print()
    console.print(grid)
    console.print("said: its confidence on average. true: the share that asks the same.", style="dim")


def _show_best(evaluation: Evaluation, console: Console) -> None:
    best = evaluation.best_recall_at_precision
    grid = table("with the best bar", *best, right=tuple(best))
    grid.add_row("recall at this precision", *(share_words(recall) for recall in best.values()))
    console.print()
    console.print(grid)


def _show_disagreements(evaluation: Evaluation, console: Console) -> None:
    for pair in evaluation.disagreements:
        console.print()
        console.print(_verdict(pair), style="bold")
        console.print(f"  asked   {_line(pair.a)}")
        console.print(f"  stored  {_line(pair.b)}")
        console.print(f"  {_line(pair.why)}", style="dim")


def _verdict(pair: Disagreement) -> str:
    words = "accepted, but labelled different" if pair.accepted else "not accepted, but labelled the same"
    similarity = "" if pair.similarity is None else f"; cosine {pair.similarity:.3f}"
    return words + (f" ({_line(pair.kind)})" if pair.kind else "") + similarity


def _line(text: str) -> str:
    line = " ".join(clean(text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
