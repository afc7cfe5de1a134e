"""What the autoscaler never does, whatever it is told."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from doubles.scaling import (
    NOW,
    SPEED,
    LivingFleet,
    even_questions,
    in_flight,
    judge,
    make_scale,
    make_traffic,
    make_worker,
    make_workers,
    random_questions,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.autoscale.models import FleetView, Metrics, ScaleDecision, ScaledWorker, ScaleSpec
from llmhost.autoscale.policy import decide
from llmhost.engines.traffic import BUCKET, Traffic
from llmhost.errors import LimitError
from llmhost.fleet.budget import Limits, Spent, check, fits
from llmhost.fleet.plan import Funds

HOUR = 3600.0

#: what is asked in the last half hour, by bucket, the newest first
QUESTIONS = st.lists(st.integers(0, 400), max_size=40).map(
    lambda counts: {int(NOW) - BUCKET * age: count for age, count in enumerate(counts)}
)
SPEEDS = st.none() | st.just(0.0) | st.floats(0.001, 500)
WORKERS = st.lists(
    st.builds(
        ScaledWorker,
        st.just(""),
        ready=st.booleans(),
        price=st.sampled_from([0.0, 0.1, 0.4, 2.5]),
        started=st.floats(NOW - 9000, NOW + 9000),
        tokens_per_s=SPEEDS,
        draining=st.booleans(),
    ),
    max_size=9,
).map(lambda workers: tuple(replace(worker, id=f"w{n}") for n, worker in enumerate(workers)))
MONEY = st.none() | st.floats(0, 40)
FUNDS = st.none() | st.builds(
    Funds,
    st.builds(Limits, MONEY, MONEY, MONEY),
    st.builds(Spent, st.floats(0, 20), st.floats(0, 20), st.floats(0, 20)),
    st.none() | st.floats(-5, 50),
)
SPECS = st.builds(
    lambda least, more, **others: make_scale(min_gpus=least, max_gpus=max(1, least + more), **others),
    st.integers(0, 4),
    st.integers(0, 8),
    max_step=st.integers(1, 8),
    queue_time=st.floats(0.001, 100),
    down_after=st.floats(1, 3600),
)
FAILURES = st.lists(st.floats(NOW - 7200, NOW + 7200), max_size=6).map(tuple)


@st.composite
def situations(draw: st.DrawFn) -> tuple[ScaleSpec, Metrics, FleetView]:
    """All that a decision may be told that can be."""
    workers = draw(WORKERS)
    busy = draw(st.dictionaries(st.sampled_from([f"w{n}" for n in range(9)]), st.integers(0, 300)))
    since = draw(st.sampled_from([NOW - 10_000, NOW - 700, NOW - 30, NOW, NOW + 500]))
    traffic = make_traffic(draw(QUESTIONS), since=since, workers=in_flight(busy))
    history = Metrics(traffic, draw(st.none() | st.floats(0, 4000)), draw(FAILURES))
    price, downloads = draw(st.sampled_from([0.0, 0.4, 3.0])), draw(st.sampled_from([0.0, 0.6]))
    view = FleetView(workers, draw(st.integers(0, 3)), price, draw(FUNDS), downloads)
    return draw(SPECS), history, view


def prices_after(decision: ScaleDecision, fleet: FleetView) -> list[float]:
    """Of all that are wanted after it."""
    kept = [
        worker.price
        for worker in fleet.workers
        if worker.id not in decision.drain and (not worker.draining or worker.id in decision.revive)
    ]
    return [*kept, *[fleet.price] * decision.buy]


@given(situations())
def test_a_decision_adds_up(situation: Any) -> None:
    spec, history, fleet = situation
    decision = decide(spec, history, fleet, NOW)
    staff = {worker.id for worker in fleet.workers if not worker.draining}
    spare = {worker.id for worker in fleet.workers} - staff
    assert decision.before == len(staff)
    assert set(decision.drain) <= staff
    assert set(decision.revive) <= spare
    assert decision.after == len(prices_after(decision, fleet))
    assert not (decision.drain and (decision.buy or decision.revive))
    useful = [w for w in fleet.workers if w.id in spare and w.tokens_per_s != 0]
    assert decision.buy == 0 or len(decision.revive) == len(useful)


@given(situations())
def test_there_are_never_more_than_the_most_and_no_step_is_too_large(situation: Any) -> None:
    spec, history, fleet = situation
    decision = decide(spec, history, fleet, NOW)
    assert 0 <= decision.after <= spec.max_gpus
    assert decision.buy <= spec.max_step
    assert decision.buy == 0 or len(fleet.workers) + decision.buy <= spec.max_gpus


@given(situations())
def test_the_budget_is_never_broken(situation: Any) -> None:
    """What is left fits. What is bought beside all that is paid for was approved, one by one."""
    spec, history, fleet = situation
    decision = decide(spec, history, fleet, NOW)
    funds = fleet.funds
    if funds is None:
        return
    assert decision.buy or fits(funds.limits, funds.spent, sum(prices_after(decision, fleet)), NOW)
    burn = sum(worker.price for worker in fleet.workers)
    for number in range(decision.buy):
        before, downloads = burn + number * fleet.price, (number + 1) * fleet.traffic
        check(funds.limits, funds.spent, before, fleet.price, NOW, funds.credit, downloads)


def may_buy(situation: tuple[ScaleSpec, Metrics, FleetView]) -> bool:
    """Whether nothing stands in the way of as many as are wanted at least."""
    spec, history, fleet = situation
    funds = fleet.funds
    # One that drains and delivers nothing takes a place until it is gone, and is not taken back.
    useless = sum(worker.draining and worker.tokens_per_s == 0 for worker in fleet.workers)
    missing = spec.min_gpus - len(fleet.workers) + useless
    if missing > spec.max_gpus - len(fleet.workers):
        return False
    failures = sum(0 <= NOW - at < HOUR for at in history.failures)
    if missing > 0 and (missing > spec.max_step or failures >= spec.max_failures):
        return False
    prices = [worker.price for worker in fleet.workers]
    if funds is None:
        return True
    if not fits(funds.limits, funds.spent, sum(prices), NOW):
        return False
    try:
        for number in range(missing):
            burn = sum(prices) + number * fleet.price
            downloads = (number + 1) * fleet.traffic
            check(funds.limits, funds.spent, burn, fleet.price, NOW, funds.credit, downloads)
    except LimitError:
        return False
    return True


@given(situations())
def test_there_are_never_fewer_than_the_least_where_they_may_be_bought(situation: Any) -> None:
    spec, history, fleet = situation
    if may_buy(situation):
        assert decide(spec, history, fleet, NOW).after >= spec.min_gpus


@given(situations(), QUESTIONS)
def test_more_questions_never_lead_to_fewer_workers(situation: Any, more: dict[int, int]) -> None:
    spec, history, fleet = situation
    asked = history.traffic.asked
    total = {bucket: asked.get(bucket, 0) + more.get(bucket, 0) for bucket in {*asked, *more}}
    busier = replace(history, traffic=replace(history.traffic, asked=total))
    assert decide(spec, busier, fleet, NOW).after >= decide(spec, history, fleet, NOW).after


@given(situations(), st.integers(0, 8), st.integers(1, 500))
def test_a_longer_queue_never_leads_to_fewer_workers(situation: Any, worker: int, more: int) -> None:
    spec, history, fleet = situation
    busy = {name: found.in_flight for name, found in history.traffic.workers.items()}
    longer = {**busy, f"w{worker}": busy.get(f"w{worker}", 0) + more}
    busier = replace(history, traffic=replace(history.traffic, workers=in_flight(longer)))
    assert decide(spec, busier, fleet, NOW).after >= decide(spec, history, fleet, NOW).after


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_of_the_workers_does_not_matter(situation: Any, chance: Any) -> None:
    spec, history, fleet = situation
    shuffled = list(fleet.workers)
    chance.shuffle(shuffled)
    other = decide(spec, history, replace(fleet, workers=tuple(shuffled)), NOW)
    assert other == decide(spec, history, fleet, NOW)


@given(situations())
def test_a_reason_is_one_line_without_numbers_that_are_none(situation: Any) -> None:
    spec, history, fleet = situation
    reason = decide(spec, history, fleet, NOW).reason
    assert reason
    assert not {"nan", "inf", "-0", "None", "\n"} & {*reason.split(), *reason}


@given(situations(), st.floats(0, 9000))
def test_a_clock_that_goes_back_drains_no_worker(situation: Any, back: float) -> None:
    """Neither when it goes back for a while, nor where Redis counted in what is to come now."""
    spec, history, fleet = situation
    then = NOW - back
    traffic = replace(history.traffic, at=then)
    if back > 150:
        traffic = replace(traffic, asked={**traffic.asked, int(NOW): 5})
    quiet = replace(fleet, funds=None)
    decision = decide(replace(spec, max_gpus=20), replace(history, traffic=traffic), quiet, then)
    if back > 150 or history.traffic.since > then:
        assert decision.drain == ()


@given(WORKERS, st.integers(0, 4))
def test_lost_traffic_counts_drain_no_worker(workers: Any, lost: int) -> None:
    decision = judge({}, workers, spec=make_scale(min_gpus=0, max_gpus=20), traffic={"since": NOW}, lost=lost)
    assert decision.drain == ()


# --- what cannot be ---

NO_NUMBER = st.sampled_from([math.nan, math.inf, -math.inf, -1, -0.001, 1e300, 10**400, 10**12])


@given(NO_NUMBER, st.sampled_from(range(10)))
def test_numbers_that_cannot_be_are_named_and_change_nothing(bad: Any, where: int) -> None:
    traffic = make_traffic(200.0)
    history, fleet = Metrics(traffic), FleetView(make_workers(2), price=0.4)
    bucket = int(NOW) - 60
    history, fleet, name = [
        (Metrics(replace(traffic, asked={bucket: bad})), fleet, f"questions counted at {bucket}: "),
        (Metrics(replace(traffic, answered={bucket: bad})), fleet, f"answers counted at {bucket}: "),
        (Metrics(replace(traffic, tokens={bucket: bad})), fleet, f"tokens counted at {bucket}: "),
        (Metrics(replace(traffic, workers=in_flight({"w0": bad}))), fleet, "questions in flight on w0: "),
        (history, replace(fleet, workers=(make_worker(tokens_per_s=bad),)), "tokens per second of w: "),
        (history, replace(fleet, workers=(make_worker(price=bad),)), "price of w: "),
        (history, replace(fleet, price=bad), "price of one more worker: "),
        (history, replace(fleet, traffic=bad), "traffic of one more worker: "),
        (replace(history, boot_seconds=bad), fleet, "seconds that a worker takes to boot: "),
        (Metrics(replace(traffic, at=bad)), fleet, "metric"),
    ][where]
    decision = decide(make_scale(), history, fleet, NOW)
    assert (decision.action, decision.after) == ("hold", len(fleet.workers))
    assert (decision.buy, decision.drain, decision.revive) == (0, (), ())
    assert decision.blocked is not None
    assert decision.blocked.kind == "metrics"
    assert name in decision.reason


@given(st.floats() | st.integers(), st.floats() | st.integers(), st.floats() | st.integers())
def test_no_time_makes_it_raise_or_run_for_ever(now: float, at: float, since: float) -> None:
    traffic = Traffic(at, since, asked={0: 5, -(10**9): 1}, answered={0: 1}, tokens={0: 9})
    decision = decide(make_scale(), Metrics(traffic), FleetView(make_workers(2)), now)
    assert decision.reason


@given(st.floats(0, 10**7), st.integers(0, 10**10), st.integers(0, 10**10), st.integers(0, 10**10))
def test_the_largest_numbers_that_may_be_lead_to_no_more_than_the_most(
    speed: float, asked: int, answered: int, tokens: int
) -> None:
    bucket = int(NOW) - 60
    traffic = Traffic(
        NOW,
        NOW - 9000,
        asked={bucket: asked},
        answered={bucket: answered},
        tokens={bucket: tokens},
        workers=in_flight({"w": asked}),
    )
    fleet = FleetView((make_worker(tokens_per_s=speed),), price=0.4)
    assert decide(make_scale(), Metrics(traffic), fleet, NOW).after <= 8


# --- the same load for hours ---


def live(load: float, every: float, boot: float, hours: float = 4, **spec: Any) -> LivingFleet:
    """A fleet that began with nobody. What waited until its first workers came is worked off in an hour."""
    counts = even_questions(load, NOW - HOUR, NOW + (hours + 2) * HOUR)
    return LivingFleet(make_scale(**{"max_gpus": 30, **spec}), counts, every, boot).run(NOW + hours * HOUR)


@pytest.mark.slow
@settings(max_examples=10)
@given(st.floats(0, 1000), st.sampled_from([60, 300, 777, 1020]), st.sampled_from([5, 180, 600, 1500]))
def test_a_constant_load_leads_to_at_most_one_change_once_the_fleet_has_settled(
    load: float, every: float, boot: float
) -> None:
    fleet = live(load, every, boot, hours=5)
    settled = fleet.sizes[int(3 * HOUR / every) :]
    assert sum(one != other for one, other in pairwise(settled)) <= 1
    needed = load / SPEED
    assert needed <= settled[-1] * 0.85 * 1.05
    assert settled[-1] <= max(1, math.ceil(needed * 1.05 / 0.8))


@pytest.mark.slow
@settings(max_examples=4)
@given(st.floats(0, 1000), st.sampled_from([30, 180, 600]))
def test_cron_jobs_of_one_five_and_seventeen_minutes_come_to_sizes_that_the_band_cannot_tell_apart(
    load: float, boot: float
) -> None:
    """Of some twenty workers, two may lie within the band; of fewer, one."""
    sizes = [live(load, minutes * 60, boot).sizes[-1] for minutes in (1, 5, 17)]
    assert max(sizes) - min(sizes) <= max(1, math.ceil(load / 0.8 / SPEED) - math.ceil(load / 0.85 / SPEED))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("every", "boot"), [(60, 180), (300, 600), (1020, 30)])
def test_chance_around_a_load_well_inside_the_band_changes_nothing(
    seed: int, every: float, boot: float
) -> None:
    # Three workers do from 80 to 127 tokens a second; a minute has 620 questions, give or take 25.
    counts = random_questions(103, NOW - HOUR, NOW + 6 * HOUR, seed)
    fleet = LivingFleet(make_scale(), counts, every, boot, workers=list(make_workers(3)))
    assert set(fleet.run(NOW + 5 * HOUR).sizes) == {3}


def test_a_fleet_follows_a_day_up_and_down_again() -> None:
    def day(moment: float) -> float:
        return 220 - 200 * math.cos((moment - NOW) / (8 * HOUR) * 2 * math.pi)

    counts = even_questions(day, NOW - HOUR, NOW + 9 * HOUR)
    fleet = LivingFleet(make_scale(max_gpus=20), counts, 300, 180).run(NOW + 8 * HOUR)
    top = fleet.sizes.index(max(fleet.sizes))
    assert max(fleet.sizes) == math.ceil(420 / 0.85 / SPEED)
    assert fleet.sizes[:top] == sorted(fleet.sizes[:top])
    assert fleet.sizes[top:] == sorted(fleet.sizes[top:], reverse=True)
    assert fleet.sizes[-1] <= 2


def test_a_day_costs_no_more_than_its_budget_however_much_is_asked() -> None:
    def funds(fleet: LivingFleet) -> Funds:
        return Funds(Limits(per_day=20.0), Spent(day=fleet.spent))

    counts = even_questions(900, NOW - HOUR, NOW + 14 * HOUR)
    fleet = LivingFleet(make_scale(max_gpus=30), counts, 300, 180, funds=funds).run(NOW + 13.5 * HOUR)
    assert 19 < fleet.spent <= 20
    assert fleet.sizes == sorted(fleet.sizes)


@pytest.mark.parametrize("left", [3, 30])
def test_questions_that_hang_do_not_make_it_buy_and_end_in_turn(left: int) -> None:
    """Nobody asks, but a process that died holds its slots until they expire."""
    workers, sizes = list(make_workers(1)), []
    for _ in range(8):
        decision = judge({}, workers, traffic={"workers": in_flight({"w0": left})})
        sizes.append(decision.after)
        workers = [replace(w, draining=w.id in decision.drain) for w in workers if not w.draining]
        workers += make_workers(decision.buy, f"new{len(sizes)}-", ready=False, tokens_per_s=None)
    assert sizes == sorted(sizes)


def test_a_budget_that_the_fleet_breaks_does_not_make_it_end_and_take_back_in_turn() -> None:
    funds = Funds(Limits(per_hour=1.0), Spent())
    workers, sizes = list(make_workers(4)), []
    for _ in range(6):
        decision = judge(300, workers, funds=funds)
        sizes.append(decision.after)
        kept = [worker for worker in workers if worker.id not in decision.drain]
        gone = [replace(w, draining=True) for w in workers if w.id in decision.drain]
        workers = [replace(w, draining=w.draining and w.id not in decision.revive) for w in kept] + gone
    assert sizes == [2] * 6


# --- workers that deliver nothing, and very many ---


@given(st.integers(1, 6), st.floats(0, 150))
def test_a_worker_that_delivers_nothing_brings_no_more_than_what_is_asked_of_the_others(
    others: int, load: float
) -> None:
    lazy = make_worker("lazy", tokens_per_s=0.0)
    decision = judge(load, [*make_workers(others), lazy], spec=make_scale(max_gpus=50))
    without = judge(load, others, spec=make_scale(max_gpus=50))
    assert decision.after <= without.after + 1
    assert not decision.drain or decision.drain[0] == "lazy"


@given(st.integers(1, 12), st.floats(0, 300))
def test_a_fleet_that_delivers_nothing_at_all_gets_what_the_load_needs_and_no_more(
    count: int, load: float
) -> None:
    decision = judge(load, make_workers(count, tokens_per_s=0.0), spec=make_scale(max_gpus=50))
    assert decision.buy <= math.ceil(load * 1.01 / 0.85 / SPEED)


def test_a_thousand_workers_are_decided_on() -> None:
    spec = make_scale(max_gpus=1000, max_step=1000, min_gpus=0)
    load = 1000 * SPEED * 0.82
    assert judge(load, 1000, spec=spec).action == "hold"
    assert judge(load, 0, spec=spec).buy == math.ceil(load / 0.85 / SPEED) == 965
    assert len(judge(0, 1000, spec=spec, traffic={"asked": {}}).drain) == 1000
    funds = Funds(Limits(per_hour=100.0), Spent())
    assert judge(load, 1000, spec=spec, funds=funds).after == 252  # 100.8 USD, not over by a hundredth
