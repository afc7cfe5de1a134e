"""`llmhost scale`: one step of the autoscaler, its history, its cron job and its simulation."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from llmhost.cli.commands.scale_simulate import simulate_trace
from llmhost.cli.fleet_view import ended_word, follow
from llmhost.cli.frame import App, Globals, Group, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import asynchronous, configured, load, wired
from llmhost.cli.text import clean, counted, duration
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from llmhost.autoscale.models import Observed, ScaleDecision, StepResult
    from llmhost.autoscale.state import StepRecord

__all__ = ["app"]

#: rows; what people see without --last fits on a screen or two
_ROWS = 20


class _Scale(Group):
    renamed: ClassVar[Mapping[str, str]] = {
        "--history": "history",
        "--install-cron": "cron",
        "--simulate": "simulate",
    }


app = App("Scale the fleet to the demand: one step, then it ends. Meant for cron.", _Scale)
app.command("simulate")(simulate_trace)


@app.default()
@asynchronous
async def scale(
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
      llmhost scale simulate questions.csv --worker-tokens-per-s 400 --plot week.svg
    """
    options = globals_of(ctx)
    config = configured(options, header=True)
    async with wired(options, config) as wiring:
        scaler = await wiring.scaler()
        if not dry_run:
            await wiring.others.remember(options.source)
        with options.output.progress() as progress:
            result = await scaler.step(dry_run=dry_run, on_progress=lambda step: follow(progress, step))
        try:
            _report(options, result, dry_run)
        finally:  # who reads the result does not wait for receivers that do not answer
            if config.notify.any and not dry_run:
                for problem in await wiring.notify(result):
                    options.output.warn(problem)
    if result.error is not None:
        raise result.error


def _report(options: Globals, result: StepResult, dry_run: bool) -> None:
    for warning in result.warnings:
        options.output.warn(warning)
    decision = result.decision
    document = {
        "decision": decision.action,
        "from": decision.before,
        "to": decision.after,
        "reason": decision.reason,
        "observed": decision.observed,
        "actions": result.actions,
        "dry_run": dry_run,
        "blocked": decision.blocked,
    }
    did_nothing = decision.action == "hold" and not result.actions
    if options.json or dry_run or not (options.quiet and did_nothing):
        options.output.result(result, lambda shown, console: _show_step(shown, dry_run, console), document)


