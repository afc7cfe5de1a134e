"""`llmhost offers`: the offers that fit the fleet, best first, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.output import table
from llmhost.cli.running import asynchronous, configured, wired
from llmhost.cli.text import clean, money
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from llmhost.config.models import Config
    from llmhost.fleet.models import Market, Offer

__all__ = ["offers"]

#: rows without --limit, so that the table and the text below fit on a screen
_ROWS = 10

#: points of the provider's performance benchmark; the price of one has too many zeros to read
_POINTS = 100

#: what is listed for the providers that rent nothing
_PLACES = {
    "local": "Places for processes on this machine; nothing is rented.",
    "static": "Servers in `fleet.workers` that are not in use; nothing is rented.",
}


@asynchronous
async def offers(
    ctx: typer.Context,
    terms: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILTER", help="Filter, instead of `vast.offers`; put it in quotes."),
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Number of workers, instead of `fleet.gpus`.")
    ] = None,
    interruptible: Annotated[
        bool | None,
        typer.Option(
            "--interruptible/--on-demand",
            help="Bid up to --max-price or `vast.max_bid`, or pay the fixed price.",
            show_default=False,
        ),
    ] = None,
    max_price: Annotated[float | None, typer.Option(metavar="USD", help="Maximum price per hour.")] = None,
    disk: Annotated[float | None, typer.Option(metavar="GB", help="Disk for each worker.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"Number of offers to show; by default {_ROWS}, and all with --json."),
    ] = None,
) -> None:
    """Show the offers that fit, best first, and why the others do not.

    It buys nothing. Offers are ranked by the price with disk, divided by the performance.

    Examples:
      llmhost offers
      llmhost offers --gpus 3 --max-price 0.50
      llmhost offers 'gpu_name in [RTX_4090,RTX_3090] reliability>0.98 geolocation=US'
      llmhost offers --interruptible --max-price 0.40 --json | jq '.offers[0]'
    """
    options = globals_of(ctx)
    rented = {
        "vast.offers": " ".join(terms) if terms else None,
        "vast.interruptible": interruptible,
        "vast.max_price": max_price,
        "vast.disk": disk,
    }
    config = configured(options, {**rented, "fleet.gpus": gpus})
    _check_sense(config, rented)
    from llmhost.wiring.fleets import fleet_spec

    async with wired(options, config) as wiring:
        market = await wiring.provider.offers(fleet_spec(config))
    rows = limit if limit is not None or options.json else _ROWS
    options.output.result(
        market, lambda shown, console: _show(shown, rows, config, console), _json(market, rows, config)
    )
    if not market.offers:
        options.output.note(_advice(market.rejected, config))


def _check_sense(config: Config, rented: Mapping[str, Any]) -> None:
    if not config.fleet.rents and any(value is not None for value in rented.values()):
        raise UsageError(
            "filter, price and disk are for rented machines, "
            f"but this fleet's provider is {config.fleet.provider}",
            hint="set `fleet.provider: vast`, or write a new file with `llmhost init --provider vast`",
        )


def _json(market: Market, rows: int | None, config: Config) -> dict[str, object]:
    """`fitting` is how many offers fit, of which `offers` are shown. `hourly_cost_usd` is what the best ones
    cost for `gpus` workers, None where too few fit. `rejected` counts each offer under the first filter that
    it fails.
    """
    return {
        "provider": config.fleet.provider,
        "offers": [_offer_json(offer) for offer in market.offers[:rows]],
        "fitting": len(market.offers),
        "rejected": market.rejected,
        "gpus": config.fleet.gpus,
        "hourly_cost_usd": _cost_of_best(market, config.fleet.gpus),
    }


def _offer_json(offer: Offer) -> dict[str, object]:
    """USD an hour with the disk and without traffic; None is unknown or does not apply."""
    return {
        "id": offer.id,
        "gpu": offer.gpu,
        "price_per_hour": offer.price_per_hour,
        "price_per_100": _price_per_100(offer),
        "reliability": offer.reliability,
        "region": offer.region,
        "machine": offer.machine,
        "performance": offer.performance or None,
        "bid": offer.bid,
        "download_mbps": offer.download,
        "download_usd_per_gb": offer.download_price,
        "cuda": offer.cuda,
        "verified": offer.verified,
    }


def _price_per_100(offer: Offer) -> float | None:
    from llmhost.fleet.offers import price_of_performance

    point = price_of_performance(offer)
    return None if point is None else point * _POINTS


def _cost_of_best(market: Market, gpus: int) -> float | None:
    best = market.offers[:gpus]
    return sum(offer.price_per_hour for offer in best) if len(best) == gpus else None


def _advice(rejected: Mapping[str, int], config: Config) -> str:
    """Which filter to relax: the last one at which offers failed."""
    if not config.fleet.rents:
        return "all of them are in use"
    if not any(rejected.values()):
        return "no offers at the moment; try again in a few minutes"
    from llmhost.config.offer_filter import parse_filter

    order = {term.text: number for number, term in enumerate(parse_filter(config.vast.offers))}
    # What is not a term, such as the price, is checked after all of them.
    furthest = max(rejected, key=lambda reason: (order.get(reason, len(order)), rejected[reason]))
    count = rejected[furthest]
    which = "the offer that it rejected passes" if count == 1 else f"the {count} that it rejected pass"
    return f"relax `{clean(furthest)}` first: {which} all filters before it"


def _show(market: Market, rows: int | None, config: Config, console: Console) -> None:
    best = market.offers[:rows]
    if not config.fleet.rents:
        _show_places(best, config.fleet.provider, console)
        return
    if best:
        console.print(_grid(best))
        console.print()
    _show_counts(market, len(best), config.fleet.gpus, console)
    if best:
        _explain(best, config, console)
    if market.rejected:
        grid = table("rejected", "by first failing filter", right=("rejected",))
        for reason, count in sorted(market.rejected.items(), key=lambda item: -item[1]):
            grid.add_row(f"{count:,}", clean(reason))
        console.print()
        console.print(grid)


def _grid(rows: Sequence[Offer]) -> Table:
    bids = any(row.bid is not None for row in rows)
    last = "bid" if bids else "CUDA"
    numbers = ("", "$/h", "$/100", "rel.", "Mb/s", "$/GB", last)
    grid = table("", "offer", "gpu", "$/h", "$/100", "rel.", "region", "Mb/s", "$/GB", last, right=numbers)
    for number, row in enumerate(rows, 1):
        per_100 = _price_per_100(row)
        grid.add_row(
            str(number),
            clean(row.id),
            clean(row.gpu),
            f"{row.price_per_hour:.3f}",
            "-" if per_100 is None else f"{per_100:.3f}",
            f"{row.reliability:.3f}",
            clean(row.region).strip(" ,") or "-",
            f"{row.download:.0f}",
            f"{row.download_price:.4f}".rstrip("0").rstrip("."),
            (f"{row.bid:.3f}" if row.bid is not None else "-") if bids else f"{row.cuda:g}",
        )
    return grid


def _show_counts(market: Market, shown: int, gpus: int, console: Console) -> None:
    fitting, cost = len(market.offers), _cost_of_best(market, gpus)
    most = f"; the best {shown} are shown" if shown < fitting else ""
    console.print(f"{fitting} of {fitting + sum(market.rejected.values())} offers fit{most}.")
    if cost is not None:
        best = "The best one costs" if gpus == 1 else f"The best {gpus} cost"
        console.print(f"{best} {money(cost)}/h, {money(cost * 24)} a day.")
    elif shown:
        console.print(f"These are too few for {gpus} workers.")


def _explain(rows: Sequence[Offer], config: Config, console: Console) -> None:
    lines = [
        f"$/h includes {config.vast.disk:g} GB of disk; traffic costs $/GB extra.",
        f"$/100 is $/h per {_POINTS} points of DLPerf, the performance benchmark: lowest first.",
    ]
    if any(row.bid is not None for row in rows):
        lines.append("These are bids: a machine is lost when someone bids more.")
    for line in lines:
        console.print(line, style="dim")


def _show_places(rows: Sequence[Offer], provider: str, console: Console) -> None:
    if rows:
        grid = table("place", "where", "$/h", right=("$/h",))
        for row in rows:
            grid.add_row(clean(row.id), clean(row.region), money(row.price_per_hour))
        console.print(grid)
        console.print()
    console.print(_PLACES[provider])
