"""What `stats` says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from doubles.stats import TARGETS

from llmhost.ledger.buckets import MINUTE, Bucket, bucket_of, stretches
from llmhost.ledger.events import Outcome
from llmhost.ledger.model import Price
from llmhost.ledger.rentals import Rental
from llmhost.ledger.report import (
    Report,
    asker_use,
    make_point,
    make_report,
    trace_rows,
    versus,
    worker_use,
)
from llmhost.ledger.totals import Totals

HOUR = 3_600.0


#: USD an hour elsewhere
CLOUD = 5.0


def report(totals: Totals, *rentals: Rental) -> Report:
    return make_report(totals, rentals, TARGETS, since=0.0, now=HOUR, gpu_usd_per_hour=CLOUD)


def met(made: Report) -> dict[str, bool | None]:
    return {target.name: target.met for target in made.targets}


BUSY = Totals(
    outcomes={
        Outcome.EXACT: 300,
        Outcome.SEMANTIC: 500,
        Outcome.MISS: 200,
        Outcome.BYPASS: 50,
        Outcome.ERROR: 4,
    },
    saved_usd=0.5,
    hit_ms=Counter({bucket_of(2.0): 800}),
    miss_ms=Counter({bucket_of(1_000.0): 200}),
    hit_user_ms=Counter({bucket_of(20.0): 800}),
    miss_user_ms=Counter({bucket_of(2_000.0): 200}),
)


def test_the_hit_ratio_counts_only_questions_that_the_cache_was_asked() -> None:
    assert report(BUSY).hit_ratio == 0.8


def test_a_question_that_was_answered_costs_its_share_of_the_rent() -> None:
    made = report(BUSY, Rental("w", 0.5, 0.0))
    assert made.money.per_query_usd == pytest.approx(0.5 / 1050)


def test_texts_that_an_engine_embedded_are_no_questions() -> None:
    embedding = replace(BUSY, outcomes={**BUSY.outcomes, Outcome.EMBEDDING: 7})
    made = report(embedding, Rental("w", 0.5, 0.0))
    assert (made.embeddings, made.requests) == (7, 1054)
    assert made.money == report(BUSY, Rental("w", 0.5, 0.0)).money


def test_what_hits_saved_is_held_against_what_all_would_have_cost() -> None:
    sums = report(BUSY, Rental("w", 0.5, 0.0)).money
    assert (sums.baseline_usd, sums.savings_ratio) == (1.0, 0.5)


def test_targets_that_are_met_say_so() -> None:
    assert met(report(BUSY, Rental("w", 0.5, 0.0))) == {
        "hit_ratio": True,
        "hit_p95_ms": True,
        "miss_p95_ms": True,
        "usd_per_query": True,
        "cost_reduction": True,
        "up_time": True,
    }


def test_targets_that_are_missed_say_so() -> None:
    slow = Totals(
        outcomes={Outcome.EXACT: 1, Outcome.MISS: 1, Outcome.ERROR: 1},
        hit_user_ms={bucket_of(200.0): 1},
        miss_user_ms={bucket_of(9_000.0): 1},
    )
    assert set(met(report(slow, Rental("w", 5.0, 0.0))).values()) == {False}


def test_latency_is_judged_by_what_users_waited_and_not_by_what_the_process_took() -> None:
    made = report(
        Totals(
            outcomes={Outcome.EXACT: 1},
            hit_ms={bucket_of(2.0): 1},
            hit_user_ms={bucket_of(400.0): 1},
        )
    )
    (target,) = (target for target in made.targets if target.name == "hit_p95_ms")
    assert (target.met, target.actual) == (False, made.hit_user_ms.p95)
    assert made.hit_ms.p95 == pytest.approx(2.0, rel=0.05)


def test_exactly_seventy_percent_is_not_more_than_seventy_percent() -> None:
    made = report(Totals(outcomes={Outcome.EXACT: 7, Outcome.MISS: 3}))
    assert met(made)["hit_ratio"] is False


def test_without_questions_no_target_is_met_or_missed() -> None:
    assert set(met(report(Totals())).values()) == {None}


def test_hits_that_were_not_served_are_misses_and_say_what_the_ratio_would_have_been() -> None:
    shadow = report(
        Totals(outcomes={Outcome.MISS: 10}, shadow={"exact": 2, "semantic": 3, "semantic:wrong": 1})
    )
    assert (shadow.hit_ratio, shadow.shadow.hit_ratio) == (0.0, 0.5)
    assert (shadow.shadow.exact_hits, shadow.shadow.semantic_hits, shadow.shadow.semantic.wrong) == (2, 3, 1)


def test_the_cost_is_reduced_against_the_hours_that_a_cloud_would_have_taken_without_the_cache() -> None:
    made = report(BUSY, Rental("w", 0.5, 0.0))
    assert made.cost_reduction == pytest.approx(1 - 0.5 / (2 * CLOUD))  # two hours in place of one


def test_of_workers_that_cost_nothing_no_reduction_is_known() -> None:
    assert report(BUSY, Rental("w", 0.0, 0.0)).cost_reduction is None


def test_who_left_counts_neither_for_nor_against_the_up_time() -> None:
    made = report(Totals(outcomes={Outcome.MISS: 3, Outcome.ERROR: 1, Outcome.LEFT: 6}))
    assert (made.up_time, made.left, made.errors, made.requests) == (0.75, 6, 1, 10)


WORK = Totals(
    by={
        "worker": {
            "a": {"answers": 3.0, "completion_tokens": 180.0, "engine_seconds": 3.6},
            "gone": {"answers": 1.0, "completion_tokens": 5.0, "engine_seconds": 0.5},
        }
    }
)


def test_a_worker_is_busy_while_its_slots_are_in_use_and_paid_for() -> None:
    rentals = [Rental("a", 0.5, 0.0), Rental("idle", 0.5, HOUR / 2), Rental("older", 0.5, -HOUR, -HOUR / 2)]
    a, gone, idle = worker_use(WORK, rentals, 2, 0.0, HOUR)
    assert (a.worker, a.tokens_per_s, a.utilization) == ("a", 50.0, pytest.approx(3.6 / HOUR / 2))
    assert (a.hours, a.spent_usd) == (1.0, 0.5)
    assert (gone.worker, gone.utilization, gone.spent_usd) == ("gone", None, 0.0)
    assert (idle.worker, idle.tokens_per_s, idle.utilization) == ("idle", None, 0.0)


def test_tenants_are_told_apart_the_busiest_first() -> None:
    totals = Totals(
        by={
            "tenant": {
                "a": {"exact": 1.0, "miss": 1.0, "cost_usd": 0.5},
                "b": {"semantic": 3.0, "error": 1.0, "saved_usd": 0.25, "served_completion_tokens": 40.0},
            }
        }
    )
    b, a = asker_use(totals, "tenant")
    assert (b.name, b.requests, b.hit_ratio, b.errors, b.saved_usd) == ("b", 4, 1.0, 1, 0.25)
    assert (a.name, a.requests, a.hit_ratio, a.cost_usd, a.completion_tokens) == ("a", 2, 0.5, 0.5, 0)
    assert asker_use(totals, "model") == []


def test_elsewhere_the_same_answers_cost_by_the_hour_by_the_token_and_by_the_question() -> None:
    totals = replace(BUSY, served_prompt_tokens=1_000_000, served_completion_tokens=2_000_000)
    prices = [
        Price("gpu", "today", usd_per_hour=2.0),
        Price("api", "today", usd_per_million=(0.1, 0.2)),
        Price("all", "today", usd_per_query=0.001),
    ]
    rows = versus(report(totals, Rental("w", 0.5, 0.0)), totals, prices)
    assert [row.usd for row in rows] == pytest.approx([4.0, 0.5, 1.05])
    assert [row.savings_ratio for row in rows] == pytest.approx([1 - 0.125, 0.0, 1 - 0.5 / 1.05])


def test_a_trace_has_each_answered_question_and_all_tokens_within_the_minutes_they_came_in() -> None:
    parts = [[Bucket(MINUTE, 0)], [Bucket(MINUTE, 60)], [Bucket(MINUTE, 120)]]
    busy = Totals(
        outcomes={Outcome.MISS: 2, Outcome.EXACT: 1, Outcome.ERROR: 5, Outcome.LEFT: 5, Outcome.AUDIT: 5},
        served_prompt_tokens=10,
        served_completion_tokens=7,
    )
    rows = list(trace_rows(parts, [busy, Totals(), busy]))
    assert [at for at, _, _ in rows] == [10, 30, 50, 130, 150, 170]
    assert [sum(values) for values in zip(*(row[1:] for row in rows), strict=True)] == [20, 14]
    assert {prompt for _, prompt, _ in rows} == {3, 4}


def test_what_a_worker_costs_once_is_in_the_one_point_of_the_chart_in_which_it_was_bought() -> None:
    parts = stretches(MINUTE, 1, 4, now=200.0)
    bought = [Rental("w", 0.0, started=60.0, ended=60.0, once=5.0)]
    assert [make_point(part, Totals(), bought, 200.0).spent_usd for part in parts] == [0.0, 5.0, 0.0, 0.0]
