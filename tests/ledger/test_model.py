"""The cost model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.ledger.events import Outcome
from llmhost.ledger.model import (
    Comparison,
    Plan,
    Price,
    api_query,
    begun,
    break_even_hit_ratio,
    break_even_queries,
    cost_per_query,
    estimate,
    gpu_month,
    hit_and_miss,
    measured,
    roi,
    savings_ratio,
    utilization,
)
from llmhost.ledger.rentals import Rental
from llmhost.ledger.totals import Totals

RATIO = st.floats(0, 1)
USD = st.floats(0, 1e4)
SOME_USD = st.floats(1e-6, 1e4)
QUERIES = st.floats(1, 1e9)

#: the production set-up of the paper, and its prices of a hit and a miss
PAPER = Plan(
    gpus=3,
    hours_per_day=12,
    price_per_hour=0.50,
    redis_per_month=50,
    queries_per_month=100_000,
    hit_ratio=0.7,
    prompt_tokens=200,
    completion_tokens=200,
    tokens_per_s=50,
    baseline_hours_per_day=24,
    hit_usd=0.0001,
    miss_usd=0.01,
)
#: the same without prices of its own
PLAN = replace(PAPER, hit_usd=None, miss_usd=None)


def against(plan: Plan, price: Price) -> Comparison:
    (row,) = estimate(plan, [price]).versus
    return row


def test_one_gpu_around_the_clock_costs_360_dollars_a_month() -> None:
    assert gpu_month(1, 24, 0.50) == 360


def test_three_for_half_the_day_cost_540_dollars_and_590_with_redis() -> None:
    made = estimate(PAPER, [])
    assert (made.gpu_usd, made.monthly_usd) == (540, 590)


def test_three_a100_on_aws_cost_6600_dollars_of_which_91_percent_are_saved() -> None:
    row = against(PAPER, Price("AWS", "paper", usd_per_hour=3.06))
    assert row.monthly_usd == pytest.approx(6_600, rel=0.002)
    assert row.savings_ratio == pytest.approx(0.91, abs=0.005)


def test_a_question_costs_a_third_of_a_cent_which_saves_80_percent() -> None:
    assert cost_per_query(0.7, 0.0001, 0.01) == pytest.approx(0.003, abs=0.0001)
    row = against(PAPER, Price("cloud", "paper", usd_per_query=0.015))
    assert row.savings_ratio == pytest.approx(0.80, abs=0.005)
    assert row.roi == pytest.approx(3.89, abs=0.01)


def test_the_cache_breaks_even_at_15_percent_where_33670_questions_are_asked() -> None:
    made = estimate(replace(PAPER, queries_per_month=33_670), [])
    assert made.break_even_hit_ratio == pytest.approx(0.15, abs=1e-4)


@given(RATIO, USD, USD)
def test_a_question_costs_no_less_than_the_cheaper_and_no_more_than_the_dearer(
    ratio: float, hit: float, miss: float
) -> None:
    low, high = sorted((hit, miss))
    assert low - 1e-9 <= cost_per_query(ratio, hit, miss) <= high + 1e-9


@given(USD, USD, QUERIES, st.one_of(st.floats(0, 0.999), st.just(1.0)))
def test_hits_and_misses_together_cost_the_month(
    gpu: float, redis: float, queries: float, ratio: float
) -> None:
    mean = cost_per_query(ratio, *hit_and_miss(gpu, redis, queries, ratio))
    assert mean * queries == pytest.approx(gpu + redis)


@given(USD, SOME_USD, SOME_USD)
def test_at_the_break_even_a_question_costs_as_much_as_elsewhere(
    hit: float, more: float, most: float
) -> None:
    other = hit + more
    miss = other + most
    ratio = break_even_hit_ratio(other, hit, miss)
    assert ratio is not None
    assert 0 <= ratio <= 1
    assert cost_per_query(ratio, hit, miss) == pytest.approx(other, rel=1e-6, abs=1e-6)


@given(SOME_USD, SOME_USD, USD)
def test_there_is_no_break_even_only_where_even_a_hit_costs_more(
    other: float, hit: float, more: float
) -> None:
    miss = hit + more
    ratio = break_even_hit_ratio(other, hit, miss)
    assert (ratio is None) == (hit > other)
    assert (ratio == 0) == (miss <= other)


def test_where_a_miss_costs_less_than_elsewhere_and_a_hit_more_hits_do_not_help() -> None:
    assert break_even_hit_ratio(0.022, 0.5, 0.01) is None


@given(USD, SOME_USD)
def test_so_many_questions_cost_the_month(month: float, other: float) -> None:
    queries = break_even_queries(month, other)
    assert queries is not None
    assert queries * other == pytest.approx(month)


@given(SOME_USD, SOME_USD)
def test_what_is_saved_is_the_same_money_as_share_and_as_return(own: float, other: float) -> None:
    share, back = savings_ratio(own, other), roi(own, other)
    assert share is not None
    assert back is not None
    assert share * other == pytest.approx(back * own, abs=1e-6)


def test_of_what_is_free_nothing_can_be_saved() -> None:
    assert savings_ratio(1.0, 0.0) is None
    assert roi(0.0, 1.0) is None
    assert break_even_queries(1.0, 0.0) is None


def test_an_api_charges_prompts_and_answers_by_the_million_tokens() -> None:
    assert api_query(1_000, 500, 0.15, 0.60) == pytest.approx(0.00045)


@given(st.floats(1, 1e6), st.floats(1, 1000), st.floats(0.5, 100), st.floats(1, 24), st.floats(1, 1e4))
def test_twice_the_workers_are_half_as_busy(
    misses: float, tokens: float, gpus: float, hours: float, speed: float
) -> None:
    one = utilization(misses, tokens, gpus, hours, speed)
    two = utilization(misses, tokens, 2 * gpus, hours, speed)
    assert one is not None
    assert two == pytest.approx(one / 2)


def test_without_a_worker_there_is_no_utilization() -> None:
    assert utilization(10, 10, 0, 24, 50) is None


@given(RATIO, RATIO)
def test_more_hits_never_cost_more(one: float, two: float) -> None:
    fewer, more = sorted((one, two))
    costs = [estimate(replace(PAPER, hit_ratio=ratio), []).per_query_usd for ratio in (fewer, more)]
    assert costs[1] <= costs[0] + 1e-12


def test_an_api_is_no_match_where_the_workers_cannot_answer_as_many_questions_as_it_takes() -> None:
    cheap = Price("api", "2026-11-05", usd_per_million=(0.02, 0.04))
    dear = Price("api", "2026-11-05", usd_per_million=(20.0, 40.0))
    assert against(PLAN, cheap).break_even_queries is None
    assert against(PLAN, dear).break_even_queries == pytest.approx(590 / 0.012)


def test_a_plan_that_asks_nothing_of_workers_that_are_not_there_costs_redis_alone() -> None:
    made = estimate(replace(PLAN, gpus=0, hit_ratio=1.0), [Price("AWS", "paper", usd_per_hour=3.06)])
    assert made.monthly_usd == 50
    assert made.utilization is None
    assert made.break_even_hit_ratio is None
    assert made.versus[0].savings_ratio is None


TOTALS = Totals(
    outcomes={
        Outcome.EXACT: 30,
        Outcome.SEMANTIC: 30,
        Outcome.MISS: 30,
        Outcome.BYPASS: 10,
        Outcome.AUDIT: 5,
    },
    prompt_tokens=4_000,
    completion_tokens=8_000,
)


def test_a_month_goes_on_as_it_was_measured() -> None:
    day = 86_400.0
    rentals = [Rental("a", 0.5, 0, day / 2), Rental("b", 0.5, 0, None, once=3.0)]
    assert measured(TOTALS, rentals, 0, day) == {
        "gpus": pytest.approx(1.5),
        "hours_per_day": 24.0,
        "price_per_hour": pytest.approx((36 * 0.5 + 3) / 36),
        "queries_per_month": pytest.approx(3_000),
        "hit_ratio": pytest.approx(2 / 3),
        "prompt_tokens": 100,
        "completion_tokens": 200,
    }


def test_of_nothing_nothing_is_known() -> None:
    assert measured(Totals(), [], 0, 3_600) == {}


@pytest.mark.parametrize(
    ("rented", "first", "begin"),
    [
        ([30.0, 50.0], 0.0, 30.0),  # within the first minute: to the second
        ([30.0], 60.0, 30.0),
        ([130.0], 60.0, 60.0),  # questions were asked before it was rented
        ([], 60.0, 60.0),
        ([130.0], None, 130.0),
        ([], None, 200.0),
    ],
)
def test_a_fleet_begins_with_what_is_known_of_it_first(
    rented: list[float], first: float | None, begin: float
) -> None:
    now = 1_200_000_000.0
    rentals = [Rental("a", 0.5, now + started) for started in rented]
    assert begun(rentals, None if first is None else now + first, now + 200) == now + begin
