"""`llmhost cache tune --show` and `--reset`: what labels have taught, and how to forget it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from llmhost.cli.frame import Globals
from llmhost.cli.output import table
from llmhost.cli.running import wired
from llmhost.cli.trust_view import counted, counts_as, served_error_lines, served_error_output
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from llmhost.cache.calibration import LabelsReport, Tally
    from llmhost.cache.policy import Thresholds
    from llmhost.cli.trust_view import ServedErrorOutput
    from llmhost.config.models import Config

__all__ = ["reset_calibration", "show_calibration"]

_SOURCES = ("audit", "judge", "forget")


@dataclass(frozen=True, slots=True)
class ServedFrom:
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
    last moved, Unix seconds. `used`: whether the configured policy heeds any of it.
    """

    used: bool
    shift: float
    confidence: float
    counts_as: float
    bars: ServedFrom
    wanted: ServedFrom
    raised: int
    changed: float | None
    labels: Mapping[str, Tally]
    bands: Sequence[LabelBand]
    served_error: ServedErrorOutput


@dataclass(frozen=True, slots=True)
class ResetOutput:
    """How many labels were forgotten."""

    forgotten: int


async def show_calibration(options: Globals, config: Config) -> None:
    """Prints what the fleet's labels have taught. Raises StoreError."""
    from llmhost.wiring.questions import thresholds

    async with wired(options, config) as wiring:
        report = await wiring.caches.labels(await wiring.redis()).report()
    options.output.result(_output(report, thresholds(config.cache), config), _show)


async def reset_calibration(options: Globals, config: Config, *, yes: bool = False) -> None:
    """Forgets what the fleet's labels have taught, after asking unless `yes`.

    Raises:
        UsageError: nobody is there to be asked.
        StoreError: Redis is away.
    """
    if not yes:
        _confirm(config.fleet.name)
    async with wired(options, config) as wiring:
        forgotten = await wiring.caches.labels(await wiring.redis()).reset()
    options.output.result(ResetOutput(forgotten), _show_reset)


def _confirm(fleet: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "this forgets what was learnt from every audit", hint="say --yes if that is what you want"
        )
    typer.confirm(f"Forget what was learnt about the hits of the fleet {fleet!r}?", abort=True, err=True)


def _output(report: LabelsReport, configured: Thresholds, config: Config) -> CalibrationOutput:
    from llmhost.cache.calibration import BANDS, calibrate
    from llmhost.cache.policy import shifted

    calibration = calibrate(report)
    thresholds = configured.raised(calibration.raised)
    counts = {band: {source: report.bands[source].get(band) for source in report.bands} for band in BANDS}
    return CalibrationOutput(
        used=config.cache.policy == "verified",
        shift=calibration.shift,
        confidence=config.cache.confidence,
        counts_as=shifted(config.cache.confidence, calibration.shift),
        bars=ServedFrom(thresholds.serve, thresholds.doubted),
        wanted=ServedFrom(
            *(
                max(thresholds.floor, shifted(bar, -calibration.shift))
                for bar in (thresholds.serve, thresholds.doubted)
            )
        ),
        raised=calibration.raised,
        changed=report.changed,
        labels={source: report.total(source) for source in report.bands},
        bands=[
            LabelBand(band, {source: tally for source, tally in by_source.items() if tally is not None})
            for band, by_source in counts.items()
            if any(by_source.values())
        ],
        served_error=served_error_output(report, config.cache.max_error),
    )


def _show(output: CalibrationOutput, console: Console) -> None:
    if not output.used:
        console.print("The policy is `threshold`: nothing of this is used.")
    if output.bands:
        console.print(_bands(output))
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


def _bands(output: CalibrationOutput) -> Table:
    grid = table("verifier gave", *_SOURCES, right=_SOURCES)
    for band in output.bands:
        grid.add_row(band.band, *(_figures(band.labels.get(source)) for source in _SOURCES))
    return grid


def _figures(tally: Tally | None) -> str:
    return "-" if tally is None else f"{tally.samples:,} ({tally.wrong:,} wrong)"


def _show_reset(output: ResetOutput, console: Console) -> None:
    console.print(f"forgot {counted(output.forgotten, 'label')}: the verifier counts as it was shipped")
