"""`llmhost bench`: how fast this set-up is."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.frame import Globals, globals_of
from llmhost.cli.output import table
from llmhost.cli.running import asynchronous, configured, wired
from llmhost.cli.text import clean, milliseconds
from llmhost.errors import LlmhostError

if TYPE_CHECKING:
    from rich.console import Console

    from llmhost.answering.question import Question
    from llmhost.config.models import Config
    from llmhost.engines.pool import Upstream
    from llmhost.lab.bench import BenchReport, Workload
    from llmhost.wiring import Wiring

__all__ = ["bench"]

#: seconds; what a bench that was killed has left in Redis is gone by then
_LIFETIME = 900.0

#: tokens; a worker's answers are long enough to measure their speed, and no longer
_LONGEST = 128

_PROMPT = "Explain in a few sentences how a bicycle stays upright."


@asynchronous
async def bench(
    ctx: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Measure everything a few times only.")] = False,
) -> None:
    """Measure this set-up: hits, misses, and what each worker answers.

    It asks questions of its own through a cache of its own, which it removes, and loads every worker with as
    many requests as it has slots: users wait longer meanwhile. Nothing is counted in `llmhost stats`.

    Examples:
      llmhost bench
      llmhost bench --quick --json
    """
    from llmhost.lab.bench import QUICK, Workload

    options = globals_of(ctx)
    config = configured(options, header=True)
    with options.output.progress() as progress, progress.one_by_one("measuring", "measured") as tell:
        report = await _measure(options, config, QUICK if quick else Workload(), tell)
    options.output.result(report, _show, _json(report))


def _own_cache(config: Config) -> Config:
    """The same with an empty cache, of which nothing is audited; in braces where the configured one is, as a
    Redis cluster needs them."""
    name = f"bench-{secrets.token_hex(4)}"
    braced = f"{{{name}}}" if "{" in config.cache.namespace else name
    cache = {
        "namespace": braced,
        "audit_share": 0.0,
        "shadow": False,
        "judge": False,
        "max_entries": 0,
        "max_bytes": 0,
        "response_ttl": _LIFETIME,
        "embedding_ttl": _LIFETIME,
    }
    return config.model_copy(update={"cache": config.cache.model_copy(update=cache)})


async def _measure(
    options: Globals, config: Config, workload: Workload, tell: Callable[[str, float], None]
) -> BenchReport:
    from llmhost.answering.question import make_question
    from llmhost.cache.models import Answer
    from llmhost.engines.engine import ChatRequest, Message
    from llmhost.lab.bench import Bench
    from llmhost.store.client import translate_errors

    own = _own_cache(config)
    async with wired(options, own) as wiring, AsyncExitStack() as stack:
        notes: list[str] = []
        cached = await _has_cache(wiring, own, notes)
        client, answerer = wiring.redis_client(), await wiring.answerer()
        answerer.ledger = None
        if cached:
            stack.push_async_callback(_clear, wiring)
        cache, weights = wiring.caches.cache(client), wiring.caches.weights(client)

        async def embed(text: str) -> object:
            return (await wiring.caches.embedder()).embed(text)

        async def ping() -> object:
            with translate_errors():
                return await client.ping()

        async def store(question: Question, text: str) -> None:
            key = question.key(await weights.digest(question.model))
            if key is not None:
                answer = Answer(text, question.model, wiring.now(), 0, 0, "stop", 0.0, 0.0)
                await cache.store(key, answer, await cache.embed(key))

        one = make_question(own, [Message("user", _PROMPT)]).request()
        most = min(_LONGEST, one.sampling.max_tokens or _LONGEST)
        return await Bench(
            workload=workload,
            make=lambda text: make_question(own, [Message("user", text)]),
            ask=answerer.answer,
            store=store,
            embed=embed,
            ping=ping,
            request=ChatRequest(one.model, one.messages, replace(one.sampling, max_tokens=most)),
            slots=config.engine.slots,
            tell=tell,
            notes=notes,
        ).run(await _upstreams(wiring, own, notes), cached=cached)


async def _has_cache(wiring: Wiring, config: Config, notes: list[str]) -> bool:
    if not config.cache.enabled:
        notes.append("the cache is off")
        return False
    try:
        await wiring.redis()
    except LlmhostError as error:
        notes.append(f"the cache: {error.message}")
        return False
    return True


async def _upstreams(wiring: Wiring, config: Config, notes: list[str]) -> Sequence[Upstream]:
    try:
        return await wiring.upstreams(config.engine.model)
    except LlmhostError as error:
        notes.append(f"workers: {error.message}")
        return ()


async def _clear(wiring: Wiring) -> None:
    try:
        await (await wiring.catalog()).clear()
    except LlmhostError as error:
        wiring.warn(f"what the bench has stored stays for {_LIFETIME / 60:.0f} minutes: {error.message}")


def _json(report: BenchReport) -> dict[str, object]:
    from llmhost.lab.bench import PUBLISHED

    return {
        "rows": report.rows,
        "workers": report.workers,
        "fleet": {"queries_per_minute": report.queries_per_minute, "slots_per_worker": report.slots},
        "published": {"queries_per_minute_of_a_worker": PUBLISHED["worker"]},
        "notes": report.notes,
    }


def _show(report: BenchReport, console: Console) -> None:
    grid = table("", "p50", "p95", "measured", "the paper", right=("p50", "p95", "measured", "the paper"))
    for row in report.rows:
        count = f"{row.count:,}" if row.count == row.asked else f"{row.count:,} of {row.asked:,}"
        times = ("-" if value is None else milliseconds(value) for value in (row.p50_ms, row.p95_ms))
        grid.add_row(row.name, *times, count, _range(row.published_ms))
    console.print(grid)
    if report.workers:
        console.print()
        _show_workers(report, console)
    console.print("the paper: other machines and another model (docs/benchmarks.md)", style="dim")
    for note in report.notes:
        console.print(f"\n{note}", style="bold")


def _show_workers(report: BenchReport, console: Console) -> None:
    from llmhost.lab.bench import PUBLISHED

    low, high = PUBLISHED["worker"]
    numbers = ("first token", "tokens/s", "questions/min", "the paper")
    grid = table("worker", "gpu", *numbers, right=numbers)
    for one in report.workers:
        first = "-" if one.first_token_ms is None else milliseconds(one.first_token_ms)
        speed, rate = _number(one.tokens_per_s), _number(one.queries_per_minute)
        grid.add_row(one.worker, clean(one.gpu), first, speed, rate, f"{low:g} to {high:g}")
    if len(report.workers) > 1:
        count = len(report.workers)
        paper = f"{low * count:g} to {high * count:g}"
        grid.add_row("fleet", "", "", "", _number(report.queries_per_minute), paper)
    console.print(grid)
    for one in report.workers:
        if one.failure:
            console.print(f"{one.worker}: {clean(one.failure)}", style="red")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _range(published: tuple[float, float] | None) -> str:
    return "-" if published is None else f"{published[0]:,.0f} to {published[1]:,.0f} ms"
