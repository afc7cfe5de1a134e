"""`llmhost cache eval`: how often the cache is right, on pairs whose answer is known."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import configured, run_async, wired
from llmhost.cli.text import clean, counted, milliseconds, shortened
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cache.calibration import Calibration
    from llmhost.cache.contracts import Embedder
    from llmhost.cache.policy import CachePolicy
    from llmhost.config.models import Config
    from llmhost.lab.evaluate import Evaluation, Interval, PairOutcome
    from llmhost.lab.pairs import Lines, Pair

__all__ = ["PairsFile", "eval_pairs", "interval_words", "pairs_in", "run_pairs", "share_words"]


#: pairs; they take well under a second, and Ctrl-C takes effect between two such steps
_STEP = 16

PairsFile = Annotated[
    Path, typer.Argument(metavar="FILE", help='JSON lines {"a", "b", "same"[, "kind"]}; or .gz.')
]


def pairs_in(options: Globals, file: Path) -> Lines[Pair]:
    """The file's pairs; warns of broken lines. Raises UsageError."""
    from llmhost.lab.pairs import read_pairs, skipped_words

    known = read_pairs(file)
    if known.broken:
        options.output.warn(skipped_words(file, known.broken))
    return known


def eval_pairs(
    ctx: typer.Context,
    file: PairsFile,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY", help="verified[:CONFIDENCE] or threshold[:COSINE]; else as configured."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Take N pairs at random, always the same ones.")
    ] = None,
    show: Annotated[
        int, typer.Option(min=0, metavar="N", help="Show N pairs that were decided otherwise than labelled.")
    ] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="OUT.svg", help="Draw precision against recall, beside cosine; .svg or .png."),
    ] = None,
    learned: Annotated[
        bool, typer.Option("--learned", help="With what the fleet's labels have taught; reads Redis.")
    ] = False,
) -> None:
    """Measure how often the cache is right, on pairs of questions whose answer is known.

    For each pair, the answer to `b` is stored and `a` is asked, by the code that serves. `same` 1 says
    that the one answer is right for both. No engine and no judge is asked, and the real cache is not touched.
    What the fleet's labels have taught is left out, so that the figures are reproducible; --learned includes
    it.

    Examples:
      llmhost cache eval pairs.jsonl
      llmhost cache eval pairs.jsonl --policy threshold:0.8 --json
      llmhost cache eval pairs.jsonl.gz --limit 2000 --show 20 --plot frontier.svg
    """
    from llmhost.lab.evaluate import assess, cosine_frontier
    from llmhost.lab.pairs import sample

    options = globals_of(ctx)
    if plot is not None:
        from llmhost.lab.plots import check_drawable, plot_evaluation

        check_drawable(plot)
    chosen, _, threshold = (policy or "").partition(":")
    key = "cache.threshold" if chosen == "threshold" else "cache.confidence"
    config = configured(options, {"cache.policy": chosen or None, key: threshold or None})
    cache = config.cache
    name = f"{cache.policy}:{cache.confidence if cache.policy == 'verified' else cache.threshold:g}"
    if learned and cache.policy != "verified":
        raise UsageError("--learned goes with the policy verified", hint="leave one of them out")
    known = pairs_in(options, file)
    calibration, outcomes = run_async(_run(options, config, sample(known.rows, limit), learned))
    evaluation = assess(name, outcomes, calibration=calibration, skipped_lines=len(known.broken), show=show)
    if plot is not None:
        plot_evaluation(evaluation, cosine_frontier(outcomes).points(), plot)
    options.output.result(evaluation, _show)


async def _run(
    options: Globals, config: Config, pairs: Sequence[Pair], learned: bool
) -> tuple[Calibration, list[PairOutcome]]:
    from llmhost.cache.calibration import UNCALIBRATED

    async with wired(options, config) as wiring:
        labels = wiring.caches.labels(await wiring.redis()) if learned else None
        calibration = await labels.calibration() if labels else UNCALIBRATED
        embedder, policy = await wiring.caches.embedder(), await wiring.caches.policy()
        return calibration, await run_pairs(options, pairs, embedder, policy, calibration)


async def run_pairs(
    options: Globals,
    pairs: Sequence[Pair],
    embedder: Embedder,
    policy: CachePolicy,
    calibration: Calibration | None = None,
) -> list[PairOutcome]:
    """The cache's decision on each pair. One thread does it: the models use all cores by themselves.

    Raises ModelError.
    """
    from llmhost.cache.calibration import UNCALIBRATED
    from llmhost.lab.evaluate import evaluate

    outcomes = evaluate(pairs, embedder, policy, calibration or UNCALIBRATED)
    done: list[PairOutcome] = []
    with options.output.progress() as progress:
        progress.update("pairs", "judging", 0.0)
        while step := await asyncio.to_thread(lambda: list(islice(outcomes, _STEP))):
            done += step
            progress.update("pairs", "judging", len(done) / len(pairs))
        progress.done("pairs", f"judged {len(done):,}")
    return done


