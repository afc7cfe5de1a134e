"""Attempts to make a rented fleet cost more than it should, thought of by somebody who wished it ill.

They are played against the double of vast.ai, through the real SDK and a real Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.fleet_values import make_offer
from doubles.memory_provider import RentingProvider
from doubles.rented_fleet import RentedFleet, rented_fleet
from doubles.vast.faults import Fault
from doubles.vast.instances import Boot
from doubles.vast.server import Drop
from doubles.waiting import until

from llmhost.config.models import RedisConfig
from llmhost.errors import LimitError, LlmhostError, ProviderError, StateError
from llmhost.fleet.budget import Limits
from llmhost.fleet.models import WorkerState
from llmhost.redis.connect import connect

HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
async def fleet(tmp_path: Path, redis_server: Any, vast_settings: Any) -> AsyncIterator[RentedFleet]:
    async with rented_fleet(tmp_path / "here", redis_server.socket, vast_settings) as here:
        yield here


def ids(fleet: RentedFleet) -> set[str]:
    return {f"vast-{number}" for number in fleet.server.alive()}


def prices(fleet: RentedFleet) -> list[float]:
    return sorted(fleet.server.instances[number].price for number in fleet.server.alive())


# A list that says less than there is


@pytest.mark.parametrize("times", [1, 2, 3, None])
async def test_a_list_that_is_empty_for_no_reason_buys_nothing(fleet: RentedFleet, times: int | None) -> None:
    await fleet.service().up(2)
    await fleet.clock.sleep(HOUR)
    fleet.server.arm(Fault.LIST_EMPTY, times=times)
    with suppress(ProviderError):
        await fleet.service().up(2)
    assert fleet.server.created_total == 2


@pytest.mark.parametrize("times", [1, 2, 3, None])
async def test_nor_where_another_machine_bought_what_it_does_not_show(
    fleet: RentedFleet, times: int | None
) -> None:
    await fleet.service().up(2)
    await fleet.clock.sleep(HOUR)
    fleet.server.arm(Fault.LIST_EMPTY, times=times)
    with suppress(ProviderError):
        await fleet.elsewhere().service().up(2)
    assert fleet.server.created_total == 2


async def test_an_empty_list_closes_no_rental(fleet: RentedFleet) -> None:
    await fleet.service().up(2)
    await fleet.clock.sleep(HOUR)
    fleet.server.arm(Fault.LIST_EMPTY, times=None)
    with suppress(ProviderError):
        await fleet.elsewhere().service().status()
    fleet.server.faults.armed.clear()
    await fleet.clock.sleep(HOUR)
    fleet.server.arm(Fault.SERVER_ERROR, times=None, endpoint="charges")
    status = await fleet.service().status()
    assert status.spending.total >= fleet.server.billed_total()


async def test_an_empty_list_does_not_pass_for_a_confirmed_end(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    (worker,) = ids(fleet)
    fleet.server.arm(Fault.DESTROY_LIES, times=None)

    async def hide(endpoint: str, number: int) -> None:
        if endpoint == "destroy":
            fleet.server.arm(Fault.LIST_EMPTY, times=None)

    fleet.server.before = hide
    with pytest.raises(ProviderError, match=worker):
        await fleet.service().down()
    assert ids(fleet) == {worker}


async def test_a_list_that_says_that_it_failed_is_an_error(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    fleet.server.arm(Fault.LIST_REFUSED, times=None)
    with pytest.raises(ProviderError):
        await fleet.elsewhere(client=None).service().up(1)
    assert fleet.server.created_total == 1


@pytest.mark.parametrize("late", [20.0, 45.0])
async def test_what_the_list_shows_late_is_not_bought_again(fleet: RentedFleet, late: float) -> None:
    fleet.server.arm(Fault.LISTED_LATE, value=late, times=None)
    await fleet.service().up(2, wait=False)
    await fleet.service().up(2, wait=False)
    await fleet.elsewhere().service().up(2, wait=False)
    assert fleet.server.created_total == 2


async def test_what_the_list_shows_late_is_waited_for(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.LISTED_LATE, value=45.0)
    result = await fleet.service().up(1)
    assert [worker.state for worker in result.workers] == [WorkerState.READY]
    assert result.failed == ()


async def test_a_worker_that_the_list_shows_late_is_ended_all_the_same(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.LISTED_LATE, value=45.0)
    await fleet.service().up(1, wait=False)
    await fleet.service().down()
    assert ids(fleet) == set()


async def crash_in_purchase(fleet: RentedFleet) -> None:
    """`up` dies when its purchase was made, and before it hears of it."""
    others = asyncio.all_tasks()
    up = asyncio.create_task(fleet.service().up(1))

    async def die(endpoint: str, number: int) -> None:
        if endpoint == "create":
            up.cancel()
            raise Drop

    fleet.server.after = die
    with suppress(asyncio.CancelledError):
        await up
    fleet.server.after = None
    left = [task for task in asyncio.all_tasks() - others if "_converse" not in repr(task)]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@pytest.mark.parametrize("command", ["down", "down_orphans"])
async def test_what_a_crashed_command_bought_a_moment_ago_is_ended_too(
    fleet: RentedFleet, command: str
) -> None:
    fleet.server.arm(Fault.LISTED_LATE, value=20.0)
    await crash_in_purchase(fleet)
    assert len(ids(fleet)) == 1
    await getattr(fleet.service(), command)()
    assert ids(fleet) == set()


async def test_nothing_is_forgotten_because_a_list_is_empty(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    await fleet.clock.sleep(HOUR)
    fleet.server.arm(Fault.LIST_EMPTY, times=1)
    with suppress(ProviderError):
        await fleet.provider().intents()
    assert len(list((fleet.folder / fleet.fleet / "intents").iterdir())) == 1


async def test_an_instance_of_somebody_else_that_a_refusal_names_is_left_alone(fleet: RentedFleet) -> None:
    other = replace(fleet, fleet=f"{fleet.fleet}-2")
    await other.service().up(1)
    (theirs,) = fleet.server.alive()

    fleet.server.arm(Fault.CREATE_NAMES, value=theirs, times=None)
    with suppress(LlmhostError):
        await fleet.service().up(1)
    assert fleet.server.alive() == [theirs]


# Several at once


@pytest.mark.parametrize("redis", [True, False])
async def test_two_machines_that_raise_one_fleet_at_once_end_with_one_fleet(
    fleet: RentedFleet, redis: bool
) -> None:
    here = fleet if redis else replace(fleet, client=None)
    fleet.server.limits.pace = 0  # two addresses
    results = await asyncio.gather(
        here.service().up(2), here.elsewhere().service().up(2), return_exceptions=True
    )
    assert len(ids(fleet)) == 2, results
    again = await here.service().up(2)
    assert {worker.id for worker in again.workers} == ids(fleet)
    assert fleet.server.created_total <= 4


async def test_what_somebody_bought_while_the_question_was_open_is_not_bought_again(
    fleet: RentedFleet,
) -> None:
    await fleet.service().up(1)
    (number,) = fleet.server.alive()
    order = fleet.server.instances[number].order

    def approve(quote: Any) -> None:
        label = f"llmhost/{fleet.fleet}/{int(fleet.clock.now())}-00000000"
        fleet.server.world.buy(fleet.server.market.add(), replace(order, label=label))

    await fleet.service().up(2, approve=approve)
    assert fleet.server.created_total == 2


async def test_a_later_up_of_more_workers_keeps_them(fleet: RentedFleet) -> None:
    first = asyncio.create_task(fleet.service().up(1))
    await until(lambda: fleet.server.created_total)
    second = await fleet.service().up(3)
    await first
    assert [worker.state.value for worker in second.workers] == ["ready"] * 3
    assert len(ids(fleet)) == 3


async def test_after_down_a_waiting_up_replaces_nothing(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.EXITS, value=30.0)
    fleet.wedged.add("vast-25000001")
    ended = False

    async def end_all(endpoint: str, number: int) -> None:
        """Before `up` hears that its machine has failed, somebody ends the whole fleet."""
        nonlocal ended
        exited = any(one.actual_status == "exited" for one in fleet.server.instances.values())
        if endpoint == "list" and exited and not ended:
            ended = True
            await fleet.elsewhere().service().down()

    fleet.server.after = end_all
    await fleet.service().up(1)
    assert ended
    assert fleet.server.created_total == 1
    assert ids(fleet) == set()


async def test_a_machine_that_was_bought_twice_is_ended_without_waiting_too(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.CREATE_TWICE)
    result = await fleet.service().up(1, wait=False)
    assert ids(fleet) == {worker.id for worker in result.workers}
    assert len(ids(fleet)) == 1


# What was agreed to


async def test_offers_that_come_after_the_question_are_not_bought_without_one(fleet: RentedFleet) -> None:
    fleet.server.market.clear()
    asked: list[Any] = []

    async def add_dear(endpoint: str, number: int) -> None:
        if endpoint == "search":
            fleet.server.market.add(dph_base=3.0)

    fleet.server.after = add_dear
    with pytest.raises(LlmhostError):
        await fleet.service().up(1, approve=asked.append)
    assert (asked, fleet.server.created_total) == ([], 0)


async def test_no_more_is_bought_than_was_shown(fleet: RentedFleet) -> None:
    fleet.server.market.clear()
    fleet.server.market.add()
    asked: list[Any] = []

    async def add(endpoint: str, number: int) -> None:
        if endpoint == "search":
            fleet.server.market.add(dph_base=0.03)

    fleet.server.after = add
    result = await fleet.service().up(3, approve=asked.append)
    assert [len(quote.purchases) for quote in asked] == [1]
    assert fleet.server.created_total == 1
    assert len(result.failed) == 1


async def test_one_dear_offer_does_not_make_all_of_them_dear(fleet: RentedFleet) -> None:
    fleet.server.market.clear()
    cheap = [fleet.server.market.add(dph_base=0.3) for _ in range(2)]
    fleet.server.market.add(dph_base=2.0)

    def approve(quote: Any) -> None:
        for offer in cheap:
            fleet.server.market.vanish(offer["id"])
        for _ in range(3):
            fleet.server.market.add(dph_base=2.1)

    result = await fleet.service().up(3, approve=approve)
    assert sum(prices(fleet)) <= 2.6 * 1.25 + 0.1
    assert result.failed != ()


async def test_before_a_worker_that_was_there_is_replaced_it_is_asked(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    fleet.wedged |= ids(fleet)
    fleet.ready_timeout = 30.0

    def refuse(quote: Any) -> None:
        raise LlmhostError("nothing was bought")

    result = await fleet.service().up(1, approve=refuse)
    assert fleet.server.created_total == 1
    assert "nothing was bought" in [failure.message for failure in result.failed]


async def test_a_worker_that_was_there_is_replaced_once_that_is_agreed_to(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    fleet.wedged |= ids(fleet)
    fleet.ready_timeout = 100.0
    asked: list[Any] = []
    result = await fleet.service().up(1, approve=asked.append)
    assert [len(quote.purchases) for quote in asked] == [1]
    assert [worker.state for worker in result.workers] == [WorkerState.READY]
    assert len(ids(fleet)) == 1


async def test_a_machine_that_costs_more_than_its_offer_said_is_given_back(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.DEARER, value=8.0)
    result = await fleet.service().up(1)
    assert [round(price, 2) < 1 for price in prices(fleet)] == [True]
    assert [worker.state for worker in result.workers] == [WorkerState.READY]


async def test_without_a_market_there_is_no_question_and_no_purchase(fleet: RentedFleet) -> None:
    fleet.server.market.clear()
    with pytest.raises(ProviderError, match="no offer is left that fits"):
        await fleet.service().up(1)


@pytest.mark.parametrize("price", [float("nan"), -1.0, "0.3", None, True])
async def test_a_price_that_is_none_is_no_bargain(fleet: RentedFleet, price: Any) -> None:
    fleet.server.market.clear()
    offer = fleet.server.market.add(dph_base=0.3)

    def with_price(query: Any, now: float) -> list[Any]:
        return [{**offer, "dph_total": price}] * 2

    fleet.server.market.search = with_price  # type: ignore[method-assign]
    with suppress(LlmhostError):
        await fleet.service().up(2)
    assert fleet.server.created_total == 0


# Limits


async def test_the_last_of_many_purchases_knows_what_the_first_have_cost_meanwhile(
    fleet: RentedFleet,
) -> None:
    offers = [fleet.server.market.add(dph_base=1.0) for _ in range(40)]
    fleet.server.world.boot = Boot(created=0, loading=0, running=0)
    limit = 40 * 1.011 / 2  # half an hour of forty
    fleet = replace(fleet, max_gpus=40, limits=Limits(per_day=limit))
    fleet.settings = replace(fleet.settings, filter="dph_base>=1 num_gpus=1 gpu_name=RTX_4090")
    midnight = fleet.clock.now() - fleet.clock.now() % DAY + DAY
    await fleet.clock.sleep(midnight - HOUR / 2 - fleet.clock.now())

    def approve(quote: Any) -> None:  # and then all of them become dearer
        for offer in offers:
            fleet.server.market.offers[offer["id"]] = {**offer, "dph_base": 1.2}

    result = await fleet.service().up(40, wait=False, approve=approve)
    assert 30 < len(result.workers) < 40
    await fleet.clock.sleep(midnight - fleet.clock.now())
    assert fleet.server.billed_total() <= limit


async def test_a_lost_ledger_does_not_forget_what_was_billed_today(fleet: RentedFleet) -> None:
    fleet = replace(fleet, limits=Limits(per_day=2.9))  # twelve hours of one worker, or six of two
    noon = fleet.clock.now() - fleet.clock.now() % DAY + DAY + 12 * HOUR
    await fleet.clock.sleep(noon - fleet.clock.now())
    await fleet.service().up(1)
    await fleet.clock.sleep(6 * HOUR)
    await fleet.service().down()
    await fleet.client.flushdb()
    with pytest.raises(LimitError):
        await fleet.service().up(2)


async def test_status_knows_what_was_billed_in_a_month_that_the_ledger_has_lost(fleet: RentedFleet) -> None:
    await fleet.service().up(2)
    await fleet.clock.sleep(30 * HOUR)
    await fleet.service().down()
    await fleet.clock.sleep(72 * HOUR)
    await fleet.client.flushdb()
    status = await fleet.service().status()
    assert status.spending.total == pytest.approx(fleet.server.billed_total(), abs=0.01)


async def test_when_redis_has_lost_everything_the_workers_stay(fleet: RentedFleet) -> None:
    await fleet.service().up(2)
    before = ids(fleet)
    await fleet.client.flushdb()
    result = await fleet.service().up(2)
    assert ({worker.id for worker in result.workers}, ids(fleet)) == (before, before)
    assert fleet.server.created_total == 2


async def test_when_redis_is_away_all_the_time_nothing_is_lost(fleet: RentedFleet, tmp_path: Path) -> None:
    away = replace(fleet, client=connect(RedisConfig(), socket=tmp_path / "nobody.sock"))
    await away.service().up(2)
    status = await away.service().status()
    assert {worker.id for worker in status.workers} == ids(fleet)
    assert status.spending.total == pytest.approx(fleet.server.billed_total(), abs=0.02)
    result = await away.service().down()
    assert (len(result.destroyed), ids(fleet)) == (2, set())


# Who stays


async def test_of_too_many_those_that_answer_stay(fleet: RentedFleet) -> None:
    await fleet.service().up(3)
    oldest, *_ = sorted(ids(fleet))
    fleet.wedged.add(oldest)
    result = await fleet.service().up(2)
    assert oldest not in ids(fleet)
    assert {worker.id for worker in result.workers} == ids(fleet)
    assert fleet.server.created_total == 3


async def test_a_fleet_whose_name_begins_alike_is_left_alone(fleet: RentedFleet) -> None:
    other = replace(fleet, fleet=f"{fleet.fleet}-2")
    await other.service().up(1)
    theirs = ids(fleet)
    await fleet.service().up(1)
    await fleet.service().down_orphans()
    await fleet.service().down()
    assert ids(fleet) == theirs


async def test_an_instance_without_a_label_is_nobodys(fleet: RentedFleet) -> None:
    await fleet.service().up(2)
    one, _ = fleet.server.alive()
    fleet.server.instances[one].label = None
    await fleet.service().down()
    assert fleet.server.alive() == [one]


@pytest.mark.parametrize("status", ["frozen", "exited", "offline", "unknown"])
async def test_one_that_will_not_run_again_is_ended_and_replaced_once(
    fleet: RentedFleet, status: str
) -> None:
    await fleet.service().up(2)
    broken, _ = fleet.server.alive()
    fleet.server.become(broken, status)
    await fleet.service().up(2)
    assert broken not in fleet.server.alive()
    assert (len(ids(fleet)), fleet.server.created_total) == (2, 3)


# Time


async def test_one_that_counts_instead_of_booting_is_given_up(bench: Any) -> None:
    class Counting(RentingProvider):
        """Its machines say something new each time that they are listed."""

        async def list(self) -> Any:
            for worker_id in bench.cloud.machines:
                bench.cloud.say(worker_id, f"retrying in {bench.clock.monotonic():g} s")
            return await super().list()

    bench.cloud.market = [make_offer()]
    bench.cloud.boot_seconds = float("inf")
    result = await asyncio.wait_for(bench.make(provider=Counting(bench.cloud)).up(1), 20)
    assert ["nothing moved for 60 s" in failure.message for failure in result.failed] == [True]
    assert bench.cloud.machines == {}


async def test_a_hundred_refusals_buy_nothing_and_end(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.TOO_MANY, times=None, endpoint="create")
    with pytest.raises(ProviderError):
        await fleet.service().up(2)
    assert fleet.server.created_total == 0
    assert fleet.clock.monotonic() < 600


async def test_a_very_long_retry_after_is_not_waited_for(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.TOO_MANY, times=None, value=1e6)
    with pytest.raises(ProviderError):
        await fleet.service().up(2)
    assert fleet.clock.monotonic() < 600


async def test_a_clock_that_was_put_back_buys_nothing_twice(fleet: RentedFleet) -> None:
    await fleet.service().up(2)
    fleet.clock.put_back(3 * DAY)
    result = await fleet.service().up(2)
    status = await fleet.service().status()
    assert len(result.workers) == 2
    assert fleet.server.created_total == 2
    assert status.spending.total >= 0


async def test_credit_that_runs_out_leaves_nothing_that_bills(fleet: RentedFleet) -> None:
    await fleet.service().up(2)
    fleet.server.credit = 0.5
    await fleet.clock.sleep(2 * HOUR)
    with pytest.raises(LimitError, match="credit"):
        await fleet.service().up(2)
    await fleet.service().down()
    assert (fleet.server.alive(), fleet.server.created_total) == ([], 2)


# Disk


async def test_a_disk_that_is_full_stops_the_purchase_before_it_is_made(fleet: RentedFleet) -> None:
    intents = fleet.folder / fleet.fleet / "intents"
    intents.parent.mkdir(parents=True)
    intents.write_text("in the way")
    with pytest.raises(StateError):
        await fleet.service().up(1)
    assert fleet.server.created_total == 0


async def test_what_was_bought_as_the_disk_filled_up_is_ended_from_anywhere(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StateError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("llmhost.fleet.providers.vast.intents.IntentBook.settle", full)
        with suppress(StateError):
            await fleet.service().up(1)
        assert len(ids(fleet)) == 1
    result = await fleet.elsewhere().service().down()
    assert (len(result.destroyed), ids(fleet)) == (1, set())
