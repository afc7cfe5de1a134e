"""When a worker that fails is left alone, and when it is tried again."""

from __future__ import annotations

import pytest
from doubles.clock import ManualClock

from llmhost.engines.breaker import Breakers
from llmhost.errors import EngineUnavailable, RefusingWorker, UnreachedWorker, UntrustedWorker

SLOW = EngineUnavailable("sent no token within 60 s")
GONE = UnreachedWorker("connection refused")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breakers(clock: ManualClock) -> Breakers:
    return Breakers(clock.monotonic)


def test_a_worker_that_failed_twice_is_still_asked_and_after_the_third_time_it_is_not(
    breakers: Breakers,
) -> None:
    seen = []
    for _ in range(3):
        breakers.failed("a", SLOW)
        seen.append(breakers.allows("a"))
    assert (seen, breakers.allows("b")) == ([True, True, False], True)


def test_failures_count_in_a_row(breakers: Breakers) -> None:
    for _ in range(5):
        breakers.failed("a", SLOW)
        breakers.failed("a", SLOW)
        breakers.answered("a")
    assert breakers.allows("a")


@pytest.mark.parametrize("error", [GONE, RefusingWorker("401"), UntrustedWorker("another certificate")])
def test_one_failure_is_enough_where_the_next_would_fail_as_well(
    breakers: Breakers, error: EngineUnavailable
) -> None:
    breakers.failed("a", error)
    assert (breakers.allows("a"), breakers.retry_in(["a"])) == (False, 1.0)


async def test_it_is_tried_by_one_request_at_a_time(breakers: Breakers, clock: ManualClock) -> None:
    breakers.failed("a", GONE)
    await clock.sleep(1)
    assert breakers.allows("a")
    breakers.asked("a")
    assert not breakers.allows("a")
    breakers.left("a")
    assert breakers.allows("a")


async def test_each_time_it_is_left_alone_for_longer_up_to_half_a_minute(
    breakers: Breakers, clock: ManualClock
) -> None:
    pauses: list[float] = []
    for _ in range(8):
        breakers.asked("a")
        breakers.failed("a", SLOW if pauses else GONE)
        pauses.append(breakers.retry_in(["a"]))
        await clock.sleep(pauses[-1])
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


async def test_an_answer_ends_it(breakers: Breakers, clock: ManualClock) -> None:
    breakers.failed("a", GONE)
    await clock.sleep(1)
    breakers.asked("a")
    breakers.answered("a")
    breakers.failed("a", SLOW)
    assert breakers.allows("a")


def test_requests_that_were_under_way_when_it_died_make_the_pause_no_longer(breakers: Breakers) -> None:
    for _ in range(20):
        breakers.failed("a", GONE)
    assert breakers.retry_in(["a"]) == 1.0


def test_the_soonest_of_several_counts(breakers: Breakers) -> None:
    breakers.failed("a", GONE)
    assert breakers.retry_in(["a", "b"]) == 1.0


def test_a_worker_that_is_gone_is_forgotten(breakers: Breakers) -> None:
    breakers.failed("a", GONE)
    breakers.forget_all_but(["b"])
    assert breakers.allows("a")
