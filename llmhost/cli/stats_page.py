"""`llmhost stats --html`: the figures as one file, with charts drawn in it, that needs nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from llmhost.cli.stats_view import WORKER_HEADS, audited, goal_words, or_dash, ordered_steps, worker_figures
from llmhost.cli.text import clean, data_size, milliseconds, money, percent, spent, times
from llmhost.config.fields import format_duration

if TYPE_CHECKING:
    from llmhost.cli.stats_view import Stats
    from llmhost.ledger.report import AskerUse, Point, Report

__all__ = ["stats_page"]

#: of a chart, in its own units; the margin at the left and at the bottom holds the labels
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 560.0, 200.0, 62.0, 22.0, 10.0

#: it loads nothing, and runs nothing
_POLICY = "default-src 'none';style-src 'unsafe-inline'"

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5c6670;--line:#d5dae0;--page:#fff;--card:#f6f8fa;
--exact:#0b6e99;--semantic:#4fb0d8;--miss:#d9822b;--other:#9aa4ae;--goal:#8a4bb8;--good:#1a7f37;--bad:#c0392b}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9aa5b0;--line:#343b43;--page:#14181c;--card:#1d2329;
--exact:#4aa8d8;--semantic:#9bd6ef;--miss:#eba55a;--other:#6b757f;--goal:#c39bdf;--good:#56c271;--bad:#f07b6c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:24px;background:var(--page);color:var(--ink);
font:15px/1.45 system-ui,sans-serif}h1{font-size:22px;margin:0}h2{font-size:16px;margin:0 0 6px}
p{color:var(--soft);margin:2px 0 18px}section{margin:0 0 26px}
.tiles{display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(170px,1fr))}
.tile{background:var(--card);border-radius:8px;padding:10px 14px}.tile b{display:block;font-size:22px}
.tile span{color:var(--soft);font-size:13px}
.charts{display:grid;gap:22px;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr))}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:11px}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:4px 14px 4px 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal}th{color:var(--soft);font-weight:600}
.yes{color:var(--good)}.no{color:var(--bad)}.legend span{margin-right:14px;font-size:13px;color:var(--soft)}
.legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}
"""


@dataclass(frozen=True, slots=True)
class _Series:
    """One thing that a chart shows; None where there is no value."""

    name: str
    colour: str
    values: Sequence[float | None]


