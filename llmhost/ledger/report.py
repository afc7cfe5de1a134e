"""What `llmhost stats` says, computed from the ledger's sums. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmhost.ledger.buckets import percentile
from llmhost.ledger.cost import Money, money, spent
from llmhost.ledger.events import Outcome
from llmhost.ledger.rentals import Rental
from llmhost.ledger.totals import Totals

__all__ = ["Compared", "Percentiles", "Report", "Shadow", "Target", "Targets", "make_report"]


@dataclass(frozen=True, slots=True)
class Targets:
    """What is promised: a share, seconds, seconds, USD."""

    hit_ratio: float
    hit_latency: float
    miss_latency: float
    cost_per_query: float


@dataclass(frozen=True, slots=True)
class Target:
    """One promise; `actual` and `met` are None while nothing was measured."""

    name: str
    target: float
    actual: float | None
    met: bool | None


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds, within 5 %; None without samples."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Compared:
    """Hits that were not served, by what the engine's answer says of them."""

    right: int = 0
    wrong: int = 0
    unclear: int = 0


@dataclass(frozen=True, slots=True)
class Shadow:
    """What the cache would have done if its hits had been served: they are misses in `Report`. Those of
    `exact` that are wrong say how often the engine contradicts itself.
    """

    exact_hits: int
    semantic_hits: int
    hit_ratio: float | None
    saved_usd: float
    exact: Compared
    semantic: Compared


@dataclass(frozen=True, slots=True)
class Report:
    """`hit_ratio` is hits over hits and misses: questions that bypassed the cache, or got no answer,
    are no evidence about it. `hit_user_ms` and `miss_user_ms` are what users waited, by which the targets are
    judged; `hit_ms` and `miss_ms` leave out the start of a command and the loading of the models. `judged`
    counts the pairs of questions that an engine was asked to judge, `audits` the hits that one answered as
    well, `renewals` the stale answers that one gave anew, and `embeddings` the requests for which one gave
    vectors: none of these is among the `requests`. Tokens are those that engines worked on. `kinds` counts
    questions by whether their answers keep.
    """

    requests: int
    exact_hits: int
    semantic_hits: int
    misses: int
    bypassed: int
    errors: int
    judged: int
    embeddings: int
    audits: int
    renewals: int
    hit_ratio: float | None
    hit_ms: Percentiles
    miss_ms: Percentiles
    hit_user_ms: Percentiles
    miss_user_ms: Percentiles
    prompt_tokens: int
    completion_tokens: int
    money: Money
    targets: Sequence[Target]
    shadow: Shadow
    kinds: Mapping[str, int]


def make_report(
    totals: Totals, rentals: Sequence[Rental], targets: Targets, since: float, now: float
) -> Report:
    """The report on the time from `since` until `now`, Unix seconds."""
    hits, misses = totals.count(Outcome.EXACT, Outcome.SEMANTIC), totals.count(Outcome.MISS)
    ratio = hits / (hits + misses) if hits + misses else None
    answered = totals.requests - totals.count(Outcome.ERROR)
    sums = money(spent(rentals, since, now), totals.saved_usd, answered)
    hit_user_ms, miss_user_ms = _percentiles(totals.hit_user_ms), _percentiles(totals.miss_user_ms)
    return Report(
        requests=totals.requests,
        exact_hits=totals.count(Outcome.EXACT),
        semantic_hits=totals.count(Outcome.SEMANTIC),
        misses=misses,
        bypassed=totals.count(Outcome.BYPASS),
        errors=totals.count(Outcome.ERROR),
        judged=totals.count(Outcome.JUDGE),
        embeddings=totals.count(Outcome.EMBEDDING),
        audits=totals.count(Outcome.AUDIT),
        renewals=totals.count(Outcome.RENEWAL),
        hit_ratio=ratio,
        hit_ms=_percentiles(totals.hit_ms),
        miss_ms=_percentiles(totals.miss_ms),
        hit_user_ms=hit_user_ms,
        miss_user_ms=miss_user_ms,
        prompt_tokens=totals.prompt_tokens,
        completion_tokens=totals.completion_tokens,
        money=sums,
        targets=[
            _above("hit_ratio", targets.hit_ratio, ratio),
            _below("hit_p95_ms", targets.hit_latency * 1000, hit_user_ms.p95),
            _below("miss_p95_ms", targets.miss_latency * 1000, miss_user_ms.p95),
            _below("usd_per_query", targets.cost_per_query, sums.per_query_usd),
        ],
        shadow=_shadow(totals, hits, misses),
        kinds=totals.kinds,
    )


def _shadow(totals: Totals, hits: int, misses: int) -> Shadow:
    counts = totals.shadow
    exact, semantic = counts.get("exact", 0), counts.get("semantic", 0)
    ratio = (hits + exact + semantic) / (hits + misses) if exact + semantic else None
    return Shadow(
        exact_hits=exact,
        semantic_hits=semantic,
        hit_ratio=ratio,
        saved_usd=totals.shadow_saved_usd,
        exact=_compared(counts, "exact"),
        semantic=_compared(counts, "semantic"),
    )


def _compared(counts: Mapping[str, int], tier: str) -> Compared:
    return Compared(*(counts.get(f"{tier}:{found}", 0) for found in ("right", "wrong", "unclear")))


def _percentiles(counts: Mapping[int, int]) -> Percentiles:
    p50, p95, p99 = (percentile(counts, share) for share in (0.50, 0.95, 0.99))
    return Percentiles(p50, p95, p99)


def _above(name: str, target: float, actual: float | None) -> Target:
    return Target(name, target, actual, None if actual is None else actual > target)


def _below(name: str, target: float, actual: float | None) -> Target:
    return Target(name, target, actual, None if actual is None else actual < target)
