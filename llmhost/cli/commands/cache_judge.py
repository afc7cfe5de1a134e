"""`llmhost cache tune FILE --judge`: may the fleet's own model judge?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.cli.commands.cache_eval import pairs_in
from llmhost.cli.frame import Globals
from llmhost.cli.running import wired
from llmhost.cli.text import clean, milliseconds, percent
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.config.models import Config
    from llmhost.lab.pairs import Pair
    from llmhost.trust.judge import JudgeEvaluation

__all__ = ["measure_judge"]


@dataclass(frozen=True, slots=True)
class JudgeLatency:
    """Milliseconds of one word."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class JudgeOutput:
    """`yes` counts its words of yes, `precision` the share of them that was right, `low` the lower end of its
    95 % interval; None where it never said yes. `silent` is the share of pairs without a word. `verdict` is
    for people.
    """

    model: str
    pairs: int
    skipped: int
    yes: int
    precision: float | None
    low: float | None
    recall: float | None
    silent: float
    latency_ms: JudgeLatency
    good_enough: bool
    verdict: str


async def measure_judge(options: Globals, config: Config, file: Path, limit: int | None = None) -> None:
    """Asks the judge about at most `limit` pairs of the file, prints how well it did, and remembers it.

    Raises:
        UsageError: the file cannot be read, or has too few pairs.
        LlmhostError: there is no worker to ask, or Redis is away.
    """
    from llmhost.lab.evaluate import balanced, measured
    from llmhost.trust.judge import MEASURED_PAIRS

    read = pairs_in(options, file)
    pairs = _enough(balanced(read.rows, MEASURED_PAIRS if limit is None else limit), file)
    options.output.note(f"asking {config.engine.model} about {len(pairs):,} pairs")
    async with wired(options, config) as wiring:
        judge, book = await wiring.llm_judge(), await wiring.judge_evaluations()
        evaluation = await measured(judge.compare, config.engine.model, pairs, wiring.now())
        await book.write(evaluation)
    options.output.result(_output(evaluation, len(read.broken), config), _show)


def _enough(pairs: Sequence[Pair], file: Path) -> Sequence[Pair]:
    if not pairs:
        raise UsageError(
            f"{file.name} does not have pairs of both kinds",
            hint='some with "same": 1, others with "same": 0',
        )
    return pairs


def _output(evaluation: JudgeEvaluation, skipped: int, config: Config) -> JudgeOutput:
    fault = evaluation.disqualification(config.cache.judge_timeout)
    return JudgeOutput(
        model=evaluation.model,
        pairs=evaluation.pairs,
        skipped=skipped,
        yes=evaluation.yes,
        precision=evaluation.precision,
        low=evaluation.low,
        recall=evaluation.recall,
        silent=evaluation.silent,
        latency_ms=JudgeLatency(evaluation.p50_ms, evaluation.p95_ms),
        good_enough=fault is None,
        verdict=_verdict(fault, config.cache.judge),
    )


def _verdict(fault: str | None, on: bool) -> str:
    if fault is not None:
        return f"not good enough to judge: {fault}" + ("; the judge stays off" if on else "")
    return "good enough to judge" + ("" if on else ": `cache.judge: true` switches it on")


def _show(output: JudgeOutput, console: Console) -> None:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    low = "" if output.low is None else f", at least {percent(output.low)} with 95 % certainty"
    grid.add_row("model", clean(output.model))
    grid.add_row("pairs", f"{output.pairs:,}, half of them ask the same")
    grid.add_row("yes was right", _share(output.precision) + low)
    grid.add_row("yes where it is", _share(output.recall))
    grid.add_row("no word", percent(output.silent))
    took = output.latency_ms
    grid.add_row("one word takes", f"{milliseconds(took.p50)}, p95 {milliseconds(took.p95)}")
    console.print(grid)
    console.print()
    console.print(clean(output.verdict))


def _share(share: float | None) -> str:
    return "it never said yes" if share is None else percent(share)
