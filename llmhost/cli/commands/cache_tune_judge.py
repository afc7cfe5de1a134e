"""`llmhost cache tune judge`: is the fleet's own model good enough to judge?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.commands.cache_eval import PairsFile, pairs_in
from llmhost.cli.frame import globals_of
from llmhost.cli.running import configured, run_async, wired
from llmhost.cli.text import clean, milliseconds, percent
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cli.frame import Globals
    from llmhost.config.models import Config
    from llmhost.trust.judge import JudgeEvaluation

__all__ = ["judge_pairs", "measure_judge"]


def judge_pairs(
    ctx: typer.Context,
    file: PairsFile,
    limit: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Ask about N pairs, always the same ones.")
    ] = None,
) -> None:
    """Measure whether the fleet's own model can judge, by asking it about pairs whose answer is known.

    Half of the pairs that are asked about ask the same. The result is remembered: the judge answers only
    where its model was found good enough.

    Examples:
      llmhost cache tune judge pairs.jsonl
      llmhost cache tune judge pairs.jsonl --limit 100
    """
    options = globals_of(ctx)
    run_async(measure_judge(options, configured(options), file, limit))


async def measure_judge(options: Globals, config: Config, file: Path, limit: int | None = None) -> None:
    """Asks the judge about at most `limit` pairs of the file, prints how well it did, and remembers it.

    Raises:
        UsageError: the file cannot be read, or has too few pairs.
        LlmhostError: there is no worker to ask, or Redis is away.
    """
    from llmhost.lab.evaluate import balanced, measured
    from llmhost.trust.judge import MEASURED_PAIRS

    known = pairs_in(options, file)
    pairs = balanced(known.rows, MEASURED_PAIRS if limit is None else limit)
    if not pairs:
        raise UsageError(
            f"{file.name} does not have pairs of both kinds",
            hint='some with "same": 1, others with "same": 0',
        )
    options.output.note(f"asking {config.engine.model} about {len(pairs):,} pairs")
    async with wired(options, config) as wiring:
        judge, store = await wiring.llm_judge(), await wiring.judge_evaluations()
        evaluation = await measured(judge.compare, config.engine.model, pairs, wiring.now())
        await store.write(evaluation)
    fault, on = evaluation.disqualification(config.cache.judge_timeout), config.cache.judge
    if fault is None:
        verdict = "good enough to judge" + ("" if on else ": `cache.judge: true` switches it on")
    else:
        verdict = f"not good enough to judge: {fault}" + ("; the judge stays off" if on else "")
    document = {
        "model": evaluation.model,
        "pairs": evaluation.pairs,
        "skipped": len(known.broken),
        "yes": evaluation.yes,
        "precision": evaluation.precision,
        "low": evaluation.low,
        "recall": evaluation.recall,
        "silent": evaluation.silent,
        "latency_ms": {"p50": evaluation.p50_ms, "p95": evaluation.p95_ms},
        "good_enough": fault is None,
        "verdict": verdict,
    }
    options.output.result(evaluation, partial(_show, verdict=verdict), document)


def _show(output: JudgeEvaluation, console: Console, verdict: str) -> None:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    low = "" if output.low is None else f", at least {percent(output.low)} with 95 % certainty"
    grid.add_row("model", clean(output.model))
    grid.add_row("pairs", f"{output.pairs:,}, half of them ask the same")
    grid.add_row("yes was right", _share(output.precision) + low)
    grid.add_row("yes where it is", _share(output.recall))
    grid.add_row("no answer", percent(output.silent))
    took = f"{milliseconds(output.p50_ms)}, p95 {milliseconds(output.p95_ms)}"
    grid.add_row("one judgement takes", took)
    console.print(grid)
    console.print()
    console.print(clean(verdict))


def _share(share: float | None) -> str:
    return "it never answered yes" if share is None else percent(share)
