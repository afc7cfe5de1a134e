"""`llmhost scale`: one step of following the demand, and what belongs to such steps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.fleet_view import follow
from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import configured, run_async, wired
from llmhost.cli.text import clean, duration
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from llmhost.autoscale.models import Blocked, Observed, ScaleAction, ScaleSpec, StepResult
    from llmhost.autoscale.state import StepRecord
    from llmhost.cli.output import Progress
    from llmhost.config.models import Config
    from llmhost.lab.simulation.workload import Settings

__all__ = [
    "HistoryOutput",
    "StepOutput",
    "history_output",
    "is_quiet",
    "scale",
    "show_history",
    "show_step",
    "step_output",
]


# A step of the autoscaler, its past steps and its cron job, as `scale` shows them.


_STYLES = {"up": "green", "down": "yellow"}

#: what was done, what would be, what could not be
_ENDING = ("ended", "would end", "could not end")
_VERBS = {
    "repair": _ENDING,
    "finish": _ENDING,
    "revive": ("took back", "would take back", "could not take back"),
    "buy": ("started", "would start", "could not start"),
    "drain": ("drains", "would drain", "could not drain"),
    "end": _ENDING,
}


@dataclass(frozen=True, slots=True)
class StepOutput:
    """`from_` and `to` are workers. `blocked` is why not everything that was wanted is done."""

    decision: str
    from_: int
    to: int
    reason: str
    observed: Observed
    actions: Sequence[ScaleAction]
    dry_run: bool
    blocked: Blocked | None


@dataclass(frozen=True, slots=True)
class PastOutput:
    """One step of the past: `at` is Unix seconds, `blocked` the kind of what stood in the way."""

    at: float
    decision: str
    from_: int
    to: int
    reason: str
    observed: Mapping[str, Any]
    actions: Sequence[Mapping[str, Any]]
    blocked: str | None


@dataclass(frozen=True, slots=True)
class HistoryOutput:
    """Newest last."""

    decisions: Sequence[PastOutput]


def step_output(result: StepResult, *, dry_run: bool) -> StepOutput:
    """What a step decided, and what came of it."""
    decision = result.decision
    return StepOutput(
        decision=decision.action,
        from_=decision.before,
        to=decision.after,
        reason=decision.reason,
        observed=decision.observed,
        actions=result.actions,
        dry_run=dry_run,
        blocked=decision.blocked,
    )


def history_output(records: Iterable[StepRecord]) -> HistoryOutput:
    """Past steps, in the order in which they come."""
    return HistoryOutput(
        [
            PastOutput(
                at=record.at,
                decision=record.decision,
                from_=record.before,
                to=record.after,
                reason=record.reason,
                observed=record.observed,
                actions=record.actions,
                blocked=record.blocked,
            )
            for record in records
        ]
    )


def is_quiet(output: StepOutput) -> bool:
    """Whether nothing happened that anybody would want to read in a log."""
    return output.decision == "hold" and not output.actions


def show_step(output: StepOutput, console: Console) -> None:
    """One line for the decision and one for each thing that was done; a rehearsal also says what it saw."""
    from rich.text import Text

    _say(
        Text.assemble((output.decision, _STYLES.get(output.decision, "bold")), f": {_what(output)}"), console
    )
    for action, count in _counted(output.actions):
        tense = _tense(action.done, output.dry_run)
        words = _words(action.kind, action.worker, action.detail, tense, count)
        _say(Text("  ").append_text(words), console)
    if output.dry_run:
        _show_observed(output.observed, console)
        console.print("nothing was done", style="dim")


def show_history(output: HistoryOutput, console: Console, rows: int | None = None) -> None:
    """A table, newest last. With `rows`, so many at most, and steps in a row that changed nothing are one:
    the last of them.
    """
    from rich.text import Text

    if not output.decisions:
        console.print("No step was made yet. `llmhost scale` makes one.")
        return
    grid = table("time", "decision", "workers", "why")
    shown = [(past, 1) for past in output.decisions] if rows is None else _condensed(output.decisions)[-rows:]
    for past, count in shown:
        decision = Text(clean(past.decision), _STYLES.get(past.decision, "dim"))
        size = str(past.to) if past.from_ == past.to else f"{past.from_} → {past.to}"
        grid.add_row(_time(past.at), decision, size, Text("\n").join(_why(past, count)))
    console.print(grid)


def _condensed(decisions: Sequence[PastOutput]) -> list[tuple[PastOutput, int]]:
    """Each step that did something, or could not; of others in a row the last, with how many they are."""

    def alike(numbered: tuple[int, PastOutput]) -> tuple[object, ...]:
        number, past = numbered
        eventful = past.decision != "hold" or past.actions
        # Where there was no ceiling, the fleet could not be looked at.
        return (number,) if eventful else (past.to, past.blocked, bool(past.observed.get("ceiling")))

    groups = [list(group) for _, group in groupby(enumerate(decisions), alike)]
    return [(group[-1][1], len(group)) for group in groups]


def _what(output: StepOutput) -> str:
    from llmhost.autoscale.models import Observed

    reason = clean(output.reason)
    if output.observed == Observed():  # the fleet was not looked at
        return reason
    change = f"{output.from_} → " if output.from_ != output.to else ""
    return f"{change}{_workers(output.to)}; {reason}"


def _say(text: Text, console: Console) -> None:
    # In a log or a pipe each of them is a line; a terminal breaks lines between words.
    console.print(text, soft_wrap=not console.is_terminal)


def _counted(actions: Iterable[ScaleAction]) -> Iterator[tuple[ScaleAction, int]]:
    """Actions that differ in nothing, such as planned purchases, are one line."""
    return ((action, len(list(same))) for action, same in groupby(actions))


def _tense(done: bool, dry_run: bool) -> int:
    return 1 if dry_run else 0 if done else 2


def _words(kind: str, worker: str | None, detail: str, tense: int, count: int = 1) -> Text:
    from rich.text import Text

    who = clean(worker) if worker else "a worker" if count == 1 else _workers(count)
    # A purchase that is only planned has no more to say than how many there are.
    why = f": {clean(detail)}" if detail and not (tense == 1 and worker is None) else ""
    return Text(f"{_VERBS[kind][tense]} {who}{why}", "red" if tense == 2 else "")


def _show_observed(seen: Observed, console: Console) -> None:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    for label, text in _observations(seen):
        grid.add_row(label, text)
    console.print(grid, style="dim")


def _observations(seen: Observed) -> Iterator[tuple[str, str]]:
    if seen.watched_seconds:
        short, mean = seen.demand_tokens_per_s, seen.demand_long_tokens_per_s
        over = f"in {duration(seen.watched_seconds)} {mean:,.0f} on average"
        asked = (
            f"{short:,.0f} tokens/s in the last minute; {over}, {seen.demand_peak_tokens_per_s:,.0f} at most"
        )
        yield "asked for", asked
    if seen.ready or seen.booting:
        boots = f" and {seen.booting} that boot{'s' if seen.booting == 1 else ''}" if seen.booting else ""
        there = f"{seen.supply_tokens_per_s:,.0f} tokens/s, by {seen.ready} that answer{boots}"
        yield "there", there.replace("1 that answer", "1 that answers") if seen.ready == 1 else there
    if seen.in_flight:
        waits = f", {seen.waiting} of them wait, {_wait(seen.queue_seconds)}" if seen.waiting else ""
        yield "in flight", f"{seen.in_flight} questions{waits}"
    if seen.ceiling:
        yield (
            "allowed",
            f"{seen.floor} to {_workers(seen.ceiling)}; a boot takes {duration(seen.boot_seconds)}",
        )


def _wait(seconds: float) -> str:
    return f"for {duration(seconds)}" if seconds < float("inf") else "for ever"


def _why(past: PastOutput, count: int) -> Iterator[Text]:
    """The reason, and what no reader should miss: what broke, and what could not be done."""
    from rich.text import Text

    yield Text(clean(past.reason) + (f" (the last of {count} such steps)" if count > 1 else ""))
    for action in past.actions:
        kind, done = action.get("kind"), bool(action.get("done"))
        if kind in _VERBS and (kind == "repair" or not done):
            worker, detail = action.get("worker"), str(action.get("detail", ""))
            yield _words(kind, worker and str(worker), detail, _tense(done, dry_run=False))


def _time(at: float) -> str:
    """By this machine's clock and zone."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"


