"""The cost model: what a month costs, against what it would cost elsewhere. Pure; money in USD.

A month has 30 days. Each function is one formula.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from llmhost.ledger.buckets import first_bucket
from llmhost.ledger.cost import hours_of, spent
from llmhost.ledger.events import Outcome
from llmhost.ledger.rentals import Rental
from llmhost.ledger.totals import Totals

__all__ = [
    "DAYS",
    "Comparison",
    "Estimate",
    "Plan",
    "Price",
    "api_query",
    "begun",
    "break_even_hit_ratio",
    "break_even_queries",
    "cost_per_query",
    "estimate",
    "gpu_month",
    "hit_and_miss",
    "measured",
    "roi",
    "savings_ratio",
    "utilization",
]

#: days of a month
DAYS = 30

_MILLION = 1_000_000


def gpu_month(gpus: float, hours_per_day: float, price_per_hour: float) -> float:
    """``gpus * hours a day * 30 * price an hour``: the rent of a month, used or idle."""
    return gpus * hours_per_day * DAYS * price_per_hour


def cost_per_query(hit_ratio: float, hit_usd: float, miss_usd: float) -> float:
    """``hit ratio * hit + (1 - hit ratio) * miss``: a question's mean cost."""
    return hit_ratio * hit_usd + (1 - hit_ratio) * miss_usd


def hit_and_miss(gpu_usd: float, redis_usd: float, queries: float, hit_ratio: float) -> tuple[float, float]:
    """``redis / questions`` and ``redis / questions + rent / (questions * (1 - hit ratio))``: what a hit and
    a miss cost. Every question is looked up in Redis; the rent is for those that the cache does not answer.

    `cost_per_query` of the two is ``(rent + redis) / questions``, at the same hit ratio: where nothing
    misses, hits bear the rent.
    """
    lookup = redis_usd / queries
    misses = queries * (1 - hit_ratio)
    if not misses:
        return lookup + gpu_usd / queries, lookup + gpu_usd / queries
    return lookup, lookup + gpu_usd / misses


def break_even_hit_ratio(other_usd: float, hit_usd: float, miss_usd: float) -> float | None:
    """``(miss - other) / (miss - hit)``: the hit ratio at which a question costs as much as elsewhere.

    0 where it never costs more; None where a hit does, so that more of them do not help.
    """
    if hit_usd > other_usd:
        return None
    if miss_usd <= other_usd:
        return 0.0
    return (miss_usd - other_usd) / (miss_usd - hit_usd)


def break_even_queries(monthly_usd: float, other_usd: float) -> float | None:
    """``month / question elsewhere``: the questions a month from which on the month costs less than they
    would elsewhere. None where they are free there.
    """
    return monthly_usd / other_usd if other_usd else None


def savings_ratio(own_usd: float, other_usd: float) -> float | None:
    """``1 - own / other``: the part of the other cost that is saved; None where the other is free."""
    return 1 - own_usd / other_usd if other_usd else None


def roi(own_usd: float, other_usd: float) -> float | None:
    """``(other - own) / own``: what each dollar spent saves; None where nothing is spent."""
    return (other_usd - own_usd) / own_usd if own_usd else None


def api_query(
    prompt_tokens: float,
    completion_tokens: float,
    usd_per_million_prompt: float,
    usd_per_million_completion: float,
) -> float:
    """``(prompt * its price + answer * its price) / 1,000,000``: what an API charges for a question."""
    cost = prompt_tokens * usd_per_million_prompt + completion_tokens * usd_per_million_completion
    return cost / _MILLION


def utilization(
    misses: float, completion_tokens: float, gpus: float, hours_per_day: float, tokens_per_s: float
) -> float | None:
    """``misses * tokens / (gpus * hours a day * 30 * 3600 * tokens a second)``: over 1, the workers cannot
    answer them all. None without a worker.
    """
    capacity = gpus * hours_per_day * DAYS * 3600 * tokens_per_s
    return misses * completion_tokens / capacity if capacity else None


