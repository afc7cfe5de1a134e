"""`llmhost cache tune show` and `reset`: what labels have taught, and how to forget it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.output import table
from llmhost.cli.running import asynchronous, configured, confirm_removal, run_async, wired
from llmhost.cli.text import counted
from llmhost.cli.trust_view import counts_as, served_error_lines, served_error_output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from llmhost.cache.calibration import LabelSource, LabelsReport, Tally
    from llmhost.cli.frame import Globals
    from llmhost.config.models import Config

__all__ = ["reset", "show"]

_SOURCES: tuple[LabelSource, ...] = ("audit", "judge", "forget")


@asynchronous
async def show(ctx: typer.Context) -> None:
    """Show what the fleet's labels have taught.

    Examples:
      llmhost cache tune show
      llmhost cache tune show --json
    """
    from llmhost.cache.calibration import BANDS, calibrate
    from llmhost.cache.policy import shifted
    from llmhost.wiring.questions import thresholds

    options = globals_of(ctx)
    config = configured(options)
    async with wired(options, config) as wiring:
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
        "served_error": served_error_output(report, config.cache.max_error),
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
        for line in served_error_lines(served_error_output(shown, config.cache.max_error)):
            console.print(line)

    options.output.result(report, show_report, document)


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
        forgotten = await wiring.caches.labels(await wiring.redis()).reset()
    words = f"forgot {counted(forgotten, 'label')}: the verifier counts as it was shipped"
    options.output.result({"forgotten": forgotten}, lambda _, console: console.print(words))
