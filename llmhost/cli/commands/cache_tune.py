"""`llmhost cache tune`: which threshold to set, what labels have taught, and whether the model can judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from llmhost.cli.commands.cache_eval import PairsFile, interval_words, pairs_in, run_pairs, share_words
from llmhost.cli.frame import App, Group, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import asynchronous, configured, confirm_removal, run_async, wired
from llmhost.cli.text import clean, counted, milliseconds, percent
from llmhost.cli.trust_view import counts_as, served_error_json, served_error_lines
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from llmhost.cache.calibration import LabelSource, LabelsReport, Tally
    from llmhost.cli.frame import Globals
    from llmhost.config.models import Config
    from llmhost.lab.evaluate import Frontier
    from llmhost.lab.tune import ErrorLimits, Tuning
    from llmhost.trust.condense import CondenserEvaluation
    from llmhost.trust.judge import JudgeEvaluation

__all__ = ["app", "measure_condenser", "measure_judge"]


class _Tune(Group):
    renamed: ClassVar[Mapping[str, str]] = {"--show": "show", "--reset": "reset", "--judge": "judge"}


app = App("Find the threshold for the error that you accept, and see what each costs in hits.", _Tune)

_SOURCES: tuple[LabelSource, ...] = ("audit", "judge", "forget")


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
      llmhost cache tune condense conversations.jsonl
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


# What labels have taught, and how to forget it.


@app.command("show")
@asynchronous
async def show_calibration(ctx: typer.Context) -> None:
    """Show what the fleet's labels have taught.

    Examples:
      llmhost cache tune show
      llmhost cache tune show --json
    """
    from llmhost.cache.calibration import BANDS, calibrate
    from llmhost.cache.policy import shifted
    from llmhost.wiring.questions import thresholds

    options = globals_of(ctx)
    config = configured(options, header=True)
    async with wired(options, config) as wiring:
        wiring.caches.check_labels()
        report = await wiring.caches.labels(await wiring.redis()).report()
    confidence, calibration = config.cache.confidence, calibrate(report)
    now = thresholds(config.cache).raised(calibration.raised)
    labels = {
        band: {source: tallies[band] for source, tallies in report.bands.items() if band in tallies}
        for band in BANDS
    }
    # what the verifier itself must give to reach the thresholds
    serve = max(now.floor, shifted(now.serve, -calibration.shift))
    doubted = max(now.floor, shifted(now.doubted, -calibration.shift))
    counted_as = shifted(confidence, calibration.shift)
    document = {
        "used": config.cache.policy == "verified",
        "shift": calibration.shift,
        "confidence": confidence,
        "counts_as": counted_as,
        "bars": {"serve": now.serve, "doubted": now.doubted},
        "wanted": {"serve": serve, "doubted": doubted},
        "raised": calibration.raised,
        "changed": report.changed,
        "labels": {source: report.total(source) for source in report.bands},
        "bands": [{"band": band, "labels": tallies} for band, tallies in labels.items() if tallies],
        "served_error": served_error_json(report, config.cache.max_error),
    }

    def show_report(shown: LabelsReport, console: Console) -> None:
        if config.cache.policy != "verified":
            console.print("The policy is `threshold`: it uses none of this.")
        if any(labels.values()):
            console.print(_labels_table(labels))
            console.print()
            console.print(f"{counts_as(confidence, counted_as)}.")
        else:
            console.print("There are no labels yet: the verifier counts as it is.")
        served = f"Served from {serve:.3f} of the verifier on"
        console.print(f"{served}, or {doubted:.3f} where a guard doubts.")
        for line in served_error_lines(shown, config.cache.max_error):
            console.print(line)

    options.output.result(report, show_report, document)


@app.command("reset")
def reset_calibration(
    ctx: typer.Context, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Forget what the fleet's labels have taught.

    Examples:
      llmhost cache tune reset --yes
    """
    options = globals_of(ctx)
    config = configured(options, header=True)
    if not yes:
        question = f"Forget what was learnt about the hits of the fleet {config.fleet.name!r}?"
        confirm_removal("forgets what was learnt from every audit", question)
    run_async(_reset_calibration(options, config))


def _labels_table(labels: Mapping[str, Mapping[LabelSource, Tally]]) -> Table:
    """A line for each band of the verifier's probability with labels, a column for each of their sources."""
    grid = table("verifier gave", *_SOURCES, right=_SOURCES)
    for band, tallies in labels.items():
        found = [tallies.get(source) for source in _SOURCES]
        if any(found):
            grid.add_row(band, *(f"{one.samples:,} ({one.wrong:,} wrong)" if one else "-" for one in found))
    return grid


async def _reset_calibration(options: Globals, config: Config) -> None:
    async with wired(options, config) as wiring:
        wiring.caches.check_labels()
        forgotten = await wiring.caches.labels(await wiring.redis()).reset()
    words = f"forgot {counted(forgotten, 'label')}: the verifier counts as it was shipped"
    options.output.result({"forgotten": forgotten}, lambda _, console: console.print(words))


# Is the fleet's own model good enough to judge?


