"""`llmhost offers`: the offers that fit the fleet, best first, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.frame import globals_of
from llmhost.cli.output import table
from llmhost.cli.running import asynchronous, configured, wired
from llmhost.cli.text import clean, counted, duration, money
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from llmhost.cli.output import Output
    from llmhost.config.models import Config
    from llmhost.fleet.models import Offer
    from llmhost.fleet.offers import TokenCost
    from llmhost.fleet.registry import Ban, FleetRecords
    from llmhost.wiring import Wiring

__all__ = ["offers"]

#: rows without --limit, so that the table and the text below fit on a screen
_ROWS = 10

#: points of vast.ai's performance benchmark; the price of one has too many zeros to read
_POINTS = 100

#: why an offer is rejected whose machine failed
_BANNED = "a machine that failed"

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
    unban: Annotated[
        list[str] | None,
        typer.Option(metavar="MACHINE", help="Rent this machine again although it failed, or `all`."),
    ] = None,
) -> None:
    """Show the offers that fit, best first, and why the others do not.

    It buys nothing. Machines that failed are banned for `vast.ban_for`; --unban lifts that. Offers are
    ranked by the cost of a token over `vast.expected_stay`: price, disk, traffic and boot, divided by the
    measured speed of the GPU, or until then by its memory bandwidth. -v explains each rank.

    Examples:
      llmhost offers
      llmhost offers --gpus 3 --max-price 0.50
      llmhost offers --unban 28114
      llmhost offers 'gpu_name in [RTX_4090,RTX_3090] geolocation=US'
      llmhost offers --interruptible --max-price 0.40 --json | jq '.offers[0]'
    """
    options = globals_of(ctx)
    rented = {
        "vast.offers": " ".join(terms) if terms else None,
        "vast.interruptible": interruptible,
        "vast.max_price": max_price,
        "vast.disk": disk,
    }
    config = configured(options, {**rented, "fleet.gpus": gpus}, header=True)
    _check_sense(config, {**rented, "unban": unban})
    rows = limit if limit is not None or options.json else _ROWS
    async with wired(options, config) as wiring:
        found = await _find(wiring, config, unban or (), rows, options.output)
    show = partial(_show, config=config, verbose=options.verbose)
    options.output.result(found, show, _json(found, config))
    if not found.offers:
        options.output.note(_advice(found.rejected, config))


async def _find(
    wiring: Wiring, config: Config, unban: Sequence[str], rows: int | None, output: Output
) -> _Ranked:
    """What is for rent, ranked, without the machines that failed."""
    from llmhost.fleet.offers import token_costs
    from llmhost.wiring.fleets import fleet_spec

    spec, records = fleet_spec(config), await wiring.fleet_records()
    market = await wiring.provider.offers(spec)
    banned = await _banned(records, unban, output) if spec.rents else {}
    fitting = [offer for offer in market.offers if offer.machine not in banned]
    speeds = await records.speeds(spec, {offer.gpu for offer in fitting})
    costs = token_costs(fitting, spec.stay, speeds)
    failed = len(market.offers) - len(fitting)
    rejected = {**market.rejected, _BANNED: failed} if failed else market.rejected
    return _Ranked(rejected, costs, _once(costs)[:rows], banned)


def _once(costs: Sequence[tuple[Offer, TokenCost]]) -> Sequence[tuple[Offer, TokenCost]]:
    """Of several offers of one machine the best one, which comes first."""
    best: dict[str, tuple[Offer, TokenCost]] = {}
    for offer, cost in costs:
        best.setdefault(offer.machine or offer.id, (offer, cost))
    return list(best.values())


async def _banned(records: FleetRecords, lifted: Sequence[str], output: Output) -> Mapping[str, Ban]:
    """The machines that stay banned once the bans of those named are lifted."""
    banned = await records.bans()
    names = set(banned) if "all" in lifted else set(lifted)
    if unknown := names - set(banned):
        output.warn(f"not banned: {', '.join(sorted(unknown))}")
    await records.lift_bans(names)
    for warning in records.warnings:
        output.warn(warning)
    return {machine: ban for machine, ban in banned.items() if machine not in names}


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Offers with their cost, best first; `shown` are the first of `offers`, one of each machine. `banned`
    machines have none.
    """

    rejected: Mapping[str, int]
    offers: Sequence[tuple[Offer, TokenCost]]
    shown: Sequence[tuple[Offer, TokenCost]]
    banned: Mapping[str, Ban]

    def others(self, offer: Offer) -> int:
        """How many more offers of its machine fit."""
        return len(
            {other.id for other, _ in self.offers if offer.machine == other.machine != ""} - {offer.id}
        )


