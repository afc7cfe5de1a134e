"""`llmhost scale`: one step of the autoscaler, its history, its cron job and its simulation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from sys import maxsize
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from llmhost.cli.commands.scale_cron import print_cron
from llmhost.cli.commands.scale_simulate import simulate_trace
from llmhost.cli.fleet_view import follow
from llmhost.cli.frame import App, Globals, Group, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import configured, run_async, wired
from llmhost.cli.text import clean, duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from llmhost.autoscale.models import Blocked, Observed, ScaleAction, StepResult
    from llmhost.autoscale.state import StepRecord
    from llmhost.config.models import Config

__all__ = ["HistoryOutput", "StepOutput", "app"]

#: rows; what people see without --last fits on a screen or two
_ROWS = 20


class _Scale(Group):
    renamed: ClassVar[Mapping[str, str]] = {
        "--history": "history",
        "--install-cron": "cron",
        "--simulate": "simulate",
    }


app = App("Scale the fleet to the demand: one step, then it ends. Meant for cron.", _Scale)
app.command("cron")(print_cron)
app.command("simulate")(simulate_trace)


@app.default()
def scale(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
) -> None:
    """Scale the fleet to the demand: one step, then it ends. Meant for cron.

    It replaces broken workers, then starts or destroys workers, within the limits of `scale`,
    `fleet.max_gpus` and `fleet.budget`. It does not ask. With --quiet, a step that changes nothing
    prints nothing.

    Examples:
      llmhost scale --dry-run
      llmhost scale cron
      llmhost scale history --last 50
      llmhost scale simulate questions.csv --worker-tokens-per-s 400 --price 0.40 --plot week.svg
    """
    options = globals_of(ctx)
    run_async(_step(options, configured(options), dry_run))


@app.command("history")
def show_past_steps(
    ctx: typer.Context,
    last: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The last N steps, each on its own.")
    ] = None,
) -> None:
    """Show past decisions, newest last.

    Examples:
      llmhost scale history
      llmhost scale history --last 50
    """
    options = globals_of(ctx)
    run_async(_history(options, configured(options), last))


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
    async with wired(options, config) as wiring:
        past = await (await wiring.scaler()).history(last or maxsize)
    if past.damaged:
        options.output.warn(f"{past.damaged} past steps cannot be read, and are left out")
    rows = None if last else _ROWS
    options.output.result(history_output(past), lambda shown, console: show_history(shown, console, rows))


_STYLES = {"up": "green", "down": "yellow"}

#: what was done, what would be, what could not be
_ENDING = ("destroyed", "would destroy", "could not destroy")
_VERBS = {
    "repair": _ENDING,
    "finish": _ENDING,
    "revive": ("kept", "would keep", "could not keep"),
    "buy": ("started", "would start", "could not start"),
    "drain": ("draining", "would drain", "could not drain"),
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
    """Past steps, in the order of `records`."""
    return HistoryOutput(
        [
            PastOutput(r.at, r.decision, r.before, r.after, r.reason, r.observed, r.actions, r.blocked)
            for r in records
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
        tense = 1 if output.dry_run else 0 if action.done else 2
        words = _words(action.kind, action.worker, action.detail, tense, count)
        _say(Text("  ").append_text(words), console)
    if output.dry_run:
        _show_observed(output.observed, console)
        console.print("Dry run: nothing was changed.", style="dim")


def show_history(output: HistoryOutput, console: Console, rows: int | None = None) -> None:
    """A table, newest last. With `rows`, that many at most, and consecutive steps that changed nothing are
    one: the last of them.
    """
    from rich.text import Text

    if not output.decisions:
        console.print("No scaling steps yet. Run `llmhost scale`.")
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
        minute = f"{seen.demand_tokens_per_s:,.0f} tok/s in the last minute"
        mean, peak = f"{seen.demand_long_tokens_per_s:,.0f}", f"{seen.demand_peak_tokens_per_s:,.0f}"
        yield "demand", f"{minute}; over {duration(seen.watched_seconds)} {mean} on average, {peak} at most"
    if seen.ready or seen.booting:
        booting = f", {seen.booting} booting" if seen.booting else ""
        yield "capacity", f"{seen.supply_tokens_per_s:,.0f} tok/s; {_workers(seen.ready)} ready{booting}"
    if seen.in_flight:
        seconds = seen.queue_seconds
        wait = f"for {duration(seconds)}" if seconds < float("inf") else "no worker is ready"
        waiting = f", {seen.waiting} waiting ({wait})" if seen.waiting else ""
        yield "in flight", f"{_questions(seen.in_flight)}{waiting}"
    if seen.ceiling:
        limits = f"{seen.floor} to {_workers(seen.ceiling)}; a boot takes {duration(seen.boot_seconds)}"
        yield "limits", limits


def _why(past: PastOutput, count: int) -> Iterator[Text]:
    """The reason, and what no reader should miss: what broke, and what could not be done."""
    from rich.text import Text

    yield Text(clean(past.reason) + (f" (last of {count} such steps)" if count > 1 else ""))
    for action in past.actions:
        kind, done = action.get("kind"), bool(action.get("done"))
        if kind in _VERBS and (kind == "repair" or not done):
            worker, detail = action.get("worker"), str(action.get("detail", ""))
            yield _words(kind, worker and str(worker), detail, tense=0 if done else 2)


def _time(at: float) -> str:
    """By this machine's clock and zone."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"


def _questions(count: int) -> str:
    return f"{count} question{'' if count == 1 else 's'}"
