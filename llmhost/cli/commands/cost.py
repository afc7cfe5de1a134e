"""`llmhost cost`: what a month costs, against what it would cost elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.output import pairs, plain, table
from llmhost.cli.running import configured, parse_period, run_async, wired
from llmhost.cli.text import duration, money, percent, rounded, times
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.config.models import Config
    from llmhost.ledger.model import Comparison, Estimate, Plan, Price

__all__ = ["cost", "prices_elsewhere"]

#: USD an hour for an RTX 4090, and USD a month for 1 GB of a hosted Redis, where nothing says otherwise
_PRICE, _REDIS = 0.50, 50.0


#: USD; cents of more are noise
_NO_CENTS = 100.0


@dataclass(frozen=True, slots=True)
class _Cost:
    plan: Plan
    estimate: Estimate
    measured: tuple[str, ...]  #: the fields of the plan that were measured
    is_price_assumed: bool  #: no setting, no measurement and no --what-if has one


def cost(
    ctx: typer.Context,
    what_if: Annotated[
        str, typer.Option("--what-if", metavar="NAME=VALUE,…", help="Values to calculate with instead.")
    ] = "",
    from_stats: Annotated[
        bool, typer.Option("--from-stats", help="Calculate with what the ledger has measured.")
    ] = False,
    since: Annotated[str, typer.Option(help="With --from-stats: the period, such as 24h or 7d.")] = "30d",
) -> None:
    """Calculate a month's cost, and compare it with other prices.

    A value is the configuration's (`cost`, `fleet.gpus`, `targets.hit_ratio`, `scale`), or what was measured,
    or what --what-if says: gpus, hours_per_day, price_per_hour, redis_per_month, queries_per_month,
    hit_ratio, prompt_tokens, completion_tokens, tokens_per_s, baseline_hours_per_day, hit_usd, miss_usd.
    docs/cost-analysis.md has the formulas.

    Examples:
      llmhost cost
      llmhost cost --what-if hit_ratio=0.5,gpus=2
      llmhost cost --from-stats --since 7d
      llmhost cost --json | jq .versus
    """
    from llmhost.ledger.model import estimate

    options = globals_of(ctx)
    seconds, changes = parse_period(since), _parse(what_if)
    config = configured(options, header=True)
    plan, measured = _plan(config), tuple[str, ...]()
    if from_stats:
        found, measured_for = run_async(_measure(options, config, seconds))
        if found:
            options.output.note(f"measured over {duration(measured_for)}, as if a month went on like that")
        else:
            options.output.warn("nothing was measured in this period: these are the configured values")
        plan, measured = replace(plan, **found), tuple(found)
    plan = replace(plan, **changes)
    made = _Cost(
        plan,
        estimate(plan, prices_elsewhere(config)),
        tuple(name for name in measured if name not in changes),
        _price(config) is None and "price_per_hour" not in {*measured, *changes},
    )
    options.output.result(made, _show, _json(made))


def _parse(what_if: str) -> Mapping[str, float]:
    from llmhost.ledger.model import Plan

    names = [field.name for field in fields(Plan)]
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in what_if.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in names:
            nearest = get_close_matches(name, names, n=1)
            meant = f"; did you mean {nearest[0]}?" if nearest else ""
            raise UsageError(f"--what-if knows no {name!r}{meant}", hint=f"it knows {', '.join(names)}")
        found[name] = _number(name, value)
    return found


def _number(name: str, text: str) -> float:
    most = {"hit_ratio": 1.0, "hours_per_day": 24.0, "baseline_hours_per_day": 24.0}.get(name, 1e12)
    least = {"queries_per_month": 1.0, "tokens_per_s": 0.001}.get(name, 0.0)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise UsageError(f"--what-if {name}={text}: not a number from {least:g} to {most:g}")
    return value


def _price(config: Config) -> float | None:
    """USD an hour of a worker, by the configuration; None where it has none."""
    if config.cost.price_per_hour is not None:
        return config.cost.price_per_hour
    rented = config.vast.max_price if config.fleet.rents else None
    return rented or config.fleet.price_per_hour or None


def _plan(config: Config) -> Plan:
    from llmhost.ledger.model import Plan

    own, redis, price = config.cost, config.cost.redis_per_month, _price(config)
    return Plan(
        gpus=config.fleet.gpus,
        hours_per_day=own.hours_per_day,
        price_per_hour=_PRICE if price is None else price,
        redis_per_month=(_REDIS if config.redis.is_own else 0.0) if redis is None else redis,
        queries_per_month=own.queries_per_month,
        hit_ratio=config.targets.hit_ratio,
        prompt_tokens=own.prompt_tokens,
        completion_tokens=config.scale.tokens_per_answer,
        tokens_per_s=config.scale.tokens_per_s,
    )


def prices_elsewhere(config: Config) -> list[Price]:
    """What `cost` and `stats` compare with."""
    from llmhost.ledger.model import Price

    return [
        Price(one.name, one.as_of, one.usd_per_hour, one.usd_per_million, one.usd_per_query)
        for one in config.cost.compared
    ]


async def _measure(options: Globals, config: Config, period: float) -> tuple[Mapping[str, float], float]:
    """The plan's values that are known, and over how many seconds they were measured."""
    from llmhost.fleet.spending import tally
    from llmhost.ledger.buckets import first_bucket
    from llmhost.ledger.cost import corrected
    from llmhost.ledger.model import begun, measured

    now = time.time()
    async with wired(options, config) as wiring:
        ledger = await wiring.ledger()
        rentals = await ledger.rentals()
        rentals = corrected(rentals, tally(rentals, await ledger.charges(), None, now).by_worker, now)
        # Before the first thing that is known there was no fleet, rather than one without work.
        since = max(first_bucket(now - period, now).start, begun(rentals, await ledger.first(), now))
        if since >= now:
            return {}, 0.0
        return measured(await ledger.totals(since, now), rentals, since, now), now - since


