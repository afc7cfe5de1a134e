"""What `llmhost stats` says, computed from the ledger's sums. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llmhost.ledger.buckets import Bucket, percentile
from llmhost.ledger.cost import (
    Money,
    cost_reduction,
    hours_of,
    hours_without_cache,
    money,
    spent,
    spent_by_worker,
)
from llmhost.ledger.events import Outcome
from llmhost.ledger.model import Price, api_query, savings_ratio
from llmhost.ledger.rentals import Rental
from llmhost.ledger.totals import Totals

__all__ = [
    "AskerUse",
    "Compared",
    "Elsewhere",
    "Percentiles",
    "Point",
    "Report",
    "Shadow",
    "Target",
    "Targets",
    "WorkerUse",
    "asker_use",
    "make_point",
    "make_report",
    "trace_rows",
    "versus",
    "worker_use",
]


@dataclass(frozen=True, slots=True)
class Targets:
    """The goals of the configuration: a share, seconds, seconds, USD, a share, a share."""

    hit_ratio: float
    hit_latency: float
    miss_latency: float
    cost_per_query: float
    cost_reduction: float
    up_time: float


@dataclass(frozen=True, slots=True)
class Target:
    """One goal; `actual` and `met` are None while nothing was measured."""

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
    counts the pairs of questions that an engine was asked to judge, `condensed` the follow-up questions that
    one was asked to say so that they stand alone, `audits` the hits that one answered as
    well, `renewals` the stale answers that one renewed, and `embeddings` the requests for which one gave
    vectors: none of these is among the `requests`. Tokens are those that engines worked on. `kinds` counts
    questions by whether their answers keep; `left` are questions whose user wanted no answer any more, and
    `up_time` is the share of the others that got one. `steps` is what each step took, and `hours` for how
    long workers were paid for. `cost_reduction` is against a GPU at the price that `make_report` is given.
    """

    requests: int
    exact_hits: int
    semantic_hits: int
    misses: int
    bypassed: int
    errors: int
    left: int
    judged: int
    condensed: int
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
    up_time: float | None
    cost_reduction: float | None
    hours: float
    steps: Mapping[str, Percentiles]


def make_report(
    totals: Totals,
    rentals: Sequence[Rental],
    targets: Targets,
    since: float,
    now: float,
    gpu_usd_per_hour: float = 0.0,
) -> Report:
    """The report on the time from `since` until `now`, Unix seconds. `gpu_usd_per_hour` is the price that the
    cost is compared with; 0 where there is none."""
    hits, misses = totals.count(Outcome.EXACT, Outcome.SEMANTIC), totals.count(Outcome.MISS)
    ratio = hits / (hits + misses) if hits + misses else None
    errors, left = totals.count(Outcome.ERROR), totals.count(Outcome.LEFT)
    answered = totals.requests - errors - left
    up_time = answered / (answered + errors) if answered + errors else None
    hours = hours_of(rentals, since, now)
    sums = money(spent(rentals, since, now), totals.saved_usd, answered)
    reduction = cost_reduction(sums.spent_usd, sums.saved_usd, hours, gpu_usd_per_hour)
    hit_user_ms, miss_user_ms = _percentiles(totals.hit_user_ms), _percentiles(totals.miss_user_ms)
    return Report(
        requests=totals.requests,
        exact_hits=totals.count(Outcome.EXACT),
        semantic_hits=totals.count(Outcome.SEMANTIC),
        misses=misses,
        bypassed=totals.count(Outcome.BYPASS),
        errors=errors,
        left=left,
        judged=totals.count(Outcome.JUDGE),
        condensed=totals.count(Outcome.CONDENSE),
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
            _above("cost_reduction", targets.cost_reduction, reduction),
            _above("up_time", targets.up_time, up_time),
        ],
        shadow=_shadow(totals, hits, misses),
        kinds=totals.kinds,
        up_time=up_time,
        cost_reduction=reduction,
        hours=hours,
        steps={step: _percentiles(counts) for step, counts in totals.steps.items()},
    )


@dataclass(frozen=True, slots=True)
class Point:
    """What happened from `start` until `end`, Unix seconds. `other` questions bypassed the cache, or got no
    answer; latencies are medians, in milliseconds, of what users waited."""

    start: int
    end: int
    requests: int
    exact: int
    semantic: int
    misses: int
    other: int
    hit_ratio: float | None
    hit_ms: float | None
    miss_ms: float | None
    spent_usd: float
    saved_usd: float


def make_point(part: Sequence[Bucket], totals: Totals, rentals: Sequence[Rental], now: float) -> Point:
    """One stretch of time of a chart."""
    start, end = part[0].start, part[-1].end
    hits, misses = totals.count(Outcome.EXACT, Outcome.SEMANTIC), totals.count(Outcome.MISS)
    begun = [rental for rental in rentals if rental.started < end]  # what is paid once counts in one point
    return Point(
        start=start,
        end=end,
        requests=totals.requests,
        exact=totals.count(Outcome.EXACT),
        semantic=totals.count(Outcome.SEMANTIC),
        misses=misses,
        other=totals.requests - hits - misses,
        hit_ratio=hits / (hits + misses) if hits + misses else None,
        hit_ms=percentile(totals.hit_user_ms, 0.5),
        miss_ms=percentile(totals.miss_user_ms, 0.5),
        spent_usd=spent(begun, start, min(end, now)),
        saved_usd=totals.saved_usd,
    )