#: rows; what people see without --last fits on a screen or two
_ROWS = 20

#: options that do something else than a step; of these one at a time
_MODES = ("dry_run", "history", "install_cron", "simulate")
#: options that only go with one of them
_BELONGS = {
    "last": "history",
    "every": "install_cron",
    "speed": "simulate",
    "repeat": "simulate",
    "hit_ratio": "simulate",
    "worker_tokens_per_s": "simulate",
    "boot_seconds": "simulate",
    "price": "simulate",
    "boot_failures": "simulate",
    "deaths_per_hour": "simulate",
    "interval": "simulate",
    "plot": "simulate",
}

_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and why.")]
_History = Annotated[bool, typer.Option("--history", help="Show what was decided, newest last.")]
_Last = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="With --history: so many steps, each by itself."),
]
_InstallCron = Annotated[
    bool, typer.Option("--install-cron", help="Print a crontab line and a systemd timer; install nothing.")
]
_Every = Annotated[
    int | None, typer.Option(min=1, max=60, metavar="MINUTES", help="With --install-cron: how often; else 1.")
]
_Simulate = Annotated[
    Path | None,
    typer.Option(metavar="TRACE.csv", help="Play recorded questions, and show what the fleet would cost."),
]
_Speed = Annotated[
    float | None, typer.Option(metavar="FACTOR", help="With --simulate: play it so many times as fast.")
]
_Repeat = Annotated[
    int | None, typer.Option(metavar="N", help="With --simulate: play it so often, one after the other.")
]
_HitRatio = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="With --simulate: the share that the cache answers, 0 to 1."),
]
_WorkerTokens = Annotated[
    float | None,
    typer.Option(
        metavar="N", help="With --simulate: what a whole worker generates; else `scale.tokens_per_s`."
    ),
]
_BootSeconds = Annotated[
    float | None,
    typer.Option(metavar="S", help="With --simulate: until a worker answers; else `scale.boot_time`."),
]
_Price = Annotated[
    float | None,
    typer.Option(
        metavar="USD", help="With --simulate: of a worker, an hour; else `fleet.price_per_hour`, or 0.40."
    ),
]
_BootFailures = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="With --simulate: the share of purchases that never answer."),
]
_Deaths = Annotated[
    float | None, typer.Option(metavar="N", help="With --simulate: how often an hour a worker breaks.")
]
_Interval = Annotated[
    float | None, typer.Option(metavar="S", help="With --simulate: seconds between two steps; else 60.")
]
_Plot = Annotated[
    Path | None, typer.Option(metavar="OUT.svg", help="With --simulate: draw demand and fleet; .svg or .png.")
]