def _json(cost: _Cost) -> dict[str, object]:
    return {"plan": cost.plan, "measured": cost.measured, **plain(cost.estimate)}


def _show(cost: _Cost, console: Console) -> None:
    plan, made = cost.plan, cost.estimate
    sure = dict.fromkeys(cost.measured, " (measured)")
    if cost.is_price_assumed:
        sure["price_per_hour"] = " (assumed)"

    def of(name: str, text: str) -> str:
        return text + sure.get(name, "")

    console.print(
        pairs(
            ("workers", of("gpus", f"{plan.gpus:.3g}, {plan.hours_per_day:g} h/day")),
            ("rent", f"{money(made.gpu_usd)}/month"),
            ("price", of("price_per_hour", f"{money(plan.price_per_hour)}/h")),
            ("Redis", f"{money(made.redis_usd)}/month"),
            ("questions", of("queries_per_month", f"{plan.queries_per_month:,.0f}/month")),
            ("total", f"{money(made.monthly_usd)}/month"),
            ("hit ratio", of("hit_ratio", percent(plan.hit_ratio))),
            ("a question", money(made.per_query_usd)),
            ("utilization", "-" if made.utilization is None else percent(made.utilization)),
            ("a hit · a miss", f"{money(made.hit_usd)} · {money(made.miss_usd)}"),
            ("cache pays from", _ratio(made.break_even_hit_ratio)),
        )
    )
    if cost.is_price_assumed:
        console.print("assumed: an RTX 4090's price; `cost.price_per_hour` sets yours", style="dim")
    is_too_much = plan.hit_ratio < 1 if made.utilization is None else made.utilization > 1
    if is_too_much:
        console.print("\nThe workers cannot answer that many questions.", style="bold")
    console.print()
    numbers = ("month", "question", "savings", "ROI", "even at")
    grid = table("against", "as of", *numbers, right=numbers)
    for row in made.versus:
        grid.add_row(
            row.name,
            row.as_of[: len("2026-11")],
            f"${row.monthly_usd:,.0f}" if row.monthly_usd >= _NO_CENTS else money(row.monthly_usd),
            money(row.per_query_usd),
            _savings(row),
            "-" if row.roi is None else f"{row.roi * 100:,.0f} %",
            _break_even(row),
        )
    console.print(grid)
    console.print(
        "even at: from which hit ratio, or how many questions a month, it costs less here", style="dim"
    )
    if any(row.savings_ratio is not None and row.savings_ratio < 0 for row in made.versus):
        console.print("savings of 24 x: it costs 24 times as much here", style="dim")
    if any(row.as_of == "paper" for row in made.versus):
        console.print("paper: a price of the paper in docs/cost-analysis.md", style="dim")


def _savings(row: Comparison) -> str:
    """``91 %``; ``4.2 x`` where it costs more."""
    if row.savings_ratio is None:
        return "-"
    return percent(row.savings_ratio) if row.savings_ratio >= 0 else times(1 - row.savings_ratio)


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"{percent(ratio)} hits" if ratio else "always"


def _break_even(row: Comparison) -> str:
    if row.by_hour:
        return "never" if row.break_even_hit_ratio is None else _ratio(row.break_even_hit_ratio)
    if row.break_even_queries is None:
        return "never"
    return rounded(row.break_even_queries) if row.break_even_queries else "always"
