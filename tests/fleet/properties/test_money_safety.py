"""Attempts to have a rented fleet buy more than it should, or lose what it bought.

They were thought of by somebody who wished it ill, and are played against the double of vast.ai, through the
real SDK and a real Redis.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from doubles.rented_fleet import RentedFleet
from doubles.vast.faults import Fault
from doubles.vast.server import Drop
from doubles.waiting import until

from llmhost.errors import LlmhostError, ProviderError
from llmhost.fleet.buyer import Buyer
from llmhost.fleet.models import WorkerState
from llmhost.fleet.provision import Approve

HOUR = 3600.0


def noting(asked: list[Any]) -> Approve:
    """Agrees to everything, and keeps what it was shown."""

    async def approve(quote: Any) -> None:
        asked.append(quote)

    return approve


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


async def test_a_worker_of_another_machine_that_answers_under_a_changed_label_is_kept_and_waited_for(
    fleet: RentedFleet,
) -> None:
    await fleet.elsewhere().service().up(1)
    (worker,) = fleet.ids
    fleet.server.instances[int(worker.removeprefix("vast-"))].label = "mine now"
    result = await fleet.service().up(2)
    assert [failure.message for failure in result.failed] == []
    assert worker in {kept.id for kept in result.workers}
    assert len(fleet.ids) == 2


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
    # The last bill that was read counts, which rounds each of its items to a tenth of a cent.
    assert status.spending.total >= fleet.server.billed_total() - 0.002


async def test_an_empty_list_does_not_pass_for_a_confirmed_end(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    (worker,) = fleet.ids
    fleet.server.arm(Fault.DESTROY_LIES, times=None)

    async def hide(endpoint: str, number: int) -> None:
        if endpoint == "destroy":
            fleet.server.arm(Fault.LIST_EMPTY, times=None)

    fleet.server.before = hide
    result = await fleet.service().down()
    assert result.destroyed == ()
    assert any(worker in failure.message for failure in result.failed)
    assert fleet.ids == {worker}


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
    assert fleet.ids == set()


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
    assert len(fleet.ids) == 1
    await getattr(fleet.service(), command)()
    assert fleet.ids == set()


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
    assert len(fleet.ids) == 2, results
    again = await here.service().up(2)
    assert {worker.id for worker in again.workers} == fleet.ids
    # Redis tells the machines apart; without it, what is bought once too often is ended.
    assert fleet.server.created_total <= (2 if redis else 4)


async def test_what_somebody_bought_while_the_question_was_open_is_not_bought_again(
    fleet: RentedFleet,
) -> None:
    await fleet.service().up(1)
    (number,) = fleet.server.alive()
    order = fleet.server.instances[number].order

    async def approve(quote: Any) -> None:
        label = f"llmhost/{fleet.fleet}/{int(fleet.clock.now())}-00000000"
        fleet.server.world.buy(fleet.server.market.add(), replace(order, label=label))

    await fleet.service().up(2, approve=approve)
    assert fleet.server.created_total == 2


async def test_the_autoscaler_buys_while_the_question_is_open_and_up_counts_its_worker(
    fleet: RentedFleet,
) -> None:
    fleet.scale = replace(fleet.scale, min_gpus=1)
    bought: list[list[str]] = []

    async def approve(quote: Any) -> None:
        step = await fleet.elsewhere().scaler().step()
        assert step.error is None
        bought.append([action.kind for action in step.actions if action.done])

    result = await fleet.service().up(2, approve=approve)
    assert bought == [["buy"]]
    assert {worker.id for worker in result.workers} == fleet.ids
    assert fleet.server.created_total == 2


async def test_a_later_up_of_more_workers_keeps_them(fleet: RentedFleet) -> None:
    first = asyncio.create_task(fleet.service().up(1))
    await until(lambda: fleet.server.created_total)
    second = await fleet.service().up(3)
    await first
    assert [worker.state.value for worker in second.workers] == ["ready"] * 3
    assert len(fleet.ids) == 3


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
    assert fleet.ids == set()


async def test_a_machine_that_was_bought_twice_is_ended_without_waiting_too(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.CREATE_TWICE)
    result = await fleet.service().up(1, wait=False)
    assert fleet.ids == {worker.id for worker in result.workers}
    assert len(fleet.ids) == 1


# What was agreed to


async def test_offers_that_come_after_the_quote_are_not_bought_without_a_question(fleet: RentedFleet) -> None:
    fleet.server.market.clear()

    async def add_dear(endpoint: str, number: int) -> None:
        if endpoint == "search":
            fleet.server.market.add(dph_base=3.0)

    async def refuse(quote: Any) -> None:
        raise LlmhostError("too dear")

    fleet.server.after = add_dear
    with pytest.raises(LlmhostError, match="too dear"):
        await fleet.service().up(1, approve=refuse)
    assert fleet.server.created_total == 0


async def test_no_more_is_bought_than_was_shown(fleet: RentedFleet) -> None:
    fleet.server.market.clear()
    fleet.server.market.add()
    asked: list[Any] = []

    async def add(endpoint: str, number: int) -> None:
        if endpoint == "search":
            fleet.server.market.add(dph_base=0.03)

    fleet.server.after = add
    result = await fleet.service().up(3, approve=noting(asked))
    assert [len(quote.purchases) for quote in asked] == [1]
    assert fleet.server.created_total == 1
    assert len(result.failed) == 1


async def test_one_dear_offer_does_not_make_all_of_them_dear(fleet: RentedFleet) -> None:
    fleet.server.market.clear()
    cheap = [fleet.server.market.add(dph_base=0.3) for _ in range(2)]
    fleet.server.market.add(dph_base=2.0)

    async def approve(quote: Any) -> None:
        for offer in cheap:
            fleet.server.market.vanish(offer["id"])
        for _ in range(3):
            fleet.server.market.add(dph_base=2.1)

    result = await fleet.service().up(3, approve=approve)
    assert sum(fleet.prices) <= 2.6 * 1.25 + 0.1
    assert result.failed != ()


async def test_before_a_worker_that_was_there_is_replaced_it_is_asked(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    fleet.wedged |= fleet.ids
    fleet.ready_timeout = 30.0

    async def refuse(quote: Any) -> None:
        raise LlmhostError("nothing was bought")

    result = await fleet.service().up(1, approve=refuse)
    assert fleet.server.created_total == 1
    assert "nothing was bought" in [failure.message for failure in result.failed]


async def test_a_worker_that_was_there_is_replaced_once_that_is_agreed_to(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    fleet.wedged |= fleet.ids
    fleet.ready_timeout = 100.0
    asked: list[Any] = []
    result = await fleet.service().up(1, approve=noting(asked))
    assert [len(quote.purchases) for quote in asked] == [1]
    assert [worker.state for worker in result.workers] == [WorkerState.READY]
    assert len(fleet.ids) == 1


async def test_a_machine_that_costs_more_than_its_offer_said_is_given_back(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.DEARER, value=8.0)
    result = await fleet.service().up(1)
    assert [round(price, 2) < 1 for price in fleet.prices] == [True]
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


async def test_offers_that_are_gone_and_were_bought_all_the_same_are_no_reason_to_buy_more(
    fleet: RentedFleet,
) -> None:
    fleet.server.arm(Fault.CREATE_GONE_BUT_BOUGHT, times=None)
    result = await fleet.service().up(2)
    assert (fleet.server.created_total, len(result.workers)) == (2, 2)


async def test_an_up_buys_nothing_more_after_a_down_has_paused_the_fleet(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Buyer._create

    async def create_then_down(self: Buyer, *args: Any) -> Any:
        worker = await create(self, *args)
        await self.records.pause()  # what `down` does in another terminal
        return worker

    monkeypatch.setattr(Buyer, "_create", create_then_down)
    with suppress(LlmhostError):
        await fleet.service().up(3)
    assert fleet.server.created_total == 1
