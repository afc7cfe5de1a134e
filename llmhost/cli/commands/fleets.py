"""`llmhost fleets`: every fleet that has workers, whatever the configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from llmhost.cli.fleet_view import hourly_cost
from llmhost.cli.frame import globals_of
from llmhost.cli.output import table
from llmhost.cli.running import asynchronous, configured_if_readable, wired
from llmhost.cli.text import clean, money
from llmhost.errors import LlmhostError, ProviderError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["fleets"]


@asynchronous
async def fleets(ctx: typer.Context) -> None:
    """Show every fleet that has workers, and what it costs.

    Fleets of other configurations and folders are shown too, and rented ones wherever they were made.
    `llmhost status --fleet NAME` and `llmhost down --fleet NAME` are about one of them. An invalid
    configuration hides none.

    Examples:
      llmhost fleets
      llmhost fleets --json | jq '.fleets[].name'
    """
    options = globals_of(ctx)
    config = configured_if_readable(options)
    async with wired(options, config) as wiring:
        from llmhost.wiring.other_fleets import OtherFleet

        source = None if options.source is None else str(options.source.absolute())
        own, failure = OtherFleet(config.fleet.name, config.fleet.provider, source, ()), None
        try:
            own = replace(own, workers=tuple(await wiring.provider.list()))
        except LlmhostError as error:  # which is the command's, once it has said what it knows
            own, failure = replace(own, unlisted=tuple(wiring.provider.on_record())), error
        found = [own, *await wiring.others.found(everywhere=True)]
    rows = [
        {
            "name": fleet.name,
            "provider": fleet.provider,
            "configured": fleet is own,
            "config": fleet.config,
            "workers": list(dict.fromkeys([*(worker.id for worker in fleet.workers), *fleet.unlisted])),
            "hourly_cost_usd": hourly_cost(fleet.workers),
        }
        for fleet in found
    ]
    total = hourly_cost([worker for fleet in found for worker in fleet.workers])
    options.output.result({"fleets": rows, "hourly_cost_usd": total}, _show)
    if failure is not None:
        raise failure
    if wiring.others.unread is not None:
        raise wiring.others.unread
    if wiring.others.unseen_accounts:
        from llmhost.wiring.other_fleets import UNSEEN_HINT

        raise ProviderError(
            "the account on vast.ai could not be listed: there may be more",
            hint=UNSEEN_HINT,
        )


def _show(document: Mapping[str, Any], console: Console) -> None:
    grid = table("fleet", "provider", "workers", "$/h", "configuration", right=("workers", "$/h"))
    for fleet in document["fleets"]:
        mark = " (this one)" if fleet["configured"] else ""
        count, cost = str(len(fleet["workers"])), money(fleet["hourly_cost_usd"])
        grid.add_row(fleet["name"] + mark, fleet["provider"], count, cost, clean(fleet["config"] or "-"))
    console.print(grid)
    console.print(f"{money(document['hourly_cost_usd'])}/h in all", style="dim")
