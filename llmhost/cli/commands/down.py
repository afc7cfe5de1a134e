"""`llmhost down`: destroys workers, and confirms that they are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.fleet_view import follow, show_failures
from llmhost.cli.frame import globals_of
from llmhost.cli.running import asynchronous, configured, wired
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.cli.output import Progress
    from llmhost.fleet.health import WorkerProgress
    from llmhost.fleet.results import DownResult
    from llmhost.fleet.service import FleetService

__all__ = ["down"]


@asynchronous
async def down(
    ctx: typer.Context,
    workers: Annotated[list[str] | None, typer.Argument(help="Which ones; else all.")] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Every worker on this machine, and the embedded Redis."),
    ] = False,
    orphans: Annotated[
        bool,
        typer.Option("--orphans", help="Only workers of this fleet that its records do not know."),
    ] = False,
) -> None:
    """Destroy workers, and confirm that they are gone.

    Examples:
      llmhost down
      llmhost down local-7f3a2c
      llmhost down --orphans
      llmhost down --all
    """
    if workers and everything:
        raise UsageError("--all and names of workers exclude each other", hint="leave one of them out")
    if orphans and (workers or everything):
        raise UsageError(
            f"--orphans and {'names of workers' if workers else '--all'} exclude each other",
            hint="leave one of them out",
        )
    options = globals_of(ctx)
    async with wired(options, configured(options)) as wiring:
        fleets = [await wiring.fleet(), *(await wiring.other_local_fleets() if everything else ())]
        with options.output.progress() as progress:
            results = [await _end(fleet, workers or None, orphans, progress) for fleet in fleets]
    for warning in dict.fromkeys(warning for result in results for warning in result.warnings):
        options.output.warn(warning)
    stopped = await wiring.stop_embedded_redis() if everything else None
    destroyed = [worker for result in results for worker in result.destroyed]
    remaining = [worker.id for result in results for worker in result.remaining]
    intents = [intent for result in results for intent in result.intents]
    document = {
        "destroyed": destroyed,
        "remaining": remaining,
        "redis_stopped": stopped,
        "intents": intents,
        "scaling_paused": any(result.paused for result in results),
    }
    options.output.result(document, _show)
    failures = [failure for result in results for failure in result.failed]
    show_failures(options.output, failures, done=bool(destroyed))


async def _end(
    fleet: FleetService, ids: Sequence[str] | None, orphans: bool, progress: Progress
) -> DownResult:
    def on_progress(step: WorkerProgress) -> None:
        if fleet.rents:  # the others are gone in a moment
            follow(progress, step)

    if orphans:
        return await fleet.down_orphans(on_progress=on_progress)
    return await fleet.down(ids, on_progress=on_progress)


def _show(document: Mapping[str, Any], console: Console) -> None:
    for worker in document["destroyed"]:
        console.print(f"Destroyed {worker}.")
    for worker in document["remaining"]:
        console.print(f"{worker} is still running.")
    for intent in document["intents"]:
        console.print(f"Removed the record of purchase {intent}, which bought nothing.")
    if not document["destroyed"] and not document["remaining"]:
        console.print("No workers to destroy.")
    if document["scaling_paused"]:
        console.print("Autoscaling is paused until the next `llmhost up`.", style="dim")
    if document["redis_stopped"]:
        console.print("Stopped the embedded Redis (data kept).")
