"""What `llmhost stats` shows on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.cache.calibration import served_error
from llmhost.cli.output import pairs, table
from llmhost.cli.text import clean, data_size, milliseconds, money, percent, short_count, shortened, spent
from llmhost.cli.trust_view import served_error_lines
from llmhost.ledger.report import AskerUse, Point, Target, WorkerUse

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from llmhost.cache.calibration import LabelsReport
    from llmhost.cache.catalog import CacheUsage
    from llmhost.cache.models import Entry
    from llmhost.fleet.spending import Reconciled
    from llmhost.ledger.report import Elsewhere, Percentiles, Report, Shadow

__all__ = [
    "WORKER_HEADS",
    "Stats",
    "audited",
    "goal_words",
    "goals",
    "or_dash",
    "ordered_steps",
    "picture",
    "row_type",
    "rows_of",
    "show_reconciled",
    "show_rows",
    "sparkline",
    "worker_figures",
]

#: how a goal reads to people: its words, its sign, and how to write its figures
_GOALS: Mapping[str, tuple[str, str, Callable[[float], str]]] = {
    "hit_ratio": ("hit ratio", ">", percent),
    "hit_p95_ms": ("hit p95", "<", milliseconds),
    "miss_p95_ms": ("miss p95", "<", milliseconds),
    "usd_per_query": ("cost/question", "<", money),
    "cost_reduction": ("cost reduction", ">", percent),
    "up_time": ("up-time", ">", percent),
    "served_error": ("wrong hits", "<", percent),
}
#: columns: of a narrow terminal, and from where on two tables stand side by side
_NARROW, _WIDE = 80, 118
#: rows of workers and tenants on the screen; `--by` has all
_MOST_ROWS = 3
_BARS = "▁▂▃▄▅▆▇█"
#: the same without Unicode
_DIGITS = "01234567"


@dataclass(frozen=True, slots=True)
class Stats:
    """What is shown of the last `since` seconds; `usage`, `labels` and `top` are of now. `estimated`: a bill
    may still correct what was spent."""

    since: float
    report: Report
    points: Sequence[Point]
    workers: Sequence[WorkerUse]
    tenants: Sequence[AskerUse]
    models: Sequence[AskerUse]
    versus: Sequence[Elsewhere]
    usage: CacheUsage
    labels: LabelsReport
    max_error: float
    estimated: bool
    top: Sequence[Entry]


def goals(made: Stats) -> Sequence[Target]:
    """All of them. That of wrong hits is met, or missed, once the whole interval is on one side of it."""
    error = served_error(made.labels.total("audit"))
    met = None
    if error.low is not None and error.high is not None:
        met = True if error.high < made.max_error else False if error.low > made.max_error else None
    return [*made.report.targets, Target("served_error", made.max_error, error.estimate, met)]


def goal_words(made: Stats) -> Iterator[tuple[str, str, str, bool | None]]:
    """Of each goal its name, what it is, what is, and whether it is met; of wrong hits the interval is."""
    error = served_error(made.labels.total("audit"))
    for target in goals(made):
        words, sign, shown = _GOALS[target.name]
        actual = or_dash(target.actual, shown)
        if target.name == "served_error" and error.low is not None and error.high is not None:
            actual = f"{error.low * 100:.1f} to {error.high * 100:.1f} %"
        yield words, f"{sign} {shown(target.target)}", actual, target.met


def audited(made: Stats) -> str:
    """``3 wrong of 501``: of the semantic hits that were audited."""
    tally = made.labels.total("audit")
    return f"{tally.wrong:,} wrong of {tally.samples:,}" if tally.samples else "-"


def sparkline(values: Sequence[float | None], *, unicode: bool = True) -> str:
    """A character for each share, 0..1; a dot where there is none."""
    marks = _BARS if unicode else _DIGITS
    last = len(marks) - 1
    return "".join("." if value is None else marks[min(last, int(value * len(marks)))] for value in values)


def picture(
    made: Stats, *, width: int = _NARROW, unicode: bool = True, everything: bool = False
) -> RenderableType:
    """The screen, `width` columns wide: what matters most on half a terminal, or everything there is."""
    from rich.console import Group
    from rich.text import Text

    from llmhost.config.fields import format_duration

    figures: RenderableType = pairs(*_figures(made), *(_details(made) if everything else ()))
    if width >= _WIDE:
        figures = _beside(figures, _goals(made))
    parts: list[RenderableType] = [Group(figures, *_lines(made, unicode=unicode, everything=everything))]
    if width < _WIDE:
        parts.append(_goals(made))
    if everything:
        parts += _tables(made)
    if made.labels.raised:
        parts.append(Text("\n".join(served_error_lines(made.labels, made.max_error)[1:]), "bold"))
    title = Text.assemble((f"The last {format_duration(made.since)}", "bold"))
    if not everything:
        title.append("  more: --all, --by worker, --html FILE", "dim")
    return Group(title, *(piece for part in parts for piece in (part, Text())[: 1 + (part is not parts[-1])]))


def _lines(made: Stats, *, unicode: bool, everything: bool) -> Iterator[RenderableType]:
    """What stands below the figures; nothing before the first question."""
    if made.report.requests:
        if everything:
            yield _elsewhere(made)
            yield from _kinds(made.report.kinds)
        yield from _starts(made.report)
        yield _chart(made.points, unicode=unicode)


def _tables(made: Stats) -> Iterator[RenderableType]:
    """The first rows of `--by`, and what was asked most."""
    if made.workers:
        yield _workers(made.workers[:_MOST_ROWS])
    if len(made.tenants) > 1:
        yield _askers("tenant", made.tenants[:_MOST_ROWS])
    if made.top:
        yield _top(made.top)


def _beside(left: RenderableType, right: RenderableType) -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 4, 0, 0))
    grid.add_row(left, right)
    return grid


def _figures(made: Stats) -> list[tuple[str, str]]:
    """Those that are always shown."""
    report, cost, usage = made.report, made.report.money, made.usage
    evicted = "" if usage.evicted is None else f", {usage.evicted:,.0f} evicted"
    return [
        ("questions", f"{report.requests:,}"),
        ("hit ratio", or_dash(report.hit_ratio, percent)),
        ("exact, semantic", f"{report.exact_hits:,}, {report.semantic_hits:,}"),
        ("misses", f"{report.misses:,}"),
        ("bypassed", f"{report.bypassed:,}"),
        ("failed, left", f"{report.errors:,}, {report.left:,}"),
        ("hit p50, p95", _latency(report.hit_user_ms)),
        ("miss p50, p95", _latency(report.miss_user_ms)),
        ("spent", spent(cost.spent_usd, made.estimated)),
        ("a question", or_dash(cost.per_query_usd, lambda usd: spent(usd, made.estimated))),
        ("saved by hits", f"{money(cost.saved_usd)}{_share(cost.savings_ratio)}"),
        ("Redis", f"{or_dash(usage.used_memory_bytes, data_size)}{evicted}"),
        *_shadow(report.shadow),
    ]


def _details(made: Stats) -> list[tuple[str, str]]:
    """What else there is of figures."""
    report, usage = made.report, made.usage
    entry = "" if usage.bytes_per_entry is None else f" of {data_size(usage.bytes_per_entry)}"
    return [
        ("hit in process", _latency(report.hit_ms)),
        ("miss in process", _latency(report.miss_ms)),
        *_steps(report),
        ("tokens in, out", f"{short_count(report.prompt_tokens)}, {short_count(report.completion_tokens)}"),
        ("entries", f"{usage.entries:,}{entry}"),
        ("expired", or_dash(usage.expired, "{:,.0f}".format)),
        ("audited", audited(made)),
    ]


def _latency(row: Percentiles) -> str:
    if row.p50 is None or row.p95 is None:
        return "-"
    return f"{milliseconds(row.p50).removesuffix(' ms')}, {milliseconds(row.p95)}"


def _steps(report: Report) -> list[tuple[str, str]]:
    """The median of each step; nothing where no question took one."""
    found = [
        (f"{name} p50", milliseconds(row.p50)) for name, row in ordered_steps(report) if row.p50 is not None
    ]
    return found + [("", "")] * (len(found) % 2)


def ordered_steps(report: Report) -> Sequence[tuple[str, Percentiles]]:
    """The steps in the order in which a question takes them."""
    order = ("condense", "embed", "lookup", "verify", "engine")
    known = report.steps.items()
    return sorted(known, key=lambda step: order.index(step[0]) if step[0] in order else len(order))


def _share(ratio: float | None) -> str:
    return "" if ratio is None else f", {percent(ratio)}"


def _elsewhere(made: Stats) -> RenderableType:
    """At the first price by the hour and the first by the token: `--json` and the page have all."""
    from rich.text import Text

    shown = [next((row for row in made.versus if row.unit == unit), None) for unit in ("hour", "token")]
    words = (f"{money(row.usd)} at {row.name}" for row in shown if row is not None)
    return Text.assemble(("elsewhere  ", "dim"), ", ".join(words))


def _kinds(kinds: Mapping[str, int]) -> Iterator[RenderableType]:
    """Questions by whether their answers keep, the most frequent kind first; nothing where all do."""
    from rich.text import Text

    if set(kinds) - {"plain"}:
        most = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        words = ", ".join(f"{clean(kind)} {count:,}" for kind, count in most)
        yield Text.assemble(("kinds      ", "dim"), words)


def _starts(report: Report) -> Iterator[RenderableType]:
    """Where hits miss their goal by the start of a command alone."""
    from rich.text import Text

    within = report.hit_ms.p95
    for target in report.targets:
        if (
            target.name == "hit_p95_ms"
            and target.met is False
            and within is not None
            and within < target.target
        ):
            yield Text(
                f"hit p95 is {milliseconds(within)} in process; the rest is a command that starts", "dim"
            )


def _shadow(shadow: Shadow) -> list[tuple[str, str]]:
    """What the cache would have done, where it is on trial."""
    if shadow.hit_ratio is None:
        return []
    found = shadow.semantic
    return [
        ("not served (shadow)", f"{shadow.exact_hits:,} exact, {shadow.semantic_hits:,} semantic"),
        ("would be", f"{percent(shadow.hit_ratio)} hits, {money(shadow.saved_usd)} saved"),
        ("right, wrong, unclear", f"{found.right:,}, {found.wrong:,}, {found.unclear:,}"),
    ]


def _chart(points: Sequence[Point], *, unicode: bool) -> RenderableType:
    from rich.text import Text

    from llmhost.config.fields import format_duration

    line = sparkline([point.hit_ratio for point in points], unicode=unicode)
    width = format_duration(float(points[-1].end - points[-1].start))
    return Text.assemble(("hit ratio  ", "dim"), (line, "green"), (f"  a mark for {width}", "dim"))


def _goals(made: Stats) -> RenderableType:
    from rich.text import Text

    grid = table("goal", "", "actual", "ok", right=("", "actual"))
    for words, goal, actual, met in goal_words(made):
        ok = {None: Text("-", "dim"), True: Text("yes", "green"), False: Text("no", "red")}[met]
        grid.add_row(words, goal, actual, ok)
    return grid


#: of a worker's figures
WORKER_HEADS = ("answers", "tokens in", "tokens out", "tokens/s", "busy", "hours", "cost")


def _workers(workers: Sequence[WorkerUse]) -> Table:
    grid = table("worker", *WORKER_HEADS, right=WORKER_HEADS)
    for one in workers:
        grid.add_row(one.worker, *worker_figures(one))
    return grid


def worker_figures(one: WorkerUse) -> list[str]:
    """Under the heads `WORKER_HEADS`."""
    return [
        f"{one.answers:,}",
        short_count(one.prompt_tokens),
        short_count(one.completion_tokens),
        or_dash(one.tokens_per_s, "{:,.1f}".format),
        or_dash(one.utilization, percent),
        f"{one.hours:,.2f}",
        money(one.spent_usd),
    ]


def _askers(kind: str, askers: Sequence[AskerUse]) -> Table:
    # In two lines, and short: beside them a usual name fits in one line of a narrow terminal.
    numbers = ("asked", "hits", "failed", "tokens\nin", "tokens\nout", "cost", "saved")
    grid = table(kind, *numbers, right=numbers)
    for one in askers:
        grid.add_row(
            clean(one.name),
            f"{one.requests:,}",
            or_dash(one.hit_ratio, percent),
            f"{one.errors:,}",
            short_count(one.prompt_tokens),
            short_count(one.completion_tokens),
            money(one.cost_usd),
            money(one.saved_usd),
        )
    return grid


def _top(entries: Sequence[Entry]) -> RenderableType:
    """The questions with how often the cache answered them; without a head, to be short."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for number, entry in enumerate(entries):
        label = Text("asked most" if number == 0 else "", "dim")
        count = Text(f"{entry.hit_count:,}", justify="right")
        grid.add_row(label, count, clean(shortened(entry.question)))
    return grid