# What `cache eval` shows.

#: kinds; a file with more has called something else a kind
_MOST_KINDS = 30

#: characters of a question that are shown
_LONGEST = 300


def _show(evaluation: Evaluation, console: Console) -> None:
    """Figures first, then where they come from, then single pairs."""
    console.print(f"{evaluation.policy} on {counted(evaluation.pairs, 'pair')}")
    console.print()
    grid = table("pairs that ask", "", "accepted", "share", right=("", "accepted", "share"))
    recall, wrong = share_words(evaluation.recall), share_words(evaluation.false_accept_rate)
    grid.add_row("the same", f"{evaluation.same:,}", f"{evaluation.accepted_same:,}", recall)
    grid.add_row("something else", f"{evaluation.different:,}", f"{evaluation.accepted_different:,}", wrong)
    console.print(grid)
    console.print()
    for line in _summary(evaluation):
        console.print(line)
    _show_kinds(evaluation, console)
    _show_guards(evaluation, console)
    _show_reliability(evaluation, console)
    best = evaluation.best_recall_at_precision
    grid = table("with the best threshold", *best, right=tuple(best))
    grid.add_row("recall at this precision", *(share_words(recall) for recall in best.values()))
    console.print()
    console.print(grid)
    _show_disagreements(evaluation, console)


def share_words(share: float | None) -> str:
    """``93.2 %``; ``-`` where there is nothing to divide by."""
    return "-" if share is None else f"{share * 100:.1f} %"


def interval_words(interval: Interval | None) -> str:
    """``81.3 to 98.6 %``"""
    return "-" if interval is None else f"{interval.low * 100:.1f} to {interval.high * 100:.1f} %"


def _summary(evaluation: Evaluation) -> list[str]:
    lines = ["Nothing was accepted."]
    if evaluation.precision is not None:
        figures = (
            f"{share_words(evaluation.precision)} (95 %: {interval_words(evaluation.precision_interval)})"
        )
        lines = [f"Precision {figures}: the share of what is accepted that asks the same."]
    taken = evaluation.latency_ms
    if taken.p50 is not None and taken.p99 is not None:
        times = f"{milliseconds(taken.p50)} (p99 {milliseconds(taken.p99)})"
        lines.append(f"One decision takes {times}, embedding included.")
    if evaluation.exact:
        lines.append(
            f"{counted(evaluation.exact, 'pair')} with the same wording: an exact hit, whatever the policy."
        )
    if evaluation.unread:
        lines.append(f"{counted(evaluation.unread, 'pair')} that the embedding model cannot read: a miss.")
    to_judge = evaluation.left_to_judge.same + evaluation.left_to_judge.different
    if to_judge:
        lines.append(f"{counted(to_judge, 'pair')} for the judge, which is not asked here: not accepted.")
    return lines


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
        grid.add_row(shortened(clean(kind), _LONGEST), f"{counts.pairs:,}", same, other, share_words(share))
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
    numbers = ("pairs", "predicted", "true")
    grid = table("confidence", *numbers, right=numbers)
    for band in evaluation.reliability:
        predicted, true = share_words(band.mean_confidence), share_words(band.same_share)
        grid.add_row(f"{band.low:.2f} to {band.high:.2f}", f"{band.pairs:,}", predicted, true)
    console.print()
    console.print(grid)
    console.print("predicted: the mean confidence. true: the share that asks the same.", style="dim")


def _show_disagreements(evaluation: Evaluation, console: Console) -> None:
    for pair in evaluation.disagreements:
        labelled = (
            "accepted, but labelled different" if pair.accepted else "not accepted, but labelled the same"
        )
        kind = f" ({shortened(clean(pair.kind), _LONGEST)})" if pair.kind else ""
        similarity = "" if pair.similarity is None else f"; similarity {pair.similarity:.3f}"
        console.print()
        console.print(f"{labelled}{kind}{similarity}", style="bold")
        console.print(f"  asked   {shortened(clean(pair.a), _LONGEST)}")
        console.print(f"  stored  {shortened(clean(pair.b), _LONGEST)}")
        console.print(f"  {shortened(clean(pair.why), _LONGEST)}", style="dim")
