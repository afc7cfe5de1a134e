"""The autoscaler with rented workers: real SDK, real Redis, the double of vast.ai. Time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from doubles.fleet_values import make_spec, make_worker
from doubles.rented_fleet import SILENT, SPEED, RentedFleet
from doubles.scale_bench import exit_code, kinds
from doubles.vast.faults import Fault

from llmhost.autoscale.checkup import SilenceLimits, probe_workers
from llmhost.autoscale.models import StepResult
from llmhost.engines.traffic import Traffic
from llmhost.fleet.health import Hooks
from llmhost.fleet.models import Worker, WorkerState
from llmhost.ledger.ledger import Ledger

MINUTE, HOUR = 60.0, 3600.0

#: of what a worker delivers; inside the band, so that each worker is needed and no other one is
WORTH = 0.75


async def follow(fleet: RentedFleet, minutes: int, every: int = 1) -> list[StepResult]:
    """Steps as cron starts them, beginning now."""
    results = []
    for _ in range(0, minutes, every):
        results.append(await fleet.scaler().step())
        await fleet.clock.sleep(every * MINUTE)
    return results


async def ask_for(fleet: RentedFleet, workers: int) -> None:
    """From now on there are questions for so many workers, and have been for a minute."""
    fleet.traffic.ask(workers * SPEED * WORTH)
    await fleet.clock.sleep(MINUTE * 1.5)


async def settled(fleet: RentedFleet, workers: int) -> None:
    """So many workers that have answered, and a load that needs all of them."""
    await ask_for(fleet, workers)
    await follow(fleet, 3)
    assert len(fleet.ids) == workers
    assert (await fleet.scaler().step()).decision.observed.ready == workers


async def on_record(fleet: RentedFleet) -> tuple[set[str], set[str]]:
    """Who is known, and whose rental is not over."""
    rentals = await Ledger(fleet.client, fleet.fleet).rentals()
    return set((await fleet.registry.workers()).ids), {one.worker for one in rentals if one.ended is None}


def machine_of(fleet: RentedFleet, worker: str) -> int:
    machine: int = fleet.server.instances[number_of(worker)].offer["machine_id"]
    return machine


def number_of(worker: str) -> int:
    return int(worker.removeprefix("vast-"))


# Following the demand


async def test_a_fleet_follows_its_load_up_and_down_and_every_cent_is_on_record(fleet: RentedFleet) -> None:
    sizes = []
    for load, minutes in ((1, 12), (3, 12), (1, 60)):  # it takes long to be sure that the second may go
        await ask_for(fleet, load)
        await follow(fleet, minutes)
        sizes.append(len(fleet.ids))
    assert sizes == [1, 3, 1]
    assert await on_record(fleet) == (fleet.ids, fleet.ids)
    status = await fleet.service().status()
    dearest = max(one.price for one in fleet.server.instances.values())
    assert status.spending.total == pytest.approx(fleet.server.billed_total(), abs=dearest / 60)
    assert (fleet.server.created_total, fleet.server.too_early) == (3, {})


# Repairs


async def break_it(fleet: RentedFleet, worker: str, how: str) -> None:
    """Makes it so broken that the next step must see it."""
    if how == "outbid":
        fleet.server.outbid(number_of(worker))
    elif how == "wedged":
        fleet.wedged.add(worker)
        await follow(fleet, int(SILENT / MINUTE))
        assert worker in fleet.ids
    else:
        fleet.server.become(number_of(worker), how, "Error: the GPU has fallen off the bus")


@pytest.mark.parametrize("how", ["outbid", "exited", "wedged"])
async def test_a_broken_worker_is_gone_before_another_machine_takes_its_place(
    fleet: RentedFleet, how: str
) -> None:
    await settled(fleet, 2)
    (broken, other), alive_at_create = sorted(fleet.ids), []
    machine = machine_of(fleet, broken)
    await break_it(fleet, broken, how)

    async def watch(endpoint: str, _: int) -> None:
        if endpoint == "create":
            alive_at_create.append(set(fleet.ids))

    fleet.server.before = watch
    result = await fleet.scaler().step()
    assert [(action.kind, action.done) for action in result.actions] == [("repair", True), ("buy", True)]
    assert result.actions[0].worker == broken
    assert (alive_at_create, len(fleet.ids)) == ([{other}], 2)
    assert (str(machine) in await fleet.registry.bans()) == (how != "outbid")
    if how != "outbid":
        assert machine not in {machine_of(fleet, worker) for worker in fleet.ids}
    assert await on_record(fleet) == (fleet.ids, fleet.ids)


async def test_one_that_cannot_be_ended_keeps_its_place_until_it_is_gone(fleet: RentedFleet) -> None:
    await settled(fleet, 2)
    broken, _ = sorted(fleet.ids)
    fleet.server.become(number_of(broken), "exited")
    fleet.server.arm(Fault.DESTROY_LIES, instance=number_of(broken), times=None)
    result = await fleet.scaler().step()
    assert (exit_code(result), kinds(result), len(fleet.ids)) == (3, ["repair"], 2)
    fleet.server.faults.armed.clear()
    assert kinds(await fleet.scaler().step()) == ["repair", "buy"]
    assert (broken in fleet.ids, len(fleet.ids)) == (False, 2)


# What cannot be read in full

UNREADABLE: Mapping[str, tuple[Fault, str | None]] = {
    "500": (Fault.SERVER_ERROR, "list"),
    "503": (Fault.UNAVAILABLE, "list"),
    "no JSON": (Fault.GARBAGE, "list"),
    "null": (Fault.LIST_NULL, None),
    "odd rows": (Fault.LIST_ODD_ROWS, None),
    "a short page": (Fault.LIST_SHORT, None),
    "an empty page": (Fault.LIST_EMPTY, None),
    "no balance": (Fault.SERVER_ERROR, "user"),
    "a balance that is no JSON": (Fault.GARBAGE, "user"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", UNREADABLE)
async def test_for_an_hour_of_answers_that_cannot_be_read_nothing_is_changed(
    fleet: RentedFleet, what: str
) -> None:
    await settled(fleet, 2)
    await fleet.clock.sleep(5 * MINUTE)
    before, made = fleet.ids, fleet.server.created_total
    fault, endpoint = UNREADABLE[what]
    fleet.server.arm(fault, times=None, endpoint=endpoint)
    fleet.traffic.ask(1000.0)
    results = await follow(fleet, 60, every=10)
    assert {(exit_code(result), result.decision.action, *kinds(result)) for result in results} == {
        (5, "hold")
    }
    assert {(result.decision.before, result.decision.after) for result in results} == {(2, 2)}
    assert (fleet.ids, fleet.server.created_total) == (before, made)
    fleet.server.faults.armed.clear()
    await follow(fleet, 2)
    assert (len(fleet.ids), before <= fleet.ids) == (4, True)


async def test_a_thousand_workers_are_not_given_up_because_this_machine_is_slow() -> None:
    asked: set[str] = set()
    most = 0

    async def probe(worker: Worker) -> None:
        nonlocal most
        asked.add(worker.id)
        most = max(most, len(asked))
        await asyncio.sleep(0)
        asked.remove(worker.id)

    async def prepare(worker: Worker, on_progress: Any) -> None: ...

    workers = [make_worker(f"w-{number}") for number in range(1000)]
    spec = make_spec(engine=workers[0].engine, model=workers[0].model)
    checkup = await probe_workers(
        workers,
        {},
        Traffic(at=2e9, since=0.0),
        spec=spec,
        hooks=Hooks(prepare=prepare, probe=probe),
        silence=SilenceLimits(booting=600.0, silent=600.0),
        agreed={},
    )
    assert (len(checkup.first_answers), most <= 100) == (1000, True)


# Money


async def test_a_machine_that_costs_more_than_its_offer_is_given_back(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.DEARER, value=3.0)
    await ask_for(fleet, 1)
    first, second, third = await follow(fleet, 3)
    assert [(action.kind, action.detail) for action in first.actions[1:]] == [
        ("repair", "costs more than its offer said")
    ]
    assert (kinds(second), kinds(third), len(fleet.ids)) == (["buy"], [], 1)
    machines = {one.offer["machine_id"] for one in fleet.server.instances.values()}
    assert (len(machines), fleet.server.created_total) == (2, 2)


async def test_one_that_could_not_be_listed_after_its_purchase_is_given_back_by_the_next_step(
    fleet: RentedFleet,
) -> None:
    async def fail_from_now_on(endpoint: str, _: int) -> None:
        if endpoint == "create":
            fleet.server.arm(Fault.LIST_REFUSED, times=None)

    fleet.server.arm(Fault.DEARER, value=3.0)
    fleet.server.before = fail_from_now_on
    await ask_for(fleet, 1)
    first = await fleet.scaler().step()
    assert (exit_code(first) != 0, kinds(first)) == (True, ["buy"])
    (dearer,) = fleet.ids
    machine = machine_of(fleet, dearer)
    fleet.server.faults.armed.clear()
    fleet.server.before = None
    await fleet.clock.sleep(MINUTE)
    second = await fleet.elsewhere().scaler().step()
    repair, _ = second.actions
    assert (kinds(second), repair.worker) == (["repair", "buy"], dearer)
    assert repair.detail == "costs more than its offer said"
    assert machine not in {machine_of(fleet, worker) for worker in fleet.ids}
    assert kinds((await follow(fleet, 1))[0]) == []


# Several at once


async def test_machines_that_take_turns_make_one_fleet(fleet: RentedFleet) -> None:
    await ask_for(fleet, 3)
    there = fleet.elsewhere()
    for _ in range(4):
        for here in (fleet, there):
            await here.scaler().step()
            await fleet.clock.sleep(MINUTE)
    assert (len(fleet.ids), fleet.server.created_total) == (3, 3)
    assert (await there.scaler().step()).decision.observed.ready == 3


async def test_a_worker_that_was_bought_elsewhere_and_never_answered_is_asked_here(
    fleet: RentedFleet,
) -> None:
    await ask_for(fleet, 1)
    await fleet.scaler().step()
    await fleet.clock.sleep(2 * MINUTE)
    there = fleet.elsewhere()
    await there.scaler().step()
    (worker,) = (await fleet.registry.workers()).workers
    assert worker.state is WorkerState.READY
