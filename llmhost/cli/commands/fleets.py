"""`llmhost fleets`: every fleet that has workers, whatever the configuration says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from llmhost.cli.fleet_view import hourly_cost, show_failures
from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import asynchronous, configured_if_readable, wired
from llmhost.cli.text import clean, money
from llmhost.errors import LlmhostError, ProviderError, StateError, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.fleet.results import Failure
    from llmhost.wiring import Wiring
    from llmhost.wiring.other_fleets import OtherFleet, OtherFleets

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
        own, doubts, failure = await _looked_at(wiring.others.configured(options.source), wiring)
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
    _check_all_seen(options, wiring.others, [*doubts, *wiring.others.doubts], failure)


async def _looked_at(
    own: OtherFleet, wiring: Wiring
) -> tuple[OtherFleet, Sequence[Failure], LlmhostError | None]:
    """The configured fleet with its workers, those on record too; its purchases in doubt; and why that may
    not be all, which is the command's error once it has said what it knows."""
    from llmhost.fleet.clock import SystemClock
    from llmhost.fleet.doubts import find_doubts
    from llmhost.fleet.models import Registered
    from llmhost.fleet.provider import list_all_workers

    provider, records, known = wiring.provider, await wiring.fleet_records(), Registered()
    unread: StoreError | None = None
    if provider.rents:
        try:
            known = await records.known(certain=wiring.embedded_redis is None)
        except StoreError as error:
            unread = error
    try:
        own = replace(own, workers=tuple(await list_all_workers(provider, known)))
        return own, await find_doubts(provider, SystemClock(), records), _unshown(unread or wiring.no_redis)
    except LlmhostError as error:
        failure = error
    recorded = {*known.ids}
    with suppress(StateError):
        recorded |= {*provider.on_record()}
    if isinstance(failure, StateError):  # the account can be listed
        with suppress(LlmhostError):
            own = replace(own, workers=tuple((await provider.fleets()).get(own.name, ())))
    return replace(own, unlisted=tuple(sorted(recorded))), (), failure


def _unshown(why: StoreError | None) -> LlmhostError | None:
    if why is None:
        return None
    return StoreUnavailable(f"what other machines have rented may not be shown: {why.message}", hint=why.hint)


def _check_all_seen(
    options: Globals, others: OtherFleets, doubts: Sequence[Failure], failure: LlmhostError | None
) -> None:
    """Raises where something may be rented that is not shown."""
    error = failure or others.unread
    if error is None and others.unseen_accounts:
        error = ProviderError(
            "the account on vast.ai could not be listed: there may be more", hint=others.unseen_hint()
        )
    if error is None:
        show_failures(options.output, doubts, done=True)
        return
    for doubt in doubts:
        options.output.error(doubt.message, doubt.hint)
    raise error


def _show(document: Mapping[str, Any], console: Console) -> None:
    grid = table("fleet", "provider", "workers", "$/h", "configuration", right=("workers", "$/h"))
    for fleet in document["fleets"]:
        mark = " (this one)" if fleet["configured"] else ""
        count, cost = str(len(fleet["workers"])), money(fleet["hourly_cost_usd"])
        grid.add_row(fleet["name"] + mark, fleet["provider"], count, cost, clean(fleet["config"] or "-"))
    console.print(grid)
    console.print(f"{money(document['hourly_cost_usd'])}/h in all", style="dim")
