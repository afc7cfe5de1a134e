from __future__ import annotations

from dataclasses import replace

import pytest
from doubles.fleet_values import make_offer, make_spec, make_worker
from hypothesis import given
from hypothesis import strategies as st

from llmhost.errors import LimitError, UsageError
from llmhost.fleet.models import FleetSpec, Worker, WorkerState
from llmhost.fleet.plan import ApprovedSpend, Plan, make_plan

READY, STARTING, FAILED, GONE = (
    WorkerState.READY,
    WorkerState.STARTING,
    WorkerState.FAILED,
    WorkerState.GONE,
)

specs = st.builds(make_spec, gpus=st.integers(0, 8))
fleets = st.lists(
    st.builds(
        make_worker,
        id=st.uuids().map(str),
        state=st.sampled_from(WorkerState),
        started=st.integers(0, 5).map(float),
        model=st.sampled_from(["tiny", "tiny", "other"]),
        engine=st.sampled_from(["llama_cpp", "llama_cpp", "ollama"]),
    ),
    max_size=12,
    unique_by=lambda worker: worker.id,
)


def ids(workers: tuple[Worker, ...]) -> list[str]:
    return [worker.id for worker in workers]


def fits(spec: FleetSpec, worker: Worker) -> bool:
    return worker.state in {READY, STARTING} and (worker.model, worker.engine) == (spec.model, spec.engine)


def after(plan: Plan, spec: FleetSpec) -> list[Worker]:
    new = [make_worker(f"new-{n}", model=spec.model, engine=spec.engine) for n in range(plan.create)]
    return [*plan.keep, *new]


def test_an_empty_fleet_is_created() -> None:
    assert make_plan(make_spec(gpus=3), []) == Plan(create=3, keep=(), destroy=())


def test_a_fleet_that_is_as_wanted_is_left_alone() -> None:
    workers = (make_worker("a"), make_worker("b", state=STARTING))
    plan = make_plan(make_spec(gpus=2), workers)
    assert plan == Plan(create=0, keep=workers, destroy=())
    assert not plan.changes


def test_a_failed_worker_is_replaced() -> None:
    bad = make_worker("bad", state=FAILED)
    assert make_plan(make_spec(gpus=1), [bad]) == Plan(create=1, keep=(), destroy=(bad,))


@pytest.mark.parametrize("change", [{"model": "other"}, {"engine": "ollama"}])
def test_a_worker_with_another_model_or_engine_is_replaced(change: dict[str, str]) -> None:
    other = make_worker("other", **change)
    assert make_plan(make_spec(gpus=1), [other]) == Plan(create=1, keep=(), destroy=(other,))


def test_of_too_many_the_failed_go_first_then_the_starting_then_the_newest() -> None:
    workers = [
        make_worker("old", started=1.0),
        make_worker("new", started=9.0),
        make_worker("starting", state=STARTING, started=0.0),
        make_worker("failed", state=FAILED, started=0.0),
    ]
    plan = make_plan(make_spec(gpus=1), workers)
    assert ids(plan.keep) == ["old"]
    assert ids(plan.destroy) == ["failed", "starting", "new"]


def test_none_wanted_destroys_all() -> None:
    workers = (make_worker("a"), make_worker("b"))
    plan = make_plan(make_spec(gpus=0), workers)
    assert (plan.create, plan.keep, set(ids(plan.destroy))) == (0, (), {"a", "b"})


def test_a_worker_that_is_gone_is_neither_kept_nor_destroyed() -> None:
    assert make_plan(make_spec(gpus=1), [make_worker(state=GONE)]) == Plan(create=1, keep=(), destroy=())


def test_more_than_the_limit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(LimitError, match=r"10 workers wanted, but fleet\.max_gpus is 8: 2 too many"):
        make_plan(make_spec(gpus=10), [])


def test_fewer_than_none_is_refused() -> None:
    with pytest.raises(UsageError):
        make_plan(make_spec(gpus=-1), [make_worker("a"), make_worker("b")])


@given(specs, fleets)
def test_there_are_never_more_than_wanted(spec: FleetSpec, workers: list[Worker]) -> None:
    assert len(after(make_plan(spec, workers), spec)) == spec.gpus


@given(specs, fleets)
def test_planning_again_after_the_plan_is_done_changes_nothing(
    spec: FleetSpec, workers: list[Worker]
) -> None:
    assert not make_plan(spec, after(make_plan(spec, workers), spec)).changes


@given(specs, fleets)
def test_as_many_healthy_workers_as_possible_are_kept(spec: FleetSpec, workers: list[Worker]) -> None:
    healthy = [worker for worker in workers if fits(spec, worker)]
    plan = make_plan(spec, workers)
    assert len(plan.keep) == min(spec.gpus, len(healthy))
    assert all(fits(spec, worker) for worker in plan.keep)


@given(specs, fleets)
def test_everything_that_exists_is_kept_or_destroyed(spec: FleetSpec, workers: list[Worker]) -> None:
    plan = make_plan(spec, workers)
    existing = sorted(worker.id for worker in workers if worker.state is not GONE)
    assert sorted(ids(plan.keep) + ids(plan.destroy)) == existing


@given(specs, fleets)
def test_a_ready_worker_is_never_given_up_for_one_that_only_starts(
    spec: FleetSpec, workers: list[Worker]
) -> None:
    plan = make_plan(spec, workers)
    given_up = any(worker.state is READY and fits(spec, worker) for worker in plan.destroy)
    assert not (given_up and any(worker.state is STARTING for worker in plan.keep))


@given(specs, fleets, st.randoms())
def test_the_order_of_the_list_does_not_matter(
    spec: FleetSpec, workers: list[Worker], random: object
) -> None:
    shuffled = list(workers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert make_plan(spec, shuffled) == make_plan(spec, workers)


def test_a_plan_does_not_look_at_price_or_detail() -> None:
    worker = make_worker("a")
    dear = replace(worker, price_per_hour=99.0, detail="slow")
    assert make_plan(make_spec(gpus=1), [dear]).keep == (dear,)


def test_what_was_agreed_to_does_not_grow_with_each_worker_that_is_replaced() -> None:
    prices = [0.2, 0.2, 0.8]
    approved = ApprovedSpend([make_offer(f"o{price}", price_per_hour=price) for price in prices])
    for price in prices:
        approved.take(price)
    for _ in range(3):
        approved.give_back(0.2)
        approved.take(0.2)
    approved.give_back(0.2)
    approved.check(0.5)  # what a quarter more than was shown leaves for one
    with pytest.raises(LimitError):
        approved.check(0.51)