def _check_sense(config: Config, rented: Mapping[str, Any]) -> None:
    if not config.fleet.rents and any(value is not None for value in rented.values()):
        raise UsageError(
            "filter, price, disk and bans are for rented machines, "
            f"but this fleet's provider is {config.fleet.provider}",
            hint="set `fleet.provider: vast`, or write a new file with `llmhost init --provider vast`",
        )


def _json(found: _Ranked, config: Config) -> dict[str, object]:
    """`fitting` is how many offers fit; `offers` shows the best one of each machine, with how many
    `other_offers` of it fit. `hourly_cost_usd` is what the best ones cost for `gpus` workers, None where too
    few fit. `rejected` counts each offer under the first filter that it fails. `banned` are machines that
    failed, with Unix seconds since when and until when.
    """
    stay = config.vast.expected_stay
    return {
        "provider": config.fleet.provider,
        "offers": [
            {**_offer_json(number, offer, cost, stay), "other_offers": found.others(offer)}
            for number, (offer, cost) in enumerate(found.shown, 1)
        ],
        "fitting": len(found.offers),
        "rejected": found.rejected,
        "gpus": config.fleet.gpus,
        "hourly_cost_usd": _cost_of_best(found, config.fleet.gpus),
        "expected_stay_s": stay,
        "banned": [
            {"machine": machine, "reason": ban.reason, "at": ban.at, "until": ban.at + config.vast.ban_for}
            for machine, ban in found.banned.items()
        ],
    }


