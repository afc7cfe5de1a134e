"""`llmhost cache tune`: which threshold to set, and what each costs in hits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from llmhost.cli.commands.cache_eval import interval_words, pairs_in, run_pairs, share_words
from llmhost.cli.commands.cache_tune_judge import judge_pairs
from llmhost.cli.commands.cache_tune_show import reset, show
from llmhost.cli.frame import App, Group, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import configured, run_async, wired
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cli.frame import Globals
    from llmhost.config.models import Config
    from llmhost.lab.evaluate import Frontier
    from llmhost.lab.tune import ErrorLimits, Tuning

__all__ = ["app"]


class _Tune(Group):
    renamed: ClassVar[Mapping[str, str]] = {"--show": "show", "--reset": "reset", "--judge": "judge"}


app = App("Find the threshold for the error that you accept, and see what each costs in hits.", _Tune)
app.command("show")(show)
app.command("reset")(reset)
app.command("judge")(judge_pairs)


_MaxError = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=0.5,
        metavar="SHARE",
        help="Share of what is served that may be wrong; else `cache.max_error`.",
    ),
]
_MaxFalseAccept = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=0.5,
        metavar="SHARE",
        help="Share of the pairs that ask something else that may be served.",
    ),
]


@app.default()
def tune_cache(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help='JSON lines {"a", "b", "same"[, "kind"]}; or .gz.')
    ] = None,
    max_error: _MaxError = None,
    max_false_accept: _MaxFalseAccept = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Take N pairs at random, always the same ones.")
    ] = None,
) -> None:
    """Find the threshold for the error that you accept, and see what each costs in hits.

    The pairs are judged by the code that serves; see `llmhost cache eval`. How much of what is served is
    wrong depends on how many pairs of the file ask the same: take pairs as your users ask them. The
    configuration is not changed: the command says which line to write into it.

    Examples:
      llmhost cache tune pairs.jsonl --max-error 0.01
      llmhost cache tune judge pairs.jsonl --limit 100
      llmhost cache tune show
      llmhost cache tune reset --yes
    """
    options = globals_of(ctx)
    if file is None:
        raise UsageError(
            "no pairs to tune with", hint="name a file of pairs, or see `llmhost cache tune --help`"
        )
    from llmhost.lab.tune import ErrorLimits

    config = configured(options)
    if max_error is None and max_false_accept is None:
        max_error = config.cache.max_error
    run_async(_suggest(options, config, file, ErrorLimits(max_error, max_false_accept), limit))


async def _suggest(
    options: Globals, config: Config, file: Path, limits: ErrorLimits, limit: int | None
) -> None:
    """With the verified policy, whatever the configured one is, and without what labels have taught."""
    from llmhost.lab.evaluate import frontier
    from llmhost.lab.pairs import sample
    from llmhost.lab.tune import tune

    pairs = pairs_in(options, file)
    cache = config.cache.model_copy(update={"policy": "verified"})
    async with wired(options, config.model_copy(update={"cache": cache})) as wiring:
        embedder, policy = await wiring.caches.embedder(), await wiring.caches.policy()
        curve = frontier(await run_pairs(options, sample(pairs.rows, limit), embedder, policy))
    tuning = tune(curve, limits, config.cache.confidence)
    warnings = _warnings(tuning, limits, curve)
    for warning in warnings:
        options.output.warn(warning)
    document = {
        "pairs": curve.same + curve.different,
        "same": curve.same,
        "different": curve.different,
        "skipped_lines": len(pairs.broken),
        "policy": config.cache.policy,
        "present": config.cache.confidence,
        "wanted": limits,
        "suggested": tuning.suggested,
        "supported": tuning.supported,
        "rows": tuning.rows,
        "warnings": warnings,
    }
    summary = f"verified on {document['pairs']:,} pairs, {curve.same:,} of which ask the same\n"

    def show_tuning(shown: Tuning, console: Console) -> None:
        console.print(summary)
        _show_rows(shown, config, console)
        _show_suggestion(shown, limits, config, console)

    options.output.result(tuning, show_tuning, document)


def _warnings(tuning: Tuning, limits: ErrorLimits, curve: Frontier) -> list[str]:
    if not curve.same or not curve.different:
        missing = "different" if curve.same else "the same"
        return [f"no pair of the file is labelled {missing}: this says little about real questions"]
    if tuning.suggested is None or tuning.supported:
        return []
    row, by_error = tuning.suggested, limits.error is not None
    interval = row.error_interval if by_error else row.false_accept_interval
    most = share_words(interval.high if interval else None)
    may = f"{most} of what is served may be wrong" if by_error else f"{most} of the others may be served"
    least = f"; at least {tuning.enough:,} without a mistake could show it" if tuning.enough else ""
    return [f"too few pairs to be sure: up to {may} in truth{least}"]


def _show_suggestion(tuning: Tuning, limits: ErrorLimits, config: Config, console: Console) -> None:
    console.print()
    if tuning.suggested is None:
        console.print(f"No threshold achieves this: {_in_words(limits)}.")
        return
    doubt = "" if tuning.supported else ", as far as so few pairs can show"
    console.print(f"The lowest threshold with {_in_words(limits)}{doubt}; in the configuration:")
    console.print()
    console.print("cache:")
    if config.cache.policy != "verified":
        console.print("  policy: verified")
    console.print(f"  confidence: {tuning.suggested.confidence:g}")


def _show_rows(tuning: Tuning, config: Config, console: Console) -> None:
    numbers = ("threshold", "hits", "recall", "wrong", "of served", "95 % interval", "of others")
    grid = table(*numbers, "", right=numbers)
    marked = {"present": config.cache.confidence if config.cache.policy == "verified" else None}
    marked["suggested"] = tuning.suggested.confidence if tuning.suggested else None
    for row in tuning.rows:
        marks = [mark for mark, confidence in marked.items() if confidence == row.confidence]
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
        " something else that is served. Where a guard doubts, more than the threshold is required.",
        style="dim",
    )


def _in_words(limits: ErrorLimits) -> str:
    words = []
    if limits.error is not None:
        words.append(f"at most {limits.error * 100:g} % of what is served wrong")
    if limits.false_accept is not None:
        words.append(f"at most {limits.false_accept * 100:g} % of what asks something else served")
    return " and ".join(words)