def _days(points: Sequence[Point]) -> Table:
    numbers = ("asked", "exact", "semantic", "hits", "hit", "miss", "cost", "saved")
    grid = table("day (UTC)", *numbers, right=numbers)
    for point in points:
        grid.add_row(
            time.strftime("%Y-%m-%d", time.gmtime(point.start)),
            f"{point.requests:,}",
            f"{point.exact:,}",
            f"{point.semantic:,}",
            or_dash(point.hit_ratio, percent),
            or_dash(point.hit_ms, milliseconds),
            or_dash(point.miss_ms, milliseconds),
            money(point.spent_usd),
            money(point.saved_usd),
        )
    return grid


def rows_of(made: Stats, by: str | None) -> Sequence[object]:
    """The rows of `--by`; without it, the parts of the period."""
    if by in ("worker", "tenant", "model"):
        return {"worker": made.workers, "tenant": made.tenants, "model": made.models}[by]
    return made.points


def row_type(by: str | None) -> type:
    """What the rows of `--by` are."""
    if by == "worker":
        return WorkerUse
    return AskerUse if by in ("tenant", "model") else Point


def show_rows(made: Stats, by: str) -> Table:
    """A table of `--by`."""
    if by == "worker":
        return _workers(made.workers)
    if by == "day":
        return _days(made.points)
    return _askers(by, made.tenants if by == "tenant" else made.models)


def show_reconciled(rows: Sequence[Reconciled], console: Console) -> None:
    """What was recorded, what was billed, and why they differ."""
    numbers = ("recorded", "billed", "difference")
    grid = table("worker", *numbers, "of which", right=numbers)
    between = "\n" if console.width < _WIDE else ", "
    for row in rows:
        causes = [f"{name} {money(round(usd, 4))}" for name, usd in row.causes.items() if round(usd, 4)]
        grid.add_row(
            row.worker,
            money(round(row.ledger_usd, 4)),
            "not yet" if row.billed_usd is None else money(round(row.billed_usd, 4)),
            "-" if row.difference_usd is None else money(round(row.difference_usd, 4)),
            between.join(causes) or "-",
        )
    known = [row for row in rows if row.billed_usd is not None]
    if len(known) > 1:
        grid.add_row(
            "together",
            money(round(sum(row.ledger_usd for row in known), 4)),
            money(round(sum(row.billed_usd or 0.0 for row in known), 4)),
            money(round(sum(row.difference_usd or 0.0 for row in known), 4)),
            "",
        )
    console.print(grid if rows else "Nothing was rented, and nothing was billed.")


def or_dash(value: float | None, shown: Callable[[float], str]) -> str:
    return "-" if value is None else shown(value)