@app.command("history")
@asynchronous
async def show_past_steps(
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
    async with wired(options, configured(options, header=True)) as wiring:
        past = await (await wiring.scaler()).history(last or sys.maxsize)
    if past.damaged:
        options.output.warn(f"{past.damaged} past steps cannot be read, and are left out")
    decisions = [{**step.summary(), "observed": step.observed, "actions": step.actions} for step in past]
    rows = None if last else _ROWS
    show = partial(_show_history, rows=rows)
    options.output.result(past, show, {"decisions": decisions})


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


def _show_step(result: StepResult, dry_run: bool, console: Console) -> None:
    """One line for the decision and one for each action; a dry run also shows what was observed."""
    from rich.table import Table
    from rich.text import Text

    decision = result.decision
    style = _STYLES.get(decision.action, "bold")
    _say(Text.assemble((decision.action, style), f": {_what(decision)}"), console)
    # Actions that differ in nothing, such as planned purchases, are one line.
    for action, same in groupby(result.actions):
        tense = 1 if dry_run else 0 if action.done else 2
        words = _words(action.kind, action.worker, action.detail, tense, len(list(same)))
        _say(Text("  ").append_text(words), console)
    if dry_run:
        grid = Table.grid(padding=(0, 2, 0, 0))
        for label, text in _observations(decision.observed):
            grid.add_row(label, text)
        console.print(grid, style="dim")
        console.print("Dry run: nothing was changed.", style="dim")


def _show_history(steps: Sequence[StepRecord], console: Console, rows: int | None) -> None:
    """A table, newest last. With `rows`, that many at most, and consecutive steps that changed nothing are
    one: the last of them.
    """
    from rich.text import Text

    if not steps:
        console.print("No scaling steps yet. Run `llmhost scale`.")
        return
    grid = table("time", "decision", "workers", "why")
    for step, count in [(step, 1) for step in steps] if rows is None else _condensed(steps)[-rows:]:
        decision = Text(clean(step.decision), _STYLES.get(step.decision, "dim"))
        size = str(step.after) if step.before == step.after else f"{step.before} → {step.after}"
        time = datetime.fromtimestamp(step.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        grid.add_row(time, decision, size, Text("\n").join(_why(step, count)))
    console.print(grid)


def _condensed(steps: Sequence[StepRecord]) -> list[tuple[StepRecord, int]]:
    """Each step with an action, done or not; of other steps in a row the last, with how many they are."""

    def alike(numbered: tuple[int, StepRecord]) -> tuple[object, ...]:
        number, step = numbered
        eventful = step.decision != "hold" or step.actions
        # Without a ceiling, the fleet could not be observed.
        return (number,) if eventful else (step.after, step.blocked, bool(step.observed.get("ceiling")))

    groups = [list(group) for _, group in groupby(enumerate(steps), alike)]
    return [(group[-1][1], len(group)) for group in groups]


def _what(decision: ScaleDecision) -> str:
    from llmhost.autoscale.models import Observed

    reason = clean(decision.reason)
    if decision.observed == Observed():  # the fleet was not observed
        return reason
    change = f"{decision.before} → " if decision.before != decision.after else ""
    return f"{change}{counted(decision.after, 'worker')}; {reason}"


def _say(text: Text, console: Console) -> None:
    # In a log or a pipe each of them is a line; a terminal breaks lines between words.
    console.print(text, soft_wrap=not console.is_terminal)


def _words(kind: str, worker: str | None, detail: str, tense: int, count: int = 1) -> Text:
    from rich.text import Text

    who = clean(worker) if worker else "a worker" if count == 1 else counted(count, "worker")
    # A purchase that is only planned has no more to say than how many there are.
    why = f": {clean(detail)}" if detail and not (tense == 1 and worker is None) else ""
    verb = ended_word(worker or "", _VERBS[kind][tense])
    return Text(f"{verb} {who}{why}", "red" if tense == 2 else "")


def _observations(seen: Observed) -> Iterator[tuple[str, str]]:
    if seen.watched_seconds:
        minute = f"{seen.demand_tokens_per_s:,.0f} tok/s in the last minute"
        mean, peak = f"{seen.demand_long_tokens_per_s:,.0f}", f"{seen.demand_peak_tokens_per_s:,.0f}"
        yield "demand", f"{minute}; in {duration(seen.watched_seconds)}: {mean} on average, {peak} at most"
    if seen.ready or seen.booting:
        booting = f", {seen.booting} booting" if seen.booting else ""
        ready = f"{counted(seen.ready, 'worker')} ready{booting}"
        yield "capacity", f"{seen.supply_tokens_per_s:,.0f} tok/s; {ready}"
    if seen.in_flight:
        seconds = seen.queue_seconds
        wait = f"for {duration(seconds)}" if seconds < float("inf") else "no worker is ready"
        waiting = f", {seen.waiting} waiting ({wait})" if seen.waiting else ""
        yield "in flight", f"{counted(seen.in_flight, 'question')}{waiting}"
    if seen.ceiling:
        limits = f"{seen.floor} to {counted(seen.ceiling, 'worker')}"
        yield "limits", f"{limits}; a boot takes {duration(seen.boot_seconds)}"


def _why(step: StepRecord, count: int) -> Iterator[Text]:
    """The reason, and what no reader should miss: what broke, and what could not be done."""
    from rich.text import Text

    yield Text(clean(step.reason) + (f" (last of {count} such steps)" if count > 1 else ""))
    for action in step.actions:
        kind, done = action.get("kind"), bool(action.get("done"))
        if kind in _VERBS and (kind == "repair" or not done):
            worker, detail = str(action.get("worker") or ""), str(action.get("detail", ""))
            yield _words(kind, worker or None, detail, tense=0 if done else 2)


# The crontab line that runs a scaling step, as text. Cron starts a command with almost no environment, so
# what a step needs of this one goes to a file that only its owner can read, which systemd reads as well.

#: what tells llmhost, its libraries and Redis where things are, and how to reach the network
_NEEDED = re.compile(
    r"(LLMHOST|VAST|HF|XDG)_\w+|HOME|PATH|PYTHONPATH|LD_LIBRARY_PATH|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE"
    r"|(?i:(HTTPS?|ALL|NO)_PROXY)",
    re.ASCII,
)

#: where the system's log listens; without it, `logger` writes nowhere
_SYSTEM_LOG = Path("/dev/log")


class _Watched(dict[str, str]):
    """An environment that keeps which variables were asked for by name: those that the configuration uses."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


@app.command("cron")
def print_cron(
    ctx: typer.Context,
    every: Annotated[
        int, typer.Option(min=1, max=60, metavar="MINUTES", help="How often a step runs: a divisor of 60.")
    ] = 1,
) -> None:
    """Print the crontab line that runs `llmhost scale`; install nothing.

    Examples:
      llmhost scale cron
      llmhost scale cron --every 5
    """
    from llmhost.machine.child import python_command
    from llmhost.machine.paths import config_dir, state_dir

    if 60 % every:
        shorter = max(minutes for minutes in range(1, every) if 60 % minutes == 0)
        longer = min(minutes for minutes in range(every, 61) if 60 % minutes == 0)
        raise UsageError(
            f"--every {every} does not divide an hour, and cron starts over at each full hour",
            hint=f"give {shorter} or {longer}",
        )
    options, environ = globals_of(ctx), _Watched(os.environ)
    loaded = load(options, environ=environ)
    fleet = loaded.config.fleet.name
    file = config_dir() / f"scale-{fleet}.env"
    path, here = shlex.quote(str(file)), shlex.quote(str(Path.cwd()))
    config = ["--config", str(loaded.source.absolute())] if loaded.source else []
    named = [] if options.fleet is None else ["--fleet", options.fleet]
    step = shlex.join(python_command("llmhost", *config, *named, "scale", "--quiet"))
    logger = shutil.which("logger")
    if logger and _SYSTEM_LOG.exists():
        log = f"{shlex.quote(logger)} -t llmhost-scale-{fleet}"
    else:
        stamp = """while IFS= read -r line; do printf '%s %s\\n' "$(date '+%F %T')" "$line"; done"""
        log = f"{stamp} >> {shlex.quote(str(state_dir() / f'llmhost-scale-{fleet}.log'))}"
    command = f"{{ cd {here} && set -a && . {path} && set +a && {step}; }} 2>&1 | {log}"
    minutes = {1: "*", 60: "0"}.get(every, f"*/{every}")
    line = f"{minutes} * * * * " + command.replace("%", "\\%")
    if not line.isprintable():
        raise UsageError("a path with a control character cannot stand in a crontab", hint="rename it")
    names = sorted(
        n for n, value in environ.items() if value and (n in environ.asked or _NEEDED.fullmatch(n))
    )
    write = _environment_writer(names, file)
    document = {
        "cron": line,
        "environment": [{"name": name, "value": None} for name in names],  # any value may be secret
        "environment_file": file,
        "write_environment_file": write,
    }
    script = (
        "# Save what the steps need of this environment, where only you can read it:\n"
        f"{write}\n\n"
        "# Then run `crontab -e` and add this line. Nothing was installed.\n"
        f"{line}\n\n"
        "# For systemd, see docs/scaling.md."
    )
    # Its lines are to be copied, so none is wrapped.
    options.output.result(script, lambda text, console: console.print(text, soft_wrap=True), document)


def _environment_writer(names: Sequence[str], file: Path) -> str:
    """The shell command that saves these variables. Their values show neither in it nor in the list of
    processes. Shells and systemd read the file alike.
    """
    folder, path = shlex.quote(str(file.parent)), shlex.quote(str(file))
    escaped = r"""$(printenv "$name" | sed 's/[\\"$`]/\\&/g')"""
    return (
        f"mkdir -p {folder} && install -m 600 /dev/null {path} &&\n"
        f"  for name in {' '.join(names)}; do\n"
        f'    printf \'%s="%s"\\n\' "$name" "{escaped}"\n'
        f"  done > {path}"
    )
