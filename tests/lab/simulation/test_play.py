"""The simulation itself: queueing, booting, dying, paying."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from doubles.simulated import make_trace, poisson_trace, world
from hypothesis import given
from hypothesis import strategies as st

from llmhost.lab.simulation.baselines import Fixed, resize
from llmhost.lab.simulation.fleet import Resize
from llmhost.lab.simulation.play import Played, Scene, play
from llmhost.lab.simulation.workload import Settings, Trace, Workload, make_workload


class Scripted:
    """Obeys a list of sizes by step, and remembers what it saw."""

    interval = 60.0

    def __init__(self, sizes: Mapping[int, int]) -> None:
        self._sizes = sizes
        self._size = 0
        self.scenes: list[Scene] = []
        self.answering: list[int] = []
        self.lost: list[int] = []

    def step(self, scene: Scene) -> Resize:
        self.scenes.append(scene)
        self.answering.append(sum(machine.answers for machine in scene.fleet.machines.values()))
        self.lost.append(scene.fleet.lost)
        self._size = self._sizes.get(round(scene.now / self.interval), self._size)
        return resize(scene.fleet, self._size)


def loaded(trace: Trace, settings: Settings, slots: int = 1) -> Workload:
    return make_workload(trace, settings, slots)


def fixed(trace: Trace, size: int, settings: Settings | None = None, slots: int = 1) -> Played:
    settings = settings or world()
    return play(loaded(trace, settings, slots), settings, Fixed(size, 60.0), size)


def scripted(
    trace: Trace, sizes: Mapping[int, int], start: int = 0, **changed: float
) -> tuple[Played, Scripted]:
    rule, settings = Scripted(sizes), world(**changed)
    return play(loaded(trace, settings), settings, rule, start), rule


def erlang_wait(servers: int, load: float, service: float) -> float:
    """Mean seconds of waiting in an M/M/c queue (Erlang's C formula); `load` is in servers."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last) * service / (servers - load)


@pytest.mark.parametrize(("workers", "slots"), [(1, 1), (3, 1), (2, 4)])
def test_waits_are_those_of_erlang(workers: int, slots: int) -> None:
    rate, busy = 2.0, 0.7
    tokens = workers * busy * 100 / rate
    outcome = fixed(poisson_trace(rate, 200_000, tokens), workers, slots=slots)
    expected = erlang_wait(workers * slots, workers * slots * busy, tokens / 100 * slots)
    assert outcome.waits.mean() == pytest.approx(expected, rel=0.08)


def test_a_lone_worker_answers_one_after_the_other() -> None:
    outcome = fixed(make_trace([0, 0.5, 1, 10]), 1)
    assert outcome.waits.tolist() == [0, 0.5, 1, 0]


def test_a_worker_is_paid_until_its_last_answer() -> None:
    outcome = fixed(make_trace([0, 1, 2, 3, 4, 5, 6, 7], tokens=1000), 1)
    assert outcome.paid == 80


def test_a_worker_answers_from_the_step_that_notices_it() -> None:
    outcome, rule = scripted(make_trace(range(0, 600, 10)), {0: 1}, boot_seconds=130)
    assert rule.answering[:5] == [0, 0, 0, 1, 1]
    assert outcome.waits[0] == 180
    assert outcome.paid == 600


def test_what_boots_when_it_is_drained_was_paid_for_nothing() -> None:
    outcome, _ = scripted(make_trace([0, 599]), {0: 2, 1: 1}, start=1)
    assert outcome.purchases == 1
    assert outcome.paid == make_trace([0, 599]).span + 60


def test_a_drained_worker_finishes_what_it_has_and_takes_nothing_new() -> None:
    times = [0, 1, 70, 300]
    outcome, rule = scripted(make_trace(times, tokens=10_000), {0: 2, 1: 1}, start=2)
    book = rule.scenes[-1].book
    assert sorted(book.worker[:2].tolist()) == [0, 1]
    drained = int(book.worker[0])  # it has least to do
    assert drained not in book.worker[2:].tolist()
    assert outcome.waits.tolist() == [0, 0, 31, 0]


def test_workers_that_boot_later_do_not_take_over_a_queue() -> None:
    outcome, rule = scripted(make_trace([0, 0, 0, 200], tokens=10_000), {0: 2}, start=1)
    assert rule.scenes[-1].book.worker.tolist() == [0, 0, 0, 1]
    assert outcome.waits.tolist() == [0, 100, 200, 0]


def test_questions_wait_for_the_first_worker_in_their_order() -> None:
    outcome, _ = scripted(make_trace([0, 1, 500]), {0: 1})
    assert outcome.waits.tolist() == [120, 120, 0]


def test_who_waits_when_the_trace_ends_is_served_and_what_is_bought_until_then_paid() -> None:
    outcome, _ = scripted(make_trace([0, 50]), {0: 1, 2: 2})
    assert outcome.waits.tolist() == [120, 71]
    assert outcome.paid == 122


def test_who_never_gets_a_worker_waits_for_ever() -> None:
    outcome, _ = scripted(make_trace([0, 1, 2]), {0: 0})
    assert np.isinf(outcome.waits).all()
    assert outcome.paid == 0


def test_questions_of_a_dead_worker_are_asked_again_and_wait_since_they_came() -> None:
    trace = make_trace(list(np.arange(0, 36_000, 20.0)), tokens=1000)
    outcome, rule = scripted(trace, {0: 2}, start=2, deaths_per_hour=3, seed=4)
    calm, _ = scripted(trace, {0: 2}, start=2)
    assert sum(rule.lost) == outcome.purchases > 5
    assert outcome.waits.max() > 0 == calm.waits.max()
    assert np.isfinite(outcome.waits).all()


def test_a_dead_worker_is_paid_until_a_step_notices() -> None:
    outcome, rule = scripted(make_trace([0, 100]), {0: 1, 1: 0}, start=1, deaths_per_hour=60, seed=0)
    assert rule.lost[:2] == [0, 1]
    assert outcome.paid == 60


def test_a_purchase_that_never_boots_is_paid_until_then_and_counted() -> None:
    trace = make_trace(list(np.arange(0, 36_000, 5.0)))
    outcome, _ = scripted(trace, {0: 1}, boot_failures=0.9, seed=3)
    failed = outcome.failures
    assert failed == outcome.purchases - 1 > 0
    assert outcome.waits[0] == (failed + 1) * 120
    assert outcome.paid == pytest.approx(trace.span, abs=1)


def test_progress_ends_no_higher_than_all() -> None:
    told: list[float] = []
    settings = world()
    play(loaded(make_trace([0, 86_400]), settings), settings, Fixed(1, 60.0), 1, told.append)
    assert told == sorted(told)
    assert 0 < told[-1] <= 1


worlds = st.fixed_dictionaries(
    {
        "boot_seconds": st.sampled_from([0, 45, 120, 400]),
        "boot_failures": st.sampled_from([0, 0.4]),
        "deaths_per_hour": st.sampled_from([0, 6, 30]),
        "seed": st.integers(0, 1000),
    }
)


@given(
    worlds,
    st.lists(st.floats(0, 3000), min_size=1, max_size=80),
    st.dictionaries(st.integers(1, 60), st.integers(0, 4)),
)
def test_every_question_is_answered_once_and_never_before_it_came(
    changed: dict[str, float], times: list[float], sizes: dict[int, int]
) -> None:
    trace = make_trace(sorted(times), tokens=700)
    outcome, rule = scripted(trace, sizes | {0: 2, 55: 1}, start=1, **changed)
    book, load = rule.scenes[-1].book, rule.scenes[-1].load
    assert (outcome.waits >= 0).all()
    answered = np.isfinite(outcome.waits)
    assert np.array_equal(book.finished[answered], (book.begun + load.service)[answered])
    assert (book.worker[answered] >= 0).all()
    for worker in set(book.worker[answered].tolist()):
        mine = book.worker == worker
        begun, finished = np.sort(book.begun[mine]), np.sort(book.finished[mine])
        assert (begun[1:] >= finished[:-1] - 1e-9).all()  # one place, one answer at a time
    assert outcome.paid >= load.service[answered].sum() - 1e-6


@given(worlds)
def test_the_same_arguments_give_the_same_outcome(changed: dict[str, float]) -> None:
    trace = poisson_trace(0.5, 2000)
    first, second = (scripted(trace, {0: 2, 9: 3, 20: 1}, start=1, **changed)[0] for _ in range(2))
    assert np.array_equal(first.waits, second.waits)
    assert (first.paid, first.purchases, first.failures) == (second.paid, second.purchases, second.failures)