def scale(
    ctx: typer.Context,
    dry_run: _DryRun = False,
    history: _History = False,
    last: _Last = None,
    install_cron: _InstallCron = False,
    every: _Every = None,
    simulate: _Simulate = None,
    speed: _Speed = None,
    repeat: _Repeat = None,
    hit_ratio: _HitRatio = None,
    worker_tokens_per_s: _WorkerTokens = None,
    boot_seconds: _BootSeconds = None,
    price: _Price = None,
    boot_failures: _BootFailures = None,
    deaths_per_hour: _Deaths = None,
    interval: _Interval = None,
    plot: _Plot = None,
) -> None:
    """Make the fleet fit the demand: one step, then it ends. Meant for cron.

    It replaces what is broken, then starts workers or ends them, within the limits of `scale`,
    `fleet.max_gpus` and `fleet.budget`. It does not ask. With --quiet a step that does nothing says nothing.

    Examples:
      llmhost scale --dry-run
      llmhost scale --install-cron
      llmhost scale --history --last 50
      llmhost scale --simulate questions.csv --worker-tokens-per-s 400 --price 0.40 --plot week.svg
    """
    given = locals()
    _check_sense(given)
    options = globals_of(ctx)
    if install_cron:
        _print_cron(options, every or 1)
        return
    config = configured(options)
    if simulate is not None:
        _simulate(options, config, simulate, plot, given)
    elif history:
        run_async(_history(options, config, last))
    else:
        run_async(_step(options, config, dry_run))