@app.command("judge")
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
        model = await wiring.fleet_model()
        judge, store = model.judge(), model.judge_evaluations()
        evaluation = await measured(judge.compare, config.engine.model, pairs, wiring.now())
        await store.write(evaluation)
    fault = evaluation.disqualification(config.cache.judge_timeout)
    verdict = _verdict(
        fault,
        to="to judge",
        switch=None if config.cache.judge else "cache.judge: true",
        off="the judge stays off",
    )
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
    options.output.result(evaluation, partial(_show_judge, verdict=verdict), document)


def _show_judge(output: JudgeEvaluation, console: Console, verdict: str) -> None:
    rows = (
        ("model", clean(output.model)),
        ("pairs", f"{output.pairs:,}, half of them ask the same"),
        ("yes was right", _share(output.precision) + _at_least(output.low)),
        ("yes where it is", _share(output.recall)),
        ("no answer", percent(output.silent)),
        ("one judgement takes", f"{milliseconds(output.p50_ms)}, p95 {milliseconds(output.p95_ms)}"),
    )
    _show_measured(rows, verdict, console)


def _verdict(fault: str | None, *, to: str, switch: str | None, off: str) -> str:
    """What a measurement means: `fault` is why the model is not good enough, `switch` the key that would
    switch on what it does, None where it is on, and `off` that it does nothing all the same."""
    task = f" {to}" if to else ""
    if fault is None:
        return f"good enough{task}" + (f": `{switch}` switches it on" if switch else "")
    return f"not good enough{task}: {fault}" + ("" if switch else f"; {off}")


def _show_measured(rows: Sequence[tuple[str, str]], verdict: str, console: Console) -> None:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console.print(grid)
    console.print()
    console.print(clean(verdict))


def _at_least(low: float | None) -> str:
    return "" if low is None else f", at least {percent(low)} with 95 % certainty"


def _share(share: float | None) -> str:
    return "it never answered yes" if share is None else percent(share)


# Is it good enough to say what a follow-up question asks?

#: conversations; where at most some of a hundred questions are wrong, that can be shown
_CONVERSATIONS = 200


@app.command("condense")
def condense_conversations(
    ctx: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help='JSON lines {"turns": [...], "last", "standalone"}; the first turn is a user\'s. Or .gz.',
        ),
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Ask about N lines, always the same ones.")
    ] = None,
) -> None:
    """Measure whether the fleet's own model can say what a follow-up question asks, by itself.

    It is asked about conversations whose last turn is known to ask a question. The result is remembered:
    with `cache.conversations: condense`, follow-up questions are condensed only where the model was found
    good enough. Write the known question in as few words as it needs, and null where the last turn asks
    nothing by itself, as "yes, cancel it".

    Examples:
      llmhost cache tune condense conversations.jsonl
      llmhost cache tune condense conversations.jsonl --limit 100
    """
    options = globals_of(ctx)
    run_async(measure_condenser(options, configured(options), file, limit))


async def measure_condenser(options: Globals, config: Config, file: Path, limit: int | None = None) -> None:
    """Asks the condenser about at most `limit` lines of the file, prints how well it did, and remembers it.

    Raises:
        UsageError: the file cannot be read.
        LlmhostError: there is no worker to ask, or Redis is away.
    """
    from llmhost.lab.conversations import measured, read_conversations
    from llmhost.lab.pairs import sample, skipped_words

    known = read_conversations(file)
    if known.broken:
        options.output.warn(skipped_words(file, known.broken))
    lines = sample(known.rows, _CONVERSATIONS if limit is None else limit)
    conversations = [one for line in lines for one in line]
    options.output.note(f"asking {config.engine.model} about {counted(len(conversations), 'conversation')}")
    async with wired(options, config) as wiring:
        model = await wiring.fleet_model()
        condense = model.condenser().condense
        evaluation = await measured(condense, config.engine.model, conversations, wiring.now())
        await model.condenser_evaluations().write(evaluation)
    fault = evaluation.disqualification(config.cache.condense_timeout)
    is_on = config.cache.conversations == "condense"
    verdict = _verdict(
        fault,
        to="",
        switch=None if is_on else "cache.conversations: condense",
        off="follow-up questions are not condensed",
    )
    document = {
        "model": evaluation.model,
        "conversations": evaluation.conversations,
        "skipped": len(known.broken),
        "condensed": evaluation.condensed,
        "precision": evaluation.precision,
        "low": evaluation.low,
        "latency_ms": {"p50": evaluation.p50_ms, "p95": evaluation.p95_ms},
        "good_enough": fault is None,
        "verdict": verdict,
    }
    options.output.result(evaluation, partial(_show_condenser, verdict=verdict), document)


def _show_condenser(output: CondenserEvaluation, console: Console, verdict: str) -> None:
    right = "-" if output.precision is None else percent(output.precision) + _at_least(output.low)
    rows = (
        ("model", clean(output.model)),
        ("conversations", f"{output.conversations:,}"),
        ("condensed", f"{output.condensed:,}; what it said of the others may not stand alone"),
        ("of these right", right),
        ("one takes", f"{milliseconds(output.p50_ms)}, p95 {milliseconds(output.p95_ms)}"),
    )
    _show_measured(rows, verdict, console)
