"""`llmhost stats`: hits, latency, cost, savings and goals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.output import plain, table
from llmhost.cli.running import configured, parse_period, run_async, wired
from llmhost.cli.text import clean, data_size, milliseconds, money, percent, spent
from llmhost.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from llmhost.cache.calibration import LabelsReport
    from llmhost.cache.catalog import CacheUsage
    from llmhost.config.models import Config
    from llmhost.ledger.report import Report, Shadow

__all__ = ["stats"]

#: seconds; how often --watch looks again
_WATCH = 2.0

#: how a target reads to people: its words, its sign, and how to write its figures
_TARGETS = {
    "hit_ratio": ("hit ratio", ">", percent),
    "hit_p95_ms": ("hit latency, p95", "<", milliseconds),
    "miss_p95_ms": ("miss latency, p95", "<", milliseconds),
    "usd_per_query": ("cost per question", "<", money),
}


@dataclass(frozen=True, slots=True)
class _Stats:
    """What is shown of the last `since` seconds; `usage` and `labels` are of now."""

    since: float
    report: Report
    usage: CacheUsage
    labels: LabelsReport
    max_error: float
    estimated: bool  #: a bill may still correct what was spent


def stats(
    ctx: typer.Context,
    since: Annotated[str, typer.Option(help="Period to report on: 30m, 24h, 7d.")] = "24h",
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every 2 s, until Ctrl-C.")] = False,
) -> None:
    """Show hits, latency, cost, savings, and whether the goals are met.

    Examples:
      llmhost stats
      llmhost stats --since 7d
      llmhost stats --json | jq .hit_ratio
    """
    options = globals_of(ctx)
    if watch and options.json:
        raise UsageError("--watch is for people; --json prints once", hint="leave one of them out")
    seconds = parse_period(since)
    config = configured(options, header=True)
    if watch:
        run_async(_watch(options, config, seconds))
        return
    collected = run_async(_collect(options, config, seconds))
    options.output.result(collected, lambda shown, console: console.print(_picture(shown)), _json(collected))


async def _watch(options: Globals, config: Config, since: float) -> None:
    from rich.live import Live

    with Live(console=options.output.console(), auto_refresh=False, screen=True) as live:
        try:
            while True:
                live.update(_picture(await _collect(options, config, since)), refresh=True)
                await asyncio.sleep(_WATCH)
        except asyncio.CancelledError:
            if task := asyncio.current_task():
                task.uncancel()  # Ctrl-C is how one ends it


async def _collect(options: Globals, config: Config, since: float) -> _Stats:
    from llmhost.cache.catalog import cache_usage
    from llmhost.fleet.spending import tally
    from llmhost.ledger.cost import corrected
    from llmhost.ledger.report import make_report

    now = time.time()
    async with wired(options, config) as wiring:
        ledger = await wiring.ledger()
        totals, rentals = await ledger.totals(now - since, now), await ledger.rentals()
        by_worker = tally(rentals, await ledger.charges(), None, now).by_worker
        client = await wiring.redis()
        usage = await cache_usage(client, wiring.caches.keys)
        labels = await wiring.caches.labels(client).report()
        report = make_report(totals, corrected(rentals, by_worker, now), wiring.targets, now - since, now)
    return _Stats(since, report, usage, labels, config.cache.max_error, config.fleet.rents)


def _json(stats: _Stats) -> dict[str, object]:
    from llmhost.cli.trust_view import served_error_json

    report = stats.report
    return {
        "since_s": stats.since,
        "requests": report.requests,
        "hits": {"exact": report.exact_hits, "semantic": report.semantic_hits},
        "misses": report.misses,
        "bypassed": report.bypassed,
        "errors": report.errors,
        "audits": report.audits,
        "renewals": report.renewals,
        "judged": report.judged,
        "embeddings": report.embeddings,
        "hit_ratio": report.hit_ratio,
        "latency_ms": {"hit": report.hit_ms, "miss": report.miss_ms},
        "user_latency_ms": {"hit": report.hit_user_ms, "miss": report.miss_user_ms},
        "tokens": {"prompt": report.prompt_tokens, "completion": report.completion_tokens},
        "cost": {**plain(report.money), "spent_estimated": stats.estimated},
        "redis": stats.usage,
        "served_error": served_error_json(stats.labels, stats.max_error),
        "targets": report.targets,
        "shadow": _shadow_json(report.shadow),
        "kinds": report.kinds,
    }


def _shadow_json(shadow: Shadow) -> dict[str, object]:
    """`engine_disagrees` is how often the engine contradicted its own stored answer to the same question."""
    from llmhost.cache.calibration import Tally, served_error

    return {
        "hits": {"exact": shadow.exact_hits, "semantic": shadow.semantic_hits},
        "hit_ratio": shadow.hit_ratio,
        "saved_usd": shadow.saved_usd,
        "compared": {"exact": shadow.exact, "semantic": shadow.semantic},
        "served_error": served_error(Tally(shadow.semantic.right, shadow.semantic.wrong)),
        "engine_disagrees": served_error(Tally(shadow.exact.right, shadow.exact.wrong)),
    }


def _picture(stats: _Stats) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from llmhost.cli.trust_view import served_error_lines
    from llmhost.config.fields import format_duration

    report = stats.report
    title = Text(f"The last {format_duration(stats.since)}", style="bold")
    note = Text("Users wait from the start of a command; in process is without that.", style="dim")
    latencies = Group(_latencies(report), note)
    wrong = Text("\n".join(served_error_lines(stats.labels, stats.max_error)))
    parts = [
        title,
        _questions(report),
        *([_kinds(report.kinds)] if report.kinds else []),
        *([_shadow(report.shadow)] if report.shadow.hit_ratio is not None else []),
        latencies,
        wrong,
        _costs(report, stats.estimated),
        _redis(stats.usage),
        _targets(report),
    ]
    return Group(*(part for pair in zip(parts, [Text()] * len(parts), strict=True) for part in pair))


def _questions(report: Report) -> RenderableType:
    grid = _numbers("questions", "exact hits", "semantic hits", "misses", "hit ratio", "no cache", "errors")
    grid.add_row(
        f"{report.requests:,}",
        f"{report.exact_hits:,}",
        f"{report.semantic_hits:,}",
        f"{report.misses:,}",
        _or_dash(report.hit_ratio, percent),
        f"{report.bypassed:,}",
        f"{report.errors:,}",
    )
    return grid


def _kinds(kinds: Mapping[str, int]) -> RenderableType:
    """Questions by whether their answers keep, the most frequent kind first."""
    counted = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    grid = _numbers(*(clean(kind) for kind, _ in counted))
    grid.add_row(*(f"{count:,}" for _, count in counted))
    return grid


def _shadow(shadow: Shadow) -> RenderableType:
    grid = _numbers(
        "not served (shadow)",
        "exact hits",
        "semantic hits",
        "hit ratio",
        "saved",
        "right",
        "wrong",
        "unclear",
    )
    found = shadow.semantic
    grid.add_row(
        f"{shadow.exact_hits + shadow.semantic_hits:,}",
        f"{shadow.exact_hits:,}",
        f"{shadow.semantic_hits:,}",
        _or_dash(shadow.hit_ratio, percent),
        money(shadow.saved_usd),
        *(f"{count:,}" for count in (found.right, found.wrong, found.unclear)),
    )
    return grid


def _latencies(report: Report) -> RenderableType:
    grid = table("latency", "p50", "p95", "p99", right=("p50", "p95", "p99"))
    rows = {
        "hit, as users saw it": report.hit_user_ms,
        "hit, in process": report.hit_ms,
        "miss, as users saw it": report.miss_user_ms,
        "miss, in process": report.miss_ms,
    }
    for name, row in rows.items():
        grid.add_row(name, *(_or_dash(value, milliseconds) for value in (row.p50, row.p95, row.p99)))
    return grid


def _costs(report: Report, estimated: bool) -> RenderableType:
    cost = report.money
    grid = _numbers("cost", "$/question", "saved by hits", "savings", "tokens in", "tokens out")
    grid.add_row(
        spent(cost.spent_usd, estimated),
        _or_dash(cost.per_query_usd, lambda usd: spent(usd, estimated)),
        money(cost.saved_usd),
        _or_dash(cost.savings_ratio, percent),
        f"{report.prompt_tokens:,}",
        f"{report.completion_tokens:,}",
    )
    return grid


def _redis(usage: CacheUsage) -> RenderableType:
    grid = _numbers("Redis memory", "entries", "bytes/entry", "evicted", "expired", "keyspace hits", "misses")
    grid.add_row(
        _or_dash(usage.used_memory_bytes, data_size),
        f"{usage.entries:,}",
        _or_dash(usage.bytes_per_entry, data_size),
        *(
            _or_dash(count, "{:,.0f}".format)
            for count in (usage.evicted, usage.expired, usage.keyspace_hits, usage.keyspace_misses)
        ),
    )
    return grid


def _targets(report: Report) -> RenderableType:
    from rich.text import Text

    grid = table("target", "goal", "actual", "ok", right=("goal", "actual"))
    for target in report.targets:
        words, sign, shown = _TARGETS[target.name]
        met = {None: Text("-", "dim"), True: Text("yes", "green"), False: Text("no", "red")}[target.met]
        grid.add_row(words, f"{sign} {shown(target.target)}", _or_dash(target.actual, shown), met)
    return grid


def _numbers(*columns: str) -> Table:
    """A table of nothing but numbers."""
    return table(*columns, right=columns)


def _or_dash(value: float | None, shown: Callable[[float], str]) -> str:
    return "-" if value is None else shown(value)