def _check_sense(given: Mapping[str, Any]) -> None:
    """Raises UsageError where options do not go together."""
    modes = [mode for mode in _MODES if given[mode]]
    if len(modes) > 1:
        first, second, *_ = map(_flag, modes)
        raise UsageError(f"{first} and {second} exclude each other", hint="leave one of them out")
    for name, mode in _BELONGS.items():
        if given[name] is not None and mode not in modes:
            raise UsageError(
                f"{_flag(name)} goes with {_flag(mode)}", hint="`llmhost scale --help` has examples"
            )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


async def _step(options: Globals, config: Config, dry_run: bool) -> None:
    async with wired(options, config) as wiring:
        scaler = await wiring.scaler()
        with options.output.progress() as progress:
            result = await scaler.step(dry_run=dry_run, on_progress=lambda step: follow(progress, step))
    for warning in result.warnings:
        options.output.warn(warning)
    output = step_output(result, dry_run=dry_run)
    if options.json or dry_run or not (options.quiet and is_quiet(output)):
        options.output.result(output, show_step)
    if result.error is not None:
        raise result.error


async def _history(options: Globals, config: Config, last: int | None) -> None:
    from sys import maxsize

    async with wired(options, config) as wiring:
        past = await (await wiring.scaler()).history(last or maxsize)
    if past.damaged:
        options.output.warn(f"{past.damaged} steps of the past cannot be read, and are left out")
    rows = None if last else _ROWS
    options.output.result(history_output(past), lambda shown, console: show_history(shown, console, rows))


def _print_cron(options: Globals, minutes: int) -> None:
    from llmhost.cli.commands.scale_cron import LONGEST_LINE, cron_output, make_job, show_cron

    job = make_job(options.config, os.environ, minutes)
    output = cron_output(job)
    if len(output.cron) > LONGEST_LINE:
        options.output.warn("the line is longer than some crons take; use systemd, or put it into a script")
    options.output.result(output, lambda _, console: show_cron(job, console))


def _simulate(
    options: Globals, config: Config, trace: Path, plot: Path | None, given: Mapping[str, Any]
) -> None:
    from llmhost.cli.commands.scale_simulate import show_simulation, simulation_output
    from llmhost.lab.plots import check_drawable
    from llmhost.lab.simulation.report import simulate
    from llmhost.lab.simulation.trace import read_trace
    from llmhost.wiring.fleets import budget_limits, scale_spec

    if plot is not None:
        check_drawable(plot)
    spec = scale_spec(config)
    settings = _settings(config, spec, given)
    limits = budget_limits(config)
    questions = read_trace(trace)
    with options.output.progress() as progress:
        played = _Played(progress)
        report = simulate(questions, settings, spec, played, limits=limits)
        played.end()
    if plot is not None:
        from llmhost.lab.plots import plot_simulation as draw

        draw(report, plot)
    options.output.result(simulation_output(report), show_simulation)


def _settings(config: Config, spec: ScaleSpec, given: Mapping[str, Any]) -> Settings:
    """What was given, else what the configuration says. Raises UsageError."""
    from llmhost.lab.simulation.workload import Settings

    configured = {"worker_tokens_per_s": spec.tokens_per_s, "boot_seconds": spec.boot_seconds}
    if config.fleet.price_per_hour:
        configured["price"] = config.fleet.price_per_hour
    played = {name for name, mode in _BELONGS.items() if mode == "simulate"} - {"plot"}
    chosen = {name: given[name] for name in played if given[name] is not None}
    return Settings(**{**configured, **chosen})


class _Played:
    """Shows which fleet is being played, and how far it is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last: str | None = None

    def __call__(self, name: str, share: float) -> None:
        if name != self._last:
            self.end()
        self._last = name
        self._progress.update(name, "playing", share)

    def end(self) -> None:
        if self._last is not None:
            self._progress.done(self._last, "played")
