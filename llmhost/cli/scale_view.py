"""A step of the autoscaler, its past steps and its cron job, as `scale` shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from llmhost.cli.output import table
from llmhost.cli.text import clean, duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from llmhost.autoscale.models import Blocked, Observed
    from llmhost.autoscale.state import Record
    from llmhost.fleet.results import ScaleAction, StepResult

__all__ = [
    "HistoryOutput",
    "StepOutput",
    "history_output",
    "is_quiet",
    "show_history",
    "show_step",
    "step_output",
]

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


def history_output(records: Iterable[Record]) -> HistoryOutput:
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
