"""`llmhost fleets`: every fleet that has workers, whatever the configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from llmhost.cli.fleet_view import hourly_cost
from llmhost.cli.frame import globals_of
from llmhost.cli.output import table
from llmhost.cli.running import asynchronous, configured_if_readable, wired
from llmhost.cli.text import clean, money
from llmhost.errors import LlmhostError, ProviderError, StateError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.wiring import Wiring
    from llmhost.wiring.other_fleets import OtherFleet

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
        own, failure = await _looked_at(wiring.others.configured(options.source), wiring)
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


async def _looked_at(own: OtherFleet, wiring: Wiring) -> tuple[OtherFleet, LlmhostError | None]:
    """The configured fleet with its workers, those on record too; and why that may not be all, which is the
    command's error once it has said what it knows."""
    from llmhost.fleet.models import Registered
    from llmhost.fleet.provider import list_all_workers

    provider, known = wiring.provider, Registered()
    if provider.rents:
        with suppress(LlmhostError):
            known = await (await wiring.fleet_records()).known()
    try:
        own = replace(own, workers=tuple(await list_all_workers(provider, known)))
        unseen = [intent for intent in await provider.intents() if intent.hint is not None]
    except LlmhostError as error:
        recorded = {*known.ids}
        with suppress(StateError):
            recorded |= {*provider.on_record()}
        return replace(own, unlisted=tuple(sorted(recorded))), error
    for intent in unseen:
        message = f"whether the purchase {intent.id} bought a worker cannot be seen with this API key"
        return own, ProviderError(message, hint=intent.hint)
    return own, None


def _show(document: Mapping[str, Any], console: Console) -> None:
    grid = table("fleet", "provider", "workers", "$/h", "configuration", right=("workers", "$/h"))
    for fleet in document["fleets"]:
        mark = " (this one)" if fleet["configured"] else ""
        count, cost = str(len(fleet["workers"])), money(fleet["hourly_cost_usd"])
        grid.add_row(fleet["name"] + mark, fleet["provider"], count, cost, clean(fleet["config"] or "-"))
    console.print(grid)
    console.print(f"{money(document['hourly_cost_usd'])}/h in all", style="dim")
