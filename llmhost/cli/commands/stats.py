"""`llmhost stats`: hits, latency, cost, savings and goals."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.commands.cost import prices_elsewhere
from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.output import plain
from llmhost.cli.running import configured, parse_period, run_async, wired
from llmhost.cli.stats_view import Stats, goals, picture, row_type, rows_of, show_reconciled, show_rows
from llmhost.cli.text import clean, counted
from llmhost.cli.watching import check_watches, watch_screen
from llmhost.errors import UsageError
from llmhost.ledger.buckets import DAY, HOUR, MINUTE, Bucket, first_bucket, stretches, stretches_since
from llmhost.ledger.events import Outcome

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from llmhost.cache.models import Entry
    from llmhost.config.models import Config
    from llmhost.fleet.spending import Reconciled
    from llmhost.ledger.report import Shadow
    from llmhost.ledger.totals import Totals
    from llmhost.wiring import Wiring

__all__ = ["stats"]

#: seconds; how often --watch looks again, and looks for the questions that were asked most
_WATCH, _WATCH_TOP = 2.0, 60.0

#: points of the charts: as many as fit on a narrow terminal
_POINTS = 48

#: what begins a formula in a spreadsheet, to which a user of the gateway could name a model
_FORMULA = ("=", "+", "-", "@", "\t")

#: questions that are shown, and entries that are looked at for them, which takes Redis half a second
_TOP, _LOOKED_AT = 3, 20_000

#: pairs of options that go together
_TOGETHER = (
    {"--all", "--json"},
    {"--all", "--watch"},
    {"--by", "--csv"},
    {"--by", "--json"},
    {"--by", "--watch"},
    {"--json", "--reconcile"},
)


class By(StrEnum):
    DAY = "day"
    WORKER = "worker"
    TENANT = "tenant"
    MODEL = "model"


def stats(
    ctx: typer.Context,
    since: Annotated[str, typer.Option(help="Period to report on: 30m, 24h, 7d.")] = "24h",
    everything: Annotated[
        bool, typer.Option("--all", help="Show more figures: steps, workers, tenants, what is asked most.")
    ] = False,
    by: Annotated[By | None, typer.Option(help="Show one row for each of these.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every 2 s, until Ctrl-C.")] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Print rows as CSV: of --by, else of the period's parts.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with charts, which opens offline.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the questions as a trace for `scale simulate`.")
    ] = None,
    reconcile: Annotated[
        bool, typer.Option("--reconcile", help="Compare what was recorded with the provider's bill.")
    ] = False,
) -> None:
    """Show hits, latency, cost, savings, and whether the goals are met.

    Latency is what users waited, from the start of a command on; in process is without that. Saved is what
    the answers of hits had cost. docs/stats.md explains each figure.

    Examples:
      llmhost stats --since 7d
      llmhost stats --all
      llmhost stats --by tenant --csv
      llmhost stats --html report.html
      llmhost stats --json | jq .hit_ratio
    """
    options = globals_of(ctx)
    prints = {"--all": everything, "--by": by is not None, "--watch": watch, "--csv": csv}
    prints |= {"--reconcile": reconcile, "--json": options.json}
    _check_sense(prints, {"--html": html is not None, "--export": export is not None})
    seconds = parse_period(since)
    config = configured(options, header=not csv)
    if reconcile:
        rows = run_async(_reconcile(options, config))
        options.output.result(rows, show_reconciled, {"workers": rows})
        return
    if watch:
        run_async(_watch(options, config, seconds, by, everything=everything))
        return
    top = None if everything or html is not None or options.json else ()
    collected = run_async(_collect(options, config, seconds, days=by is By.DAY, top=top))
    if html is not None:
        _write_page(options, collected, html)
    if export is not None:
        _write_trace(options, config, seconds, export)
    if csv:
        _print_csv(rows_of(collected, by), row_type(by))
    elif by is not None:
        document = {"by": by.value, "rows": rows_of(collected, by)}
        options.output.result(collected, partial(_show, by=by), document)
    elif (html is None and export is None) or options.json or everything:
        options.output.result(collected, partial(_show, everything=everything), _json(collected))


def _show(made: Stats, console: Console, *, by: By | None = None, everything: bool = False) -> None:
    unicode = console.encoding.lower().startswith("utf")
    screen = picture(made, width=console.width, unicode=unicode, everything=everything)
    console.print(screen if by is None else show_rows(made, by))


def _check_sense(prints: Mapping[str, bool], writes: Mapping[str, bool]) -> None:
    """Of what is printed, only what goes together may be asked for. A file is written once, of the figures.
    A screen that is refreshed needs a terminal."""
    names = [name for name, is_on in prints.items() if is_on]
    if prints["--watch"] or prints["--reconcile"]:
        names += [name for name, is_on in writes.items() if is_on]
    for first, second in combinations(names, 2):
        if {first, second} not in _TOGETHER:
            raise UsageError(f"{first} and {second} do not go together", hint="leave one of them out")
    if prints["--watch"]:
        check_watches()


async def _watch(options: Globals, config: Config, since: float, by: By | None, *, everything: bool) -> None:
    console = options.output.console()
    top: Sequence[Entry] | None = None
    looked = 0.0

    async def look() -> RenderableType:
        nonlocal top, looked
        if time.monotonic() - looked > _WATCH_TOP:
            top, looked = None if everything else (), time.monotonic()
        made = await _collect(options, config, since, days=by is By.DAY, top=top)
        top = made.top
        return (
            picture(made, width=console.width, everything=everything) if by is None else show_rows(made, by)
        )

    await watch_screen(options.output, look, _WATCH)


async def _collect(
    options: Globals, config: Config, since: float, *, days: bool, top: Sequence[Entry] | None = None
) -> Stats:
    """With `days`, the parts of the period are days. Without `top`, what is asked most is looked for."""
    from llmhost.cache.catalog import cache_usage
    from llmhost.fleet.spending import tally
    from llmhost.ledger.cost import corrected
    from llmhost.ledger.report import asker_use, make_point, make_report, versus, worker_use

    now = time.time()
    begin = first_bucket(now - since, now).start  # what is spent is of the same time as what is counted
    prices = prices_elsewhere(config)
    async with wired(options, config) as wiring:
        ledger = await wiring.ledger()
        totals, rentals = await ledger.totals(begin, now), await ledger.rentals()
        by_worker = tally(rentals, await ledger.charges(), None, now).by_worker
        rentals = corrected(rentals, by_worker, now)
        # Before the first question there is nothing to draw.
        begun = max(begin, await ledger.first() or begin)
        whole_days = int(now // DAY.length) - int(begun // DAY.length) + 1
        parts = stretches(DAY, 1, whole_days, now) if days else stretches_since(begun, now, _POINTS)
        series = await ledger.series(parts)
        client = await wiring.redis()
        usage = await cache_usage(client, wiring.caches.keys)
        labels = await wiring.caches.labels(client).report()
        if top is None:
            top = await _top_questions(wiring, config)
    cloud = next((price.usd_per_hour for price in prices if price.usd_per_hour is not None), 0.0)
    report = make_report(totals, rentals, wiring.targets, begin, now, cloud)
    return Stats(
        since=since,
        report=report,
        points=[make_point(part, sums, rentals, now) for part, sums in zip(parts, series, strict=True)],
        workers=worker_use(totals, rentals, config.engine.slots, begin, now),
        tenants=asker_use(totals, "tenant"),
        models=asker_use(totals, "model"),
        versus=versus(report, totals, prices),
        usage=usage,
        labels=labels,
        max_error=config.cache.max_error,
        estimated=config.fleet.rents,
        top=top,
    )


async def _top_questions(wiring: Wiring, config: Config) -> Sequence[Entry]:
    """Those that the cache answered most often, without personal ones and those that are denied. Where each
    user has a cache of its own, what is asked there is private: then none."""
    from llmhost.answering.admission import admit

    if config.gateway.user_header is not None:
        return ()
    found = await (await wiring.catalog()).most_used(10 * _TOP, _LOOKED_AT)
    allow, deny = config.cache.allow, config.cache.deny
    private = ("personal", "denied")
    return [entry for entry in found if admit(entry.question, allow, deny).kind not in private][:_TOP]


async def _reconcile(options: Globals, config: Config) -> Sequence[Reconciled]:
    from llmhost.fleet.spending import bills_since, reconcile

    if not config.fleet.rents:
        raise UsageError(
            f"nothing is billed for provider {config.fleet.provider}", hint="this is for rented workers"
        )
    now = time.time()
    async with wired(options, config) as wiring:
        rentals = await (await wiring.ledger()).rentals()
        return reconcile(rentals, await wiring.provider.charges(bills_since(now)), now)


def _print_csv(rows: Sequence[object], kind: type) -> None:
    """The fields of the rows, all of this kind; times in UTC."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(field.name for field in fields(kind))
    for row in rows:
        values: dict[str, Any] = plain(row)
        writer.writerow([_cell(name, value) for name, value in values.items()])


