"""`llmhost notify`: whether notifications arrive."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from llmhost.cli.frame import App, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import asynchronous, configured
from llmhost.errors import PartialError, UnreachableError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.errors import LlmhostError

__all__ = ["app"]

app = App("Try the notifications of `notify` in the configuration. docs/scaling.md has what is told.")


@app.command("test")
@asynchronous
async def send_test(ctx: typer.Context) -> None:
    """Send a test notification to everyone that is configured.

    Examples:
      llmhost notify test
    """
    from llmhost.autoscale.notify import Notifier, test_notice

    options = globals_of(ctx)
    config = configured(options, header=True)
    if not config.notify.any:
        raise UsageError(
            "no receiver of notifications is configured", hint="set `notify.slack`, `notify.ntfy` or another"
        )
    name = config.fleet.name
    outcomes = await Notifier(name, config.notify).send(test_notice(name), time.time())
    document = {
        "sent": [
            {"to": to, "ok": error is None, "detail": error.message if error else ""}
            for to, error in outcomes.items()
        ]
    }
    options.output.result(outcomes, _show, document)
    failed = [to for to, error in outcomes.items() if error]
    if len(failed) == len(outcomes):
        raise UnreachableError("the test notification reached no receiver")
    if failed:
        raise PartialError(f"the test did not reach {', '.join(failed)}")


def _show(outcomes: Mapping[str, LlmhostError | None], console: Console) -> None:
    grid = table("to", "sent", "detail")
    for to, error in outcomes.items():
        grid.add_row(to, "no" if error else "yes", error.message if error else "")
    console.print(grid)