def _offer_json(rank: int, offer: Offer, cost: TokenCost, stay: float) -> dict[str, object]:
    """USD an hour with the disk and without traffic; None is unknown or does not apply.

    `rent_usd` and `traffic_usd` are for the expected stay, `boot_usd` is the rent while the model is
    downloaded, `boot_s` the download of image and model. `measured` says whether `tokens_per_s` is.
    """
    return {
        "rank": rank,
        "why": _reason(offer, cost, stay),
        "usd_per_million_tokens": cost.usd_per_million,
        "tokens_per_s": cost.tokens_per_s,
        "measured": cost.measured,
        "rent_usd": cost.rent_usd,
        "traffic_usd": cost.traffic_usd,
        "boot_usd": cost.idle_usd,
        "boot_s": cost.boot_seconds,
        "memory_gb_per_s": offer.bandwidth or None,
        "contract_s": offer.contract,
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


def _reason(offer: Offer, cost: TokenCost, stay: float) -> str:
    """Why it has its rank: what its tokens cost, and of what that is made."""
    unknown = ", whose price is not known" if offer.download_price is None else ""
    traffic = f"{money(cost.traffic_usd)} of traffic{unknown}"
    parts = f"{duration(stay)} cost {money(cost.rent_usd)} of rent and {traffic}"
    if cost.boot_seconds:
        parts += f", boot {duration(cost.boot_seconds)}"
    if cost.tokens_per_s is None:
        return f"{parts}; its speed is not known"
    source = "measured" if cost.measured else f"by {offer.bandwidth:,.0f} GB/s"
    speed = f"{cost.tokens_per_s:,.0f} tok/s ({source})"
    if cost.usd_per_million is None:
        return f"over before it is ready: {parts}, {speed}"
    return f"{money(cost.usd_per_million)} per million tokens: {parts}, {speed}"


def _cost_of_best(found: _Ranked, gpus: int) -> float | None:
    best = found.offers[:gpus]
    return sum(offer.price_per_hour for offer, _ in best) if len(best) == gpus else None


def _advice(rejected: Mapping[str, int], config: Config) -> str:
    """Which filter to relax: the last one at which offers failed."""
    if not config.fleet.rents:
        return "all of them are in use"
    if not any(rejected.values()):
        return "no offers at the moment; try again in a few minutes"
    if count := rejected.get(_BANNED):
        return f"{count} would fit, but their machines failed: `llmhost offers --unban MACHINE` lifts a ban"
    from llmhost.config.offer_filter import parse_filter

    order = {term.text: number for number, term in enumerate(parse_filter(config.vast.offers))}
    # What is not a term, such as the price, is checked after all of them.
    furthest = max(rejected, key=lambda reason: (order.get(reason, len(order)), rejected[reason]))
    count = rejected[furthest]
    which = "the offer that it rejected passes" if count == 1 else f"the {count} that it rejected pass"
    return f"relax `{clean(furthest)}` first: {which} all filters before it"


def _show(found: _Ranked, console: Console, *, config: Config, verbose: bool) -> None:
    best = [offer for offer, _ in found.shown]
    if not config.fleet.rents:
        _show_places(best, config.fleet.provider, console)
        return
    if best:
        console.print(_grid(found.shown))
        console.print()
        from rich.table import Table

        # A grid, so that a reason of two lines does not begin its second one where ranks stand.
        reasons = Table.grid(padding=(0, 1))
        for number, (offer, cost) in enumerate(found.shown if verbose else found.shown[:1], 1):
            more = found.others(offer)
            also = f"; {counted(more, 'more offer')} of its machine" if more else ""
            reasons.add_row(
                f"{number}:", f"{_reason(offer, cost, config.vast.expected_stay)}{also}", style="dim"
            )
        console.print(reasons)
        console.print()
    _show_counts(found, config.fleet.gpus, console)
    if best:
        _explain(best, config, console)
    if found.rejected:
        grid = table("rejected", "by first failing filter", right=("rejected",))
        for reason, count in sorted(found.rejected.items(), key=lambda item: -item[1]):
            grid.add_row(f"{count:,}", clean(reason))
        console.print()
        console.print(grid)
    if found.banned:
        grid = table("banned", "until", "why; `--unban MACHINE` lifts it")
        for machine, ban in found.banned.items():
            until = datetime.fromtimestamp(ban.at + config.vast.ban_for).astimezone()
            grid.add_row(clean(machine), f"{until:%Y-%m-%d %H:%M}", clean(ban.reason))
        console.print()
        console.print(grid)


def _grid(rows: Sequence[tuple[Offer, TokenCost]]) -> Table:
    bids = any(row.bid is not None for row, _ in rows)
    last = "bid" if bids else "CUDA"
    numbers = ("", "$/h", "$/Mtok", "rel.", "Mb/s", "$/GB", last)
    grid = table("", "offer", "gpu", "$/h", "$/Mtok", "rel.", "region", "Mb/s", "$/GB", last, right=numbers)
    for number, (row, cost) in enumerate(rows, 1):
        price, traffic = cost.usd_per_million, row.download_price
        grid.add_row(
            str(number),
            clean(row.id),
            clean(row.gpu),
            f"{row.price_per_hour:.3f}",
            "-" if price is None else f"{price:.2f}",
            f"{row.reliability:.3f}",
            clean(row.region).strip(" ,") or "-",
            f"{row.download:.0f}",
            "?" if traffic is None else f"{traffic:.4f}".rstrip("0").rstrip("."),
            (f"{row.bid:.3f}" if row.bid is not None else "-") if bids else f"{row.cuda:g}",
        )
    return grid


def _show_counts(found: _Ranked, gpus: int, console: Console) -> None:
    fitting, shown, cost = len(found.offers), len(found.shown), _cost_of_best(found, gpus)
    most = f"; the best {shown} are shown" if shown < fitting else ""
    console.print(f"{fitting} of {fitting + sum(found.rejected.values())} offers fit{most}.")
    if cost is not None:
        best = "The best one costs" if gpus == 1 else f"The best {gpus} cost"
        console.print(f"{best} {money(cost)}/h, {money(cost * 24)} a day.")
    elif shown:
        console.print(f"These are too few for {gpus} workers.")


def _explain(rows: Sequence[Offer], config: Config, console: Console) -> None:
    lines = [
        f"$/h includes {config.vast.disk:g} GB of disk; traffic costs $/GB extra.",
        "$/Mtok is the estimated cost of a million tokens, with traffic and boot: lowest first.",
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
