"""Figures of a busy day, as `llmhost stats` gathers them."""

from __future__ import annotations

from llmhost.cache.calibration import LabelsReport, Tally
from llmhost.cache.catalog import CacheUsage
from llmhost.cache.models import Answer, Entry
from llmhost.cli.stats_view import Stats
from llmhost.config.cost import BASELINES
from llmhost.ledger.buckets import bucket_of, stretches_since
from llmhost.ledger.events import Outcome
from llmhost.ledger.model import Price
from llmhost.ledger.rentals import Rental
from llmhost.ledger.report import Targets, asker_use, make_point, make_report, versus, worker_use
from llmhost.ledger.totals import Totals

__all__ = ["NOW", "STATS", "TARGETS", "busy"]

NOW = 1_800_000_000.0
DAY = 86_400.0
TARGETS = Targets(
    hit_ratio=0.70,
    hit_latency=0.1,
    miss_latency=5.0,
    cost_per_query=0.001,
    cost_reduction=0.81,
    up_time=0.995,
)
RENTALS = [Rental(f"vast-{number}", 0.35, NOW - DAY) for number in (1234567, 1234568, 1234569)]


def busy(scale: int) -> Totals:
    """So many questions of each kind, twice as many exact hits."""
    asked = {"exact": 2.0 * scale, "semantic": 1.0 * scale, "miss": 1.0 * scale, "error": 1.0}
    sums = {
        "served_prompt_tokens": 900.0 * scale,
        "served_completion_tokens": 700.0 * scale,
        "cost_usd": 0.01,
    }
    return Totals(
        outcomes={
            Outcome.EXACT: 2 * scale,
            Outcome.SEMANTIC: scale,
            Outcome.MISS: scale,
            Outcome.BYPASS: scale // 4,
            Outcome.ERROR: 1,
            Outcome.LEFT: 2,
        },
        prompt_tokens=230 * scale,
        completion_tokens=190 * scale,
        engine_seconds=2.0 * scale,
        saved_usd=0.0006 * scale,
        hit_ms={bucket_of(2.0): 3 * scale},
        miss_ms={bucket_of(2_900.0): scale},
        hit_user_ms={bucket_of(14.0): 3 * scale},
        miss_user_ms={bucket_of(3_100.0): scale},
        served_prompt_tokens=900 * scale,
        served_completion_tokens=700 * scale,
        steps={
            name: {bucket_of(taken): scale}
            for name, taken in {"embed": 6, "lookup": 1, "engine": 2_800}.items()
        },
        by={
            "tenant": {"acme & <sons>": asked | sums, "default": asked | sums},
            "model": {"qwen2:7b-instruct-q6_K": asked | sums},
            "worker": {
                one.worker: {
                    "answers": 1.0 * scale,
                    "prompt_tokens": 80.0 * scale,
                    "completion_tokens": 60.0 * scale,
                    "engine_seconds": 0.7 * scale,
                }
                for one in RENTALS
            },
        },
    )


def _entry(number: int, question: str) -> Entry:
    answer = Answer("yes", "qwen2:7b", NOW - 100, 10, 20, "stop", 1.0, 0.0001)
    return Entry(f"{number:032x}", question, "0" * 32, "e", 384, 90 - number, NOW - 100, NOW, 3600.0, answer)


def _stats() -> Stats:
    totals = busy(12_000)
    prices = [Price(b.name, b.as_of, b.usd_per_hour, b.usd_per_million, b.usd_per_query) for b in BASELINES]
    report = make_report(totals, RENTALS, TARGETS, NOW - DAY, NOW, 1.006)
    parts = stretches_since(NOW - DAY, NOW, 48)
    series = [busy(40 * (number % 7)) if number % 5 else Totals() for number, _ in enumerate(parts)]
    return Stats(
        since=DAY,
        report=report,
        points=[make_point(part, sums, RENTALS, NOW) for part, sums in zip(parts, series, strict=True)],
        workers=worker_use(totals, RENTALS, 4, NOW - DAY, NOW),
        tenants=asker_use(totals, "tenant"),
        models=asker_use(totals, "model"),
        versus=versus(report, totals, prices),
        usage=CacheUsage(93_000_000, 11_904, 8_191, 0, 1_204, 40_000, 12_000),
        labels=LabelsReport({"audit": {"0.9": Tally(498, 3)}}),
        max_error=0.02,
        estimated=True,
        top=[
            _entry(
                0, "How do I reset my router to its factory settings, and what is lost when I do so? " * 3
            ),
            _entry(1, "What is <b>Redis</b> & why?"),
            _entry(2, "\x1b[31mWho was Plato?\x1b[0m"),
        ],
    )


STATS = _stats()
