"""What `stats` says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from llmhost.ledger.buckets import bucket_of
from llmhost.ledger.events import Outcome
from llmhost.ledger.rentals import Rental
from llmhost.ledger.report import Report, Targets, make_report
from llmhost.ledger.totals import Totals

TARGETS = Targets(hit_ratio=0.70, hit_latency=0.1, miss_latency=5.0, cost_per_query=0.001)
HOUR = 3_600.0


def report(totals: Totals, *rentals: Rental) -> Report:
    return make_report(totals, rentals, TARGETS, since=0.0, now=HOUR)


def met(made: Report) -> dict[str, bool | None]:
    return {target.name: target.met for target in made.targets}


BUSY = Totals(
    outcomes={
        Outcome.EXACT: 300,
        Outcome.SEMANTIC: 500,
        Outcome.MISS: 200,
        Outcome.BYPASS: 50,
        Outcome.ERROR: 5,
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
    assert (made.embeddings, made.requests) == (7, 1055)
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
    }


def test_targets_that_are_missed_say_so() -> None:
    slow = Totals(
        outcomes={Outcome.EXACT: 1, Outcome.MISS: 1},
        hit_user_ms={bucket_of(200.0): 1},
        miss_user_ms={bucket_of(9_000.0): 1},
    )
    assert set(met(report(slow, Rental("w", 0.5, 0.0))).values()) == {False}


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