def _cell(name: str, value: object) -> object:
    if name in ("start", "end") and isinstance(value, int):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value))
    if isinstance(value, str):
        text = clean(value)
        return f"'{text}" if text.startswith(_FORMULA) else text
    return f"{value:.9g}" if isinstance(value, float) else value


def _write_page(options: Globals, made: Stats, path: Path) -> None:
    from llmhost.cli.stats_page import stats_page

    _write(path, stats_page(made, time.time()))
    options.output.note(f"wrote {path}")


def _write_trace(options: Globals, config: Config, since: float, path: Path) -> None:
    from llmhost.ledger.report import trace_rows

    parts, series = run_async(_read_trace(options, config, since))
    lines = [f"{at:.3f},{prompt},{completion}" for at, prompt, completion in trace_rows(parts, series)]
    _write(path, "\n".join(["time,prompt_tokens,completion_tokens", *lines, ""]))
    hits = sum(totals.count(Outcome.EXACT, Outcome.SEMANTIC) for totals in series)
    share = f" --hit-ratio {hits / len(lines):.2f}" if hits else ""
    replay = f"`llmhost scale simulate {shlex.quote(str(path))}{share}` replays them"
    options.output.note(
        f"wrote {counted(len(lines), 'question')} to {path}" + (f"; {replay}" if lines else "")
    )


