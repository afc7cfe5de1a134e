"""`llmhost scale`: one step of following the demand, and what belongs to such steps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.fleet_view import follow
from llmhost.cli.options import Globals, globals_of
from llmhost.cli.running import run_async
from llmhost.cli.scale_view import history_output, is_quiet, show_history, show_step, step_output
from llmhost.cli.session import configured, wired
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from llmhost.autoscale.models import ScaleSpec
    from llmhost.cli.progress import Progress
    from llmhost.config.models import Config
    from llmhost.lab.simulation.settings import Settings

__all__ = ["scale"]

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
    from llmhost.cli.commands.scale_cron import LONGEST_LINE
    from llmhost.cli.cron_view import cron_output, make_job, show_cron

    job = make_job(options.config, os.environ, minutes)
    output = cron_output(job)
    if len(output.cron) > LONGEST_LINE:
        options.output.warn("the line is longer than some crons take; use systemd, or put it into a script")
    options.output.result(output, lambda _, console: show_cron(job, console))


def _simulate(
    options: Globals, config: Config, trace: Path, plot: Path | None, given: Mapping[str, Any]
) -> None:
    from llmhost.cli.commands.scale_simulate import show_simulation, simulation_output
    from llmhost.fleet.budget import Limits
    from llmhost.lab.plots import check_drawable
    from llmhost.lab.simulation.report import simulate
    from llmhost.lab.simulation.trace import read_trace
    from llmhost.wiring.fleets import scale_spec

    if plot is not None:
        check_drawable(plot)
    spec = scale_spec(config)
    settings = _settings(config, spec, given)
    limits = Limits(**config.fleet.budget.model_dump())
    questions = read_trace(trace)
    with options.output.progress() as progress:
        played = _Played(progress)
        report = simulate(questions, settings, spec, played, limits=limits)
        played.end()
    if plot is not None:
        from llmhost.lab.simulation.plot import plot as draw

        draw(report, plot)
    options.output.result(simulation_output(report), show_simulation)


def _settings(config: Config, spec: ScaleSpec, given: Mapping[str, Any]) -> Settings:
    """What was given, else what the configuration says. Raises UsageError."""
    from llmhost.lab.simulation.settings import Settings

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