@dataclass(frozen=True, slots=True)
class WorkerUse:
    """What a worker did, and cost. `tokens_per_s` is the mean speed of its answers, `utilization` the share
    of its slots that were in use while it was paid for; None where that is not known."""

    worker: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    tokens_per_s: float | None
    utilization: float | None
    hours: float
    spent_usd: float


def worker_use(
    totals: Totals, rentals: Sequence[Rental], slots: int, since: float, now: float
) -> Sequence[WorkerUse]:
    """Each worker that was paid for, or gave an answer, the busiest first. A worker serves `slots` requests
    at once."""
    sums, costs = totals.by.get("worker", {}), spent_by_worker(rentals, since, now)
    found = []
    for worker in {*sums, *costs}:
        own = sums.get(worker, {})
        hours = hours_of((rental for rental in rentals if rental.worker == worker), since, now)
        if not (own or hours or costs.get(worker)):
            continue
        busy, tokens = own.get("engine_seconds", 0.0), own.get("completion_tokens", 0.0)
        found.append(
            WorkerUse(
                worker=worker,
                answers=round(own.get("answers", 0.0)),
                prompt_tokens=round(own.get("prompt_tokens", 0.0)),
                completion_tokens=round(tokens),
                tokens_per_s=tokens / busy if busy else None,
                utilization=min(1.0, busy / (hours * 3600 * slots)) if hours else None,
                hours=hours,
                spent_usd=costs.get(worker, 0.0),
            )
        )
    return sorted(found, key=lambda one: (-one.answers, -one.spent_usd, one.worker))


@dataclass(frozen=True, slots=True)
class AskerUse:
    """What a tenant, or a model, was asked. Tokens are those of all answers, cached ones too; `cost_usd` is
    the engines' time, without what workers cost while they are idle."""

    name: str
    requests: int
    exact: int
    semantic: int
    misses: int
    errors: int
    hit_ratio: float | None
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    saved_usd: float


def asker_use(totals: Totals, kind: str) -> Sequence[AskerUse]:
    """Each of this kind, ``tenant`` or ``model``; those with the most questions first."""
    found = [_asker(name, sums) for name, sums in totals.by.get(kind, {}).items()]
    return sorted(found, key=lambda one: (-one.requests, one.name))


def _asker(name: str, sums: Mapping[str, float]) -> AskerUse:
    count = {outcome: round(sums.get(outcome, 0.0)) for outcome in Outcome}
    hits, misses = count[Outcome.EXACT] + count[Outcome.SEMANTIC], count[Outcome.MISS]
    return AskerUse(
        name=name,
        requests=sum(count.values()),
        exact=count[Outcome.EXACT],
        semantic=count[Outcome.SEMANTIC],
        misses=misses,
        errors=count[Outcome.ERROR],
        hit_ratio=hits / (hits + misses) if hits + misses else None,
        prompt_tokens=round(sums.get("served_prompt_tokens", 0.0)),
        completion_tokens=round(sums.get("served_completion_tokens", 0.0)),
        cost_usd=sums.get("cost_usd", 0.0),
        saved_usd=sums.get("saved_usd", 0.0),
    )


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What the same answers would have cost elsewhere, without a cache, and which part of it was saved; less
    than 0 where it would have been cheaper. `as_of` is the date of the price."""

    name: str
    as_of: str
    usd: float
    savings_ratio: float | None
    unit: Literal["hour", "token", "query"]


def versus(report: Report, totals: Totals, prices: Iterable[Price]) -> Sequence[Elsewhere]:
    """The report against each price: by the hour, for the hours that the answers would have taken without
    hits; by the token and by the question, for all that were answered."""
    cost, found = report.money, []
    hours = hours_without_cache(report.hours, cost.spent_usd, cost.saved_usd) or report.hours
    tokens = (float(totals.served_prompt_tokens), float(totals.served_completion_tokens))
    answered = report.requests - report.errors - report.left
    for price in prices:
        unit: Literal["hour", "token", "query"]
        if price.usd_per_hour is not None:
            unit, usd = "hour", hours * price.usd_per_hour
        elif price.usd_per_million is not None:
            unit, usd = "token", api_query(*tokens, *price.usd_per_million)
        else:
            unit, usd = "query", answered * (price.usd_per_query or 0.0)
        found.append(Elsewhere(price.name, price.as_of, usd, savings_ratio(cost.spent_usd, usd), unit))
    return found


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


def trace_rows(
    parts: Sequence[Sequence[Bucket]], series: Sequence[Totals]
) -> Iterator[tuple[float, int, int]]:
    """The questions that were answered, oldest first: when (Unix seconds), tokens of the prompt and of the
    answer. What is known are the sums of each part: its questions are alike, and evenly spread over it.
    """
    for part, totals in zip(parts, series, strict=True):
        count = totals.requests - totals.count(Outcome.ERROR, Outcome.LEFT)
        length = part[-1].end - part[0].start
        prompts = _shares(totals.served_prompt_tokens, count)
        answers = _shares(totals.served_completion_tokens, count)
        for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            yield part[0].start + (number + 0.5) * length / count, prompt, answer


def _shares(total: int, count: int) -> Iterator[int]:
    """`count` whole numbers, nearly alike, that add up to `total`."""
    return (total * (number + 1) // count - total * number // count for number in range(count))