async def _read_trace(
    options: Globals, config: Config, since: float
) -> tuple[Sequence[Sequence[Bucket]], Sequence[Totals]]:
    """By the minute as far as minutes are kept, else by the hour or the day."""
    now = time.time()
    period = next(one for one in (MINUTE, HOUR, DAY) if since <= one.kept - one.length or one is DAY)
    async with wired(options, config) as wiring:
        ledger = await wiring.ledger()
        begun = max(now - since, await ledger.first() or now)
        parts = stretches(period, 1, int(now // period.length) - int(begun // period.length) + 1, now)
        return parts, await ledger.series(parts)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _json(made: Stats) -> dict[str, object]:
    from llmhost.cli.trust_view import served_error_json

    report = made.report
    return {
        "since_s": made.since,
        "requests": report.requests,
        "hits": {"exact": report.exact_hits, "semantic": report.semantic_hits},
        "misses": report.misses,
        "bypassed": report.bypassed,
        "errors": report.errors,
        "left": report.left,
        "audits": report.audits,
        "renewals": report.renewals,
        "judged": report.judged,
        "condensed": report.condensed,
        "embeddings": report.embeddings,
        "hit_ratio": report.hit_ratio,
        "up_time": report.up_time,
        "latency_ms": {"hit": report.hit_ms, "miss": report.miss_ms},
        "user_latency_ms": {"hit": report.hit_user_ms, "miss": report.miss_user_ms},
        "steps_ms": report.steps,
        "tokens": {"prompt": report.prompt_tokens, "completion": report.completion_tokens},
        "cost": {
            **plain(report.money),
            "spent_estimated": made.estimated,
            "worker_hours": report.hours,
            "cost_reduction": report.cost_reduction,
        },
        "versus": made.versus,
        "redis": made.usage,
        "served_error": served_error_json(made.labels, made.max_error),
        "targets": goals(made),
        "shadow": _shadow_json(report.shadow),
        "kinds": report.kinds,
        "series": made.points,
        "workers": made.workers,
        "tenants": made.tenants,
        "models": made.models,
        "top_questions": [
            {"question": entry.question, "hits": entry.hit_count, "entry": entry.entry} for entry in made.top
        ],
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
