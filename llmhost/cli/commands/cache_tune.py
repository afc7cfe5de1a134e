"""`llmhost cache tune`: which bar to set, what labels have taught, and whether the model may judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.commands.cache_eval import interval_words, pairs_in, run_pairs, share_words
from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import configured, run_async, wired
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.config.models import Config
    from llmhost.lab.evaluate import Frontier, PairOutcome
    from llmhost.lab.pairs import BrokenLine, Pair
    from llmhost.lab.tune import ErrorLimits, Tuning, TuningRow

__all__ = ["TuningOutput", "show_tuning", "tune_cache", "tuning_output"]

#: what does something else than to suggest a bar; of these one at a time
_MODES = ("show", "reset", "judge")
#: what each of them, and the suggestion, goes with
_TAKES = {
    "show": (),
    "reset": ("yes",),
    "judge": ("file", "limit"),
    None: ("file", "max_error", "max_false_accept", "limit"),
}
_HINT = "`llmhost cache tune --help` has examples"

_File = Annotated[
    Path | None, typer.Argument(metavar="FILE", help='JSON lines {"a", "b", "same"[, "kind"]}; or .gz.')
]
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
        min=0, max=0.5, metavar="SHARE", help="Share of the pairs that ask something else that may be served."
    ),
]
_Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Take N pairs at random, always the same ones.")
]
_Judge = Annotated[
    bool, typer.Option("--judge", help="Measure whether the fleet's own model can judge, by asking it.")
]
_Show = Annotated[bool, typer.Option("--show", help="Show what the fleet's labels have taught.")]
_Reset = Annotated[bool, typer.Option("--reset", help="Forget what the fleet's labels have taught.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="With --reset: do not ask.")]


def tune_cache(
    ctx: typer.Context,
    file: _File = None,
    max_error: _MaxError = None,
    max_false_accept: _MaxFalseAccept = None,
    limit: _Limit = None,
    judge: _Judge = False,
    show: _Show = False,
    reset: _Reset = False,
    yes: _Yes = False,
) -> None:
    """Find the bar for the error that you want, and see what each costs in hits.

    The pairs are judged by the very code that serves; see `llmhost cache eval`. How much of what is served is
    wrong depends on how many pairs of the file ask the same: take pairs as your users ask them. The
    configuration is not changed: the command says which line to write into it.

    Examples:
      llmhost cache tune pairs.jsonl --max-error 0.01
      llmhost cache tune pairs.jsonl --judge --limit 100
      llmhost cache tune --show
      llmhost cache tune --reset --yes
    """
    mode = _mode(locals())
    options = globals_of(ctx)
    config = configured(options)
    if mode in ("show", "reset"):
        _labels(options, config, reset=reset, yes=yes)
        return
    if file is None:
        raise UsageError("nothing to tune with: name a file of pairs, or say --show", hint=_HINT)
    if mode == "judge":
        from llmhost.cli.commands.cache_judge import measure_judge

        run_async(measure_judge(options, config, file, limit))
    else:
        _suggest(options, config, file, max_error, max_false_accept, limit)


def _mode(given: Mapping[str, Any]) -> str | None:
    """What is to be done. Raises UsageError where options do not go together."""
    modes = [mode for mode in _MODES if given[mode]]
    if len(modes) > 1:
        raise UsageError(f"--{modes[0]} and --{modes[1]} exclude each other", hint="leave one of them out")
    mode = modes[0] if modes else None
    for name in ("file", "max_error", "max_false_accept", "limit", "yes"):
        if given[name] not in (None, False) and name not in _TAKES[mode]:
            word = "a file" if name == "file" else f"--{name.replace('_', '-')}"
            partner = "--reset" if mode is None else f"--{mode}"
            does = "goes with" if mode is None else "does not go with"
            raise UsageError(f"{word} {does} {partner}", hint=_HINT)
    if mode == "judge" and given["limit"] == 1:
        raise UsageError("--judge needs two pairs at least: one that asks the same, and one that does not")
    return mode


def _labels(options: Globals, config: Config, *, reset: bool, yes: bool) -> None:
    from llmhost.cli.commands.cache_trust import reset_calibration, show_calibration

    run_async(reset_calibration(options, config, yes=yes) if reset else show_calibration(options, config))


def _suggest(
    options: Globals,
    config: Config,
    file: Path,
    max_error: float | None,
    max_false_accept: float | None,
    limit: int | None,
) -> None:
    from llmhost.lab.evaluate import frontier
    from llmhost.lab.pairs import sample
    from llmhost.lab.tune import ErrorLimits, tune

    if max_error is None and max_false_accept is None:
        max_error = config.cache.max_error
    wanted = ErrorLimits(max_error, max_false_accept)
    read = pairs_in(options, file)
    curve = frontier(run_async(_run(options, config, sample(read.rows, limit))))
    output = tuning_output(curve, tune(curve, wanted, config.cache.confidence), wanted, config, read.broken)
    for warning in output.warnings:
        options.output.warn(warning)
    options.output.result(output, show_tuning)


async def _run(options: Globals, config: Config, pairs: Sequence[Pair]) -> list[PairOutcome]:
    """With the verified policy, whatever the configured one is, and without what labels have taught."""
    from llmhost.cache.calibration import Calibration

    cache = config.cache.model_copy(update={"policy": "verified"})
    async with wired(options, config.model_copy(update={"cache": cache})) as wiring:
        embedder, policy = await wiring.caches.embedder(), await wiring.caches.policy()
        return await run_pairs(options, pairs, embedder, policy, Calibration())


# Which bar to set, as `cache tune` shows it.


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
    wanted: ErrorLimits
    suggested: TuningRow | None
    supported: bool
    rows: Sequence[TuningRow]
    warnings: Sequence[str]


def tuning_output(
    curve: Frontier, tuning: Tuning, wanted: ErrorLimits, config: Config, broken: Sequence[BrokenLine]
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


def _in_words(wanted: ErrorLimits) -> str:
    words = []
    if wanted.error is not None:
        words.append(f"at most {wanted.error * 100:g} % of what is served wrong")
    if wanted.false_accept is not None:
        words.append(f"at most {wanted.false_accept * 100:g} % of what asks something else served")
    return " and ".join(words)


def _warnings(tuning: Tuning, wanted: ErrorLimits, curve: Frontier) -> list[str]:
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