@dataclass(frozen=True, slots=True)
class Plan:
    """A month. `hit_usd` and `miss_usd` None: as `hit_and_miss` has it. `tokens_per_s` is a worker's, with
    all its slots in use; tokens are those of a mean question and its answer. `baseline_hours_per_day` are the
    hours that a GPU elsewhere is paid for.
    """

    gpus: float
    hours_per_day: float
    price_per_hour: float
    redis_per_month: float
    queries_per_month: float
    hit_ratio: float
    prompt_tokens: float
    completion_tokens: float
    tokens_per_s: float
    baseline_hours_per_day: float | None = None
    hit_usd: float | None = None
    miss_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What something costs elsewhere: one of an hour of a GPU, the tokens (prompt, answer) of an API in USD a
    million, and a question."""

    name: str
    as_of: str
    usd_per_hour: float | None = None
    usd_per_million: tuple[float, float] | None = None
    usd_per_query: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The plan against one price. Of one by the question, a question's cost is compared, else the month's.
    `break_even_queries` is None for a GPU by the hour, which costs the same however much is asked, and where
    the workers cannot answer so many.
    """

    name: str
    as_of: str
    monthly_usd: float
    per_query_usd: float
    savings_usd: float
    savings_ratio: float | None
    roi: float | None
    break_even_hit_ratio: float | None
    break_even_queries: float | None
    by_hour: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the plan comes to. `break_even_hit_ratio` is from where on the cache costs less than it saves."""

    gpu_usd: float
    redis_usd: float
    monthly_usd: float
    hit_usd: float
    miss_usd: float
    per_query_usd: float
    utilization: float | None
    break_even_hit_ratio: float | None
    versus: Sequence[Comparison]


def estimate(plan: Plan, prices: Iterable[Price]) -> Estimate:
    """The month, and how it compares."""
    gpu = gpu_month(plan.gpus, plan.hours_per_day, plan.price_per_hour)
    queries = plan.queries_per_month
    hit, miss = hit_and_miss(gpu, plan.redis_per_month, queries, plan.hit_ratio)
    hit = hit if plan.hit_usd is None else plan.hit_usd
    miss = miss if plan.miss_usd is None else plan.miss_usd
    misses = queries * (1 - plan.hit_ratio)
    # Without the cache there is no Redis to pay for.
    bare = miss - plan.redis_per_month / queries
    load = utilization(misses, plan.completion_tokens, plan.gpus, plan.hours_per_day, plan.tokens_per_s)
    own = (gpu + plan.redis_per_month, cost_per_query(plan.hit_ratio, hit, miss))
    return Estimate(
        gpu_usd=gpu,
        redis_usd=plan.redis_per_month,
        monthly_usd=own[0],
        hit_usd=hit,
        miss_usd=miss,
        per_query_usd=own[1],
        utilization=load,
        break_even_hit_ratio=break_even_hit_ratio(bare, hit, miss) if miss > hit else None,
        versus=[_compare(plan, price, own, (hit, miss)) for price in prices],
    )


def _compare(
    plan: Plan, price: Price, own: tuple[float, float], hit_and_miss: tuple[float, float]
) -> Comparison:
    queries, by_query = plan.queries_per_month, price.usd_per_query is not None
    if price.usd_per_query is not None:
        monthly = price.usd_per_query * queries
    elif price.usd_per_million is not None:
        monthly = queries * api_query(plan.prompt_tokens, plan.completion_tokens, *price.usd_per_million)
    else:
        hours = plan.hours_per_day if plan.baseline_hours_per_day is None else plan.baseline_hours_per_day
        monthly = gpu_month(plan.gpus, hours, price.usd_per_hour or 0.0)
    per_query = monthly / queries
    month, query = own
    mine, others = (query, per_query) if by_query else (month, monthly)
    return Comparison(
        name=price.name,
        as_of=price.as_of,
        monthly_usd=monthly,
        per_query_usd=per_query,
        savings_usd=(others - mine) * (queries if by_query else 1),
        savings_ratio=savings_ratio(mine, others),
        roi=roi(mine, others),
        break_even_hit_ratio=break_even_hit_ratio(per_query, *hit_and_miss),
        break_even_queries=None if price.usd_per_hour is not None else _within(plan, month, per_query),
        by_hour=price.usd_per_hour is not None,
    )


def _within(plan: Plan, monthly_usd: float, per_query_usd: float) -> float | None:
    """`break_even_queries` if the workers can answer so many."""
    queries = break_even_queries(monthly_usd, per_query_usd)
    if queries is None:
        return None
    load = utilization(
        queries * (1 - plan.hit_ratio),
        plan.completion_tokens,
        plan.gpus,
        plan.hours_per_day,
        plan.tokens_per_s,
    )
    return queries if load is not None and load <= 1 else None


def begun(rentals: Iterable[Rental], first: float | None, now: float) -> float:
    """Since when something is known of a fleet, Unix seconds: its first rental, or the start `first` of the
    bucket that holds its first question. What is rented within that bucket says it to the second.
    """
    starts = [rental.started for rental in rentals]
    if first is not None and not any(first <= at < first_bucket(first, now).end for at in starts):
        starts.append(first)
    return min(starts, default=now)


def measured(totals: Totals, rentals: Sequence[Rental], since: float, now: float) -> Mapping[str, float]:
    """The values of a `Plan` that were measured from `since` until `now`, Unix seconds; nothing is known of
    what did not happen. Workers are counted by the hours that were paid for.
    """
    found: dict[str, float] = {}
    months = (now - since) / (DAYS * 86_400)
    hours = hours_of(rentals, since, now)
    if hours:
        found |= {"gpus": hours / ((now - since) / 3600), "hours_per_day": 24.0}
        found["price_per_hour"] = spent(rentals, since, now) / hours
    if totals.requests:
        found["queries_per_month"] = totals.requests / months
    hits, misses = totals.count(Outcome.EXACT, Outcome.SEMANTIC), totals.count(Outcome.MISS)
    if hits + misses:
        found["hit_ratio"] = hits / (hits + misses)
    if answers := totals.count(Outcome.MISS, Outcome.BYPASS):
        found["prompt_tokens"] = totals.prompt_tokens / answers
        found["completion_tokens"] = totals.completion_tokens / answers
    return found