def stats_page(made: Stats, now: float) -> str:
    """The page; `now` in Unix seconds."""
    report = made.report
    period = format_duration(made.since)
    moment = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    body = [
        f"<h1>The last {escape(period)}</h1><p>llmhost stats, {moment}</p>",
        _section("", _tiles(made)),
        _section("", f'<div class="charts">{_charts(made)}</div>' if report.requests else _nothing()),
        _section("Goals", _goals(made)),
        _section("Workers", _workers(made)),
        _section("Tenants", _askers("tenant", made.tenants)),
        _section("Models", _askers("model", made.models)),
        _section("Time by step", _steps(report)),
        _section("The same answers elsewhere", _versus(made)),
        _section("Asked most", _top(made)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>llmhost: the last {escape(period)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    if not content:
        return ""
    heading = f"<h2>{escape(title)}</h2>" if title else ""
    return f"<section>{heading}{content}</section>"


def _nothing() -> str:
    return "<p>Nothing was asked in this time.</p>"


def _tiles(made: Stats) -> str:
    report, cost = made.report, made.report.money
    tiles = [
        (f"{report.requests:,}", "questions"),
        (
            or_dash(report.hit_ratio, percent),
            f"hits: {report.exact_hits:,} exact, {report.semantic_hits:,} semantic",
        ),
        (or_dash(report.hit_user_ms.p95, milliseconds), "hit, 95 % of users"),
        (or_dash(report.miss_user_ms.p95, milliseconds), "miss, 95 % of users"),
        (spent(cost.spent_usd, made.estimated), f"spent, {or_dash(cost.per_query_usd, money)} a question"),
        (money(cost.saved_usd), f"saved, {or_dash(cost.savings_ratio, percent)} of the cost"),
        (or_dash(report.up_time, percent), f"up-time, {report.errors:,} failed"),
        (or_dash(made.usage.used_memory_bytes, data_size), f"Redis, {made.usage.entries:,} entries"),
        (audited(made), "audited semantic hits"),
    ]
    made_tiles = (
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>' for value, what in tiles
    )
    return f'<div class="tiles">{"".join(made_tiles)}</div>'


def _charts(made: Stats) -> str:
    points = made.points
    goal = {target.name: target.target for target in made.report.targets}
    asked = [
        _Series("exact hits", "--exact", [float(point.exact) for point in points]),
        _Series("semantic hits", "--semantic", [float(point.semantic) for point in points]),
        _Series("misses", "--miss", [float(point.misses) for point in points]),
        _Series("others", "--other", [float(point.other) for point in points]),
    ]
    money_of = [
        _Series("spent", "--miss", [point.spent_usd for point in points]),
        _Series("saved", "--exact", [point.saved_usd for point in points]),
    ]
    ratio = [_Series("hit ratio", "--exact", [point.hit_ratio for point in points])]
    waits = [
        _Series("hit", "--exact", [point.hit_ms for point in points]),
        _Series("miss", "--miss", [point.miss_ms for point in points]),
    ]
    return "".join(
        (
            _chart("Questions", points, asked, "{:,.0f}".format, stacked=True),
            _chart("Hit ratio", points, ratio, percent, goal=goal["hit_ratio"], top=1.0),
            _chart("What users waited, median", points, waits, milliseconds),
            _chart("Spent and saved", points, money_of, money),
        )
    )


def _chart(
    title: str,
    points: Sequence[Point],
    series: Sequence[_Series],
    shown: Callable[[float], str],
    *,
    stacked: bool = False,
    goal: float | None = None,
    top: float | None = None,
) -> str:
    """Bars on each other, or lines."""
    sums = [sum(one.values[at] or 0.0 for one in series) for at in range(len(points))]
    highest = max(
        sums if stacked else [value for one in series for value in one.values if value is not None] or [0]
    )
    top = top or highest or 1.0
    drawn = _axes(points, top, shown)
    draw = _bars if stacked else _lines
    drawn += draw(points, series, top, shown)
    if goal is not None:
        at = _y(goal, top)
        drawn += (
            f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{at:.1f}" y2="{at:.1f}" stroke="var(--goal)" '
            f'stroke-dasharray="4 4"><title>goal {escape(shown(goal))}</title></line>'
        )
    legend = "".join(
        f'<span><i style="background:var({one.colour})"></i>{escape(one.name)}</span>' for one in series
    )
    return (
        f'<div><h2>{escape(title)}</h2><svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" '
        f'aria-label="{escape(title)}">{drawn}</svg><div class="legend">{legend}</div></div>'
    )


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _BOTTOM - _TOP)


def _x(at: float, count: int) -> float:
    """The left edge of a point's place; `at` + 0.5 is its middle."""
    return _LEFT + at / count * (_WIDTH - _LEFT)


def _axes(points: Sequence[Point], top: float, shown: Callable[[float], str]) -> str:
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = _y(share * top, top)
        lines.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(shown(share * top))}</text>'
        )
    count = len(points)
    for at in sorted({0, count // 2, count - 1}):
        anchor = "start" if at == 0 else "end" if at == count - 1 else "middle"
        x = _x(at if at == 0 else at + 1 if at == count - 1 else at + 0.5, count)
        lines.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{_when(points[at], points)}</text>'
        )
    return "".join(lines)


def _when(point: Point, points: Sequence[Point]) -> str:
    """A time of the day, or a day where the chart covers several; in UTC."""
    form = "%H:%M" if points[-1].end - points[0].start <= 2 * 86_400 else "%d %b"
    return time.strftime(form, time.gmtime(point.start))


def _bars(
    points: Sequence[Point], series: Sequence[_Series], top: float, shown: Callable[[float], str]
) -> str:
    drawn, count = [], len(points)
    width = (_WIDTH - _LEFT) / count
    for at, point in enumerate(points):
        below = 0.0
        for one in series:
            value = one.values[at] or 0.0
            if not value:
                continue
            y, end = _y(below + value, top), _y(below, top)
            below += value
            drawn.append(
                f'<rect x="{_x(at, count) + width * 0.1:.1f}" y="{y:.1f}" width="{width * 0.8:.1f}" '
                f'height="{end - y:.1f}" fill="var({one.colour})"><title>{_when(point, points)}: '
                f"{escape(shown(value))} {escape(one.name)}</title></rect>"
            )
    return "".join(drawn)


def _lines(
    points: Sequence[Point], series: Sequence[_Series], top: float, shown: Callable[[float], str]
) -> str:
    """A line breaks where there is no value; each value is a dot that says it."""
    drawn, count = [], len(points)
    for one in series:
        runs: list[list[str]] = [[]]
        for at, value in enumerate(one.values):
            if value is None:
                runs.append([])
                continue
            x, y = _x(at + 0.5, count), _y(value, top)
            runs[-1].append(f"{x:.1f},{y:.1f}")
            drawn.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="var({one.colour})">'
                f"<title>{_when(points[at], points)}: {escape(shown(value))} {escape(one.name)}</title>"
                "</circle>"
            )
        drawn += (
            f'<polyline points="{" ".join(run)}" fill="none" stroke="var({one.colour})" stroke-width="1.6"/>'
            for run in runs
            if len(run) > 1
        )
    return "".join(drawn)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _goals(made: Stats) -> str:
    marks = {None: "-", True: '<span class="yes">yes</span>', False: '<span class="no">no</span>'}
    rows = [[*map(escape, words), marks[met]] for *words, met in goal_words(made)]
    return _table(("goal", "", "actual", "met"), rows)


def _workers(made: Stats) -> str:
    rows = [[escape(one.worker), *worker_figures(one)] for one in made.workers]
    return _table(("worker", *WORKER_HEADS), rows)


def _askers(kind: str, askers: Sequence[AskerUse]) -> str:
    rows = [
        [
            escape(clean(one.name)),
            f"{one.requests:,}",
            or_dash(one.hit_ratio, percent),
            f"{one.errors:,}",
            f"{one.prompt_tokens:,}",
            f"{one.completion_tokens:,}",
            money(one.cost_usd),
            money(one.saved_usd),
        ]
        for one in askers
    ]
    heads = (kind, "questions", "hit ratio", "failed", "tokens in", "tokens out", "cost", "saved")
    return _table(heads, rows)


def _steps(report: Report) -> str:
    rows = [
        [escape(name), *(or_dash(value, milliseconds) for value in (row.p50, row.p95, row.p99))]
        for name, row in ordered_steps(report)
    ]
    return _table(("step", "p50", "p95", "p99"), rows)


def _versus(made: Stats) -> str:
    rows = [
        [escape(one.name), escape(one.as_of), money(one.usd), _saved(one.savings_ratio)]
        for one in made.versus
    ]
    return (
        _table(("against", "as of", "it would have cost", "saved"), rows)
        if made.report.money.spent_usd
        else ""
    )


def _saved(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return percent(ratio) if ratio >= 0 else f"{times(1 - ratio)} dearer here"


def _top(made: Stats) -> str:
    rows = [[escape(clean(entry.question)), f"{entry.hit_count:,}"] for entry in made.top]
    return _table(("question", "hits"), rows)
