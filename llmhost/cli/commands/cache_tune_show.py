"""`llmhost cache tune show` and `reset`: what labels have taught, and how to forget it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.output import table
from llmhost.cli.running import configured, run_async, wired
from llmhost.cli.text import counted
from llmhost.cli.trust_view import counts_as, served_error_lines, served_error_output
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cache.calibration import LabelsReport, Tally
    from llmhost.cache.policy import Thresholds
    from llmhost.cli.frame import Globals
    from llmhost.cli.trust_view import ServedErrorOutput
    from llmhost.config.models import Config

__all__ = ["reset", "show"]

_SOURCES = ("audit", "judge", "forget")


def show(ctx: typer.Context) -> None:
    """Show what the fleet's labels have taught.

    Examples:
      llmhost cache tune show
      llmhost cache tune show --json
    """
    options = globals_of(ctx)
    run_async(_show_calibration(options, configured(options)))


def reset(
    ctx: typer.Context, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Forget what the fleet's labels have taught.

    Examples:
      llmhost cache tune reset --yes
    """
    options = globals_of(ctx)
    config = configured(options)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("this forgets what was learnt from every audit", hint="confirm it with --yes")
        question = f"Forget what was learnt about the hits of the fleet {config.fleet.name!r}?"
        typer.confirm(question, abort=True, err=True)
    run_async(_reset_calibration(options, config))


@dataclass(frozen=True, slots=True)
class ServeThresholds:
    """The probabilities, 0..1, from which on a candidate is served: where no guard doubts, and where one
    does."""

    serve: float
    doubted: float


@dataclass(frozen=True, slots=True)
class LabelBand:
    """Labels on candidates to which the verifier gave a probability of this band, by source."""

    band: str
    labels: Mapping[str, Tally]


@dataclass(frozen=True, slots=True)
class CalibrationOutput:
    """`shift` is in log-odds; `confidence` of the verifier counts as `counts_as`. `bars` are the present
    thresholds, `wanted` what the verifier itself must give to reach them. `changed` is when the threshold
    last moved, Unix seconds. `used`: whether the configured policy applies any of it.
    """

    used: bool
    shift: float
    confidence: float
    counts_as: float
    bars: ServeThresholds
    wanted: ServeThresholds
    raised: int
    changed: float | None
    labels: Mapping[str, Tally]
    bands: Sequence[LabelBand]
    served_error: ServedErrorOutput


@dataclass(frozen=True, slots=True)
class ResetOutput:
    """How many labels were forgotten."""

    forgotten: int


async def _show_calibration(options: Globals, config: Config) -> None:
    from llmhost.wiring.questions import thresholds

    async with wired(options, config) as wiring:
        report = await wiring.caches.labels(await wiring.redis()).report()
    options.output.result(_output(report, thresholds(config.cache), config), _show)


async def _reset_calibration(options: Globals, config: Config) -> None:
    async with wired(options, config) as wiring:
        forgotten = await wiring.caches.labels(await wiring.redis()).reset()
    options.output.result(ResetOutput(forgotten), _show_reset)


def _output(report: LabelsReport, configured: Thresholds, config: Config) -> CalibrationOutput:
    from llmhost.cache.calibration import BANDS, calibrate
    from llmhost.cache.policy import shifted

    calibration = calibrate(report)
    now = configured.raised(calibration.raised)
    bands = [
        LabelBand(
            band,
            {source: report.bands[source][band] for source in report.bands if band in report.bands[source]},
        )
        for band in BANDS
    ]
    return CalibrationOutput(
        used=config.cache.policy == "verified",
        shift=calibration.shift,
        confidence=config.cache.confidence,
        counts_as=shifted(config.cache.confidence, calibration.shift),
        bars=ServeThresholds(now.serve, now.doubted),
        wanted=ServeThresholds(
            serve=max(now.floor, shifted(now.serve, -calibration.shift)),
            doubted=max(now.floor, shifted(now.doubted, -calibration.shift)),
        ),
        raised=calibration.raised,
        changed=report.changed,
        labels={source: report.total(source) for source in report.bands},
        bands=[band for band in bands if band.labels],
        served_error=served_error_output(report, config.cache.max_error),
    )


def _show(output: CalibrationOutput, console: Console) -> None:
    if not output.used:
        console.print("The policy is `threshold`: it uses none of this.")
    if output.bands:
        grid = table("verifier gave", *_SOURCES, right=_SOURCES)
        for band in output.bands:
            tallies = [band.labels.get(source) for source in _SOURCES]
            figures = [f"{one.samples:,} ({one.wrong:,} wrong)" if one else "-" for one in tallies]
            grid.add_row(band.band, *figures)
        console.print(grid)
        console.print()
        console.print(f"{counts_as(output.confidence, output.counts_as)}.")
    else:
        console.print("There are no labels yet: the verifier counts as it is.")
    console.print(
        f"Served from {output.wanted.serve:.3f} of the verifier on, or {output.wanted.doubted:.3f} where a "
        "guard doubts."
    )
    for line in served_error_lines(output.served_error):
        console.print(line)


def _show_reset(output: ResetOutput, console: Console) -> None:
    console.print(f"forgot {counted(output.forgotten, 'label')}: the verifier counts as it was shipped")
