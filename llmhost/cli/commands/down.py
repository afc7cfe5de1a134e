"""`llmhost down`: destroys workers, and confirms that they are gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.fleet_view import show_failures
from llmhost.cli.options import Globals, globals_of
from llmhost.cli.running import run_async
from llmhost.cli.session import configured, wired
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.config.models import Config

__all__ = ["down"]


@dataclass(frozen=True, slots=True)
class DownOutput:
    """`destroyed` are confirmed gone, `remaining` still exist. `redis_stopped` None: it was not to be."""

    destroyed: Sequence[str]
    remaining: Sequence[str]
    redis_stopped: bool | None


def down(
    ctx: typer.Context,
    workers: Annotated[list[str] | None, typer.Argument(help="Which ones; else all.")] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Every worker on this machine, and the embedded Redis."),
    ] = False,
) -> None:
    """Destroy workers, and confirm that they are gone.

    Examples:
      llmhost down
      llmhost down local-7f3a2c
      llmhost down --all
    """
    if workers and everything:
        raise UsageError("--all and names of workers exclude each other", hint="leave one of them out")
    options = globals_of(ctx)
    run_async(_down(options, configured(options), workers or None, everything))


async def _down(options: Globals, config: Config, ids: Sequence[str] | None, everything: bool) -> None:
    async with wired(options, config) as wiring:
        fleets = [await wiring.fleet(), *(await wiring.other_local_fleets() if everything else ())]
        results = [await fleet.down(ids) for fleet in fleets]
    for warning in dict.fromkeys(warning for result in results for warning in result.warnings):
        options.output.warn(warning)
    stopped = await wiring.stop_embedded_redis() if everything else None
    destroyed = [worker for result in results for worker in result.destroyed]
    remaining = [worker.id for result in results for worker in result.remaining]
    options.output.result(DownOutput(destroyed, remaining, stopped), _show)
    failures = [failure for result in results for failure in result.failed]
    show_failures(options.output, failures, done=bool(destroyed))


def _show(output: DownOutput, console: Console) -> None:
    for worker in output.destroyed:
        console.print(f"{worker} is gone")
    for worker in output.remaining:
        console.print(f"{worker} stays")
    if not output.destroyed and not output.remaining:
        console.print("there was no worker")
    if output.redis_stopped:
        console.print("the embedded Redis has stopped; its data stays")
