"""Faults that any endpoint of the double can have, hooks for a kill, and what a test may ask it."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import pytest
import requests
from doubles.clock import ManualClock
from doubles.vast.faults import AFFLICTIONS, ANYWHERE, CREATE_EXECUTED, CREATE_REFUSED, LIST, Fault
from doubles.vast.orders import Order
from doubles.vast.sdk import Tenant
from doubles.vast.server import Drop, VastServer
from doubles.waiting import until


def test_every_fault_has_its_place() -> None:
    taken_by_name = (Fault.DESTROY_LIES, Fault.DESTROY_CUT, Fault.SCHEDULING)
    placed = [*CREATE_EXECUTED, *CREATE_REFUSED, *LIST, *ANYWHERE, *AFFLICTIONS, *taken_by_name]
    assert sorted(placed) == sorted(Fault)


@pytest.mark.parametrize(("fault", "status"), [(Fault.SERVER_ERROR, 500), (Fault.UNAVAILABLE, 503)])
async def test_an_endpoint_can_fail(tenant: Tenant, fault: Fault, status: int) -> None:
    tenant.server.arm(fault, endpoint="destroy")
    id = await tenant.rent()
    answer = await tenant.sdk.client("delete", f"/instances/{id}/")
    assert (answer.status_code, tenant.server.alive()) == (status, [id])


async def test_every_third_call_can_fail(tenant: Tenant) -> None:
    tenant.server.arm(Fault.UNAVAILABLE, every=3, times=None)
    answers = [await tenant.sdk.client("get", "/users/current") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200, 200, 503, 200, 200, 503]


async def test_an_answer_can_be_no_json(tenant: Tenant) -> None:
    tenant.server.arm(Fault.GARBAGE, endpoint="list")
    with pytest.raises(requests.JSONDecodeError):
        await tenant.sdk("show_instances")
    assert await tenant.sdk("show_instances") == []


async def test_an_answer_can_stay_away(tenant: Tenant) -> None:
    tenant.server.arm(Fault.SILENT, endpoint="list")
    tenant.sdk.timeout = 0.2
    with pytest.raises(requests.ReadTimeout):
        await tenant.sdk("show_instances")


async def test_a_connection_can_be_cut_before_anything_is_done(tenant: Tenant) -> None:
    tenant.server.arm(Fault.CUT, endpoint="create")
    with pytest.raises(requests.ConnectionError):
        await tenant.rent()
    assert tenant.server.created_total == 0


async def test_an_answer_can_take_its_time(tenant: Tenant) -> None:
    tenant.server.arm(Fault.SLOW, endpoint="list", value=40)
    before = tenant.clock.monotonic()
    assert await tenant.sdk("show_instances") == []
    assert tenant.clock.monotonic() - before == 40


async def test_a_fault_can_be_meant_for_one_instance(tenant: Tenant) -> None:
    first, second = await tenant.rent(), await tenant.rent()
    tenant.server.arm(Fault.DESTROY_LIES, times=None, instance=first)
    for id in (first, second):
        await tenant.sdk("destroy_instance", id)
    assert tenant.server.alive() == [first]


async def test_hooks_see_every_call_before_it_is_executed_and_before_it_is_answered(tenant: Tenant) -> None:
    seen = []

    async def note(phase: str, endpoint: str, number: int) -> None:
        seen.append((phase, endpoint, number, tenant.server.created_total))

    tenant.server.before = lambda endpoint, number: note("before", endpoint, number)
    tenant.server.after = lambda endpoint, number: note("after", endpoint, number)
    await tenant.rent()
    assert seen == [("before", "create", 1, 0), ("after", "create", 1, 1)]
    assert tenant.server.steps == [("create", "before"), ("create", "after")]


@pytest.mark.parametrize(("phase", "bought"), [("before", 0), ("after", 1)])
async def test_a_hook_can_drop_the_call(tenant: Tenant, phase: str, bought: int) -> None:
    async def drop(endpoint: str, number: int) -> None:
        raise Drop

    setattr(tenant.server, phase, drop)
    with pytest.raises(requests.ConnectionError):
        await tenant.rent()
    assert tenant.server.created_total == bought


async def test_what_is_due_happens_though_nobody_calls(tenant: Tenant) -> None:
    id = await tenant.rent_running()
    assert await until(lambda: tenant.server.instances[id].ports)


async def test_all_containers_are_stopped_at_the_end(tenant: Tenant) -> None:
    async with VastServer(ManualClock(), pace=0) as server:
        id = server.world.buy(server.market.add(), an_order()).id
        server.become(id, "running")
        await server.tick()
        container = server.machines.containers.started[id]
        assert not container.stopped
    assert container.stopped


async def test_a_hundred_instances_and_many_calls_take_little_time(tenant: Tenant) -> None:
    server = tenant.server
    for _ in range(100):
        server.world.buy(server.market.add(), an_order())
    await tenant.clock.sleep(60)
    await server.tick()
    started = time.process_time()
    for _ in range(10):
        rows = await tenant.sdk("show_instances")
    assert [row["actual_status"] for row in rows] == ["running"] * 100
    # seconds; ten lists of four pages take a few tenths, on both sides of the wire.
    assert time.process_time() - started < 4.0


async def test_a_subprocess_takes_it_for_the_real_thing(tenant: Tenant) -> None:
    code = "from vastai import VastAI; print(VastAI().show_user()['credit'])"
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", code),
        env={**os.environ, **tenant.server.environment()},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await child.communicate()
    assert printed == b"100.0\n"


async def test_many_calls_at_once_are_answered(tenant: Tenant) -> None:
    ids = await asyncio.gather(*(tenant.rent() for _ in range(10)))
    assert sorted(ids) == tenant.server.alive()


def an_order() -> Order:
    return Order("x/y", {"-p 8443:8443": "1"}, 50.0, "label", "", (), "ssh", None, True, "running")
