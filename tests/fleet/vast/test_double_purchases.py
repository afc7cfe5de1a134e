"""Buying at the double, through the real SDK."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from doubles.vast.faults import Fault
from doubles.vast.sdk import ORDER, Tenant


async def refused(tenant: Tenant, offer: int, **changes: Any) -> tuple[int, dict[str, Any]]:
    """Status and body of the error that a purchase brings."""
    with pytest.raises(requests.HTTPError) as caught:
        await tenant.rent(offer, **changes)
    return caught.value.response.status_code, caught.value.response.json()


@pytest.fixture
def offer(tenant: Tenant) -> int:
    return int(tenant.server.market.add(dph_base=0.5, min_bid=0.3)["id"])


async def test_a_purchase_gives_the_instance_and_a_key_of_its_own(tenant: Tenant, offer: int) -> None:
    bought = await tenant.sdk("create_instance", offer, **ORDER)
    instance = tenant.server.instances[bought["new_contract"]]
    assert bought == {"success": True, "new_contract": instance.id, "instance_api_key": instance.key}


async def test_the_instance_is_what_was_ordered(tenant: Tenant, offer: int) -> None:
    row = await tenant.row(await tenant.rent(offer))
    assert row["extra_env"] == ORDER["env"]
    assert (row["label"], row["image_uuid"]) == (ORDER["label"], ORDER["image"])
    assert (row["onstart"], row["disk_space"]) == (ORDER["onstart_cmd"], ORDER["disk"])
    assert (row["image_runtype"], row["is_bid"]) == ("ssh_direc ssh_proxy", False)
    assert row["machine_id"] == tenant.server.market.offers[offer]["machine_id"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"onstart_cmd": "x" * 4049}, "invalid_args"),
        ({"env": {"A": "x" * 257}}, "invalid_args"),
        ({"env": {f"A{n}": "x" * 256 for n in range(130)}}, "invalid_args"),
        ({"label": "x" * 257}, "invalid_args"),
        ({"image": "x" * 1025}, "invalid_args"),
        ({"image": None}, "invalid_args"),
        ({"disk": 7.9}, "invalid_args"),
        ({"ssh": False, "direct": False, "runtype": "telnet"}, "invalid_args"),
        ({"price": 0.0009}, "invalid_price"),
        ({"price": 128.5}, "invalid_price"),
    ],
)
async def test_a_purchase_that_breaks_a_limit_is_refused(
    tenant: Tenant, offer: int, changes: dict[str, Any], error: str
) -> None:
    status, body = await refused(tenant, offer, **changes)
    assert (status, body["error"], body["ask_id"]) == (400, error, offer)
    assert tenant.server.created_total == 0


async def test_the_largest_purchase_that_is_allowed_succeeds(tenant: Tenant, offer: int) -> None:
    largest = {"onstart_cmd": "x" * 4048, "env": {"A": "x" * 256}, "label": "x" * 256, "disk": 8}
    await tenant.rent(offer, **largest)
    assert tenant.server.created_total == 1


async def test_an_offer_that_does_not_exist_is_no_longer_available(tenant: Tenant) -> None:
    status, body = await refused(tenant, 1)
    assert status == 404
    assert "404/3603: no_such_ask" in body["msg"]


async def test_an_offer_that_is_taken_is_refused_if_asked_to(tenant: Tenant, offer: int) -> None:
    await tenant.rent(offer)
    status, body = await refused(tenant, offer)
    assert (status, body["error"]) == (410, "no_such_ask")
    assert "410/3907" in body["msg"]


async def test_an_offer_that_is_taken_leaves_a_stopped_instance_unless_asked_not_to(
    tenant: Tenant, offer: int
) -> None:
    await tenant.rent(offer)
    loser = await tenant.rent_running(offer, cancel_unavail=False)
    row = await tenant.row(loser)
    assert (row["intended_status"], row["actual_status"]) == ("stopped", None)
    assert tenant.server.billed(loser) > 0


async def test_a_bid_below_the_lowest_is_refused_if_asked_to(tenant: Tenant, offer: int) -> None:
    status, _ = await refused(tenant, offer, price=0.29)
    assert status == 410


async def test_a_bid_makes_it_interruptible_at_that_price(tenant: Tenant, offer: int) -> None:
    row = await tenant.row(await tenant.rent(offer, price=0.31))
    assert (row["is_bid"], row["dph_base"], row["min_bid"]) == (True, 0.31, 0.3)


async def test_nothing_is_sold_without_credit(tenant: Tenant, offer: int) -> None:
    tenant.server.credit = 0.0
    status, body = await refused(tenant, offer)
    assert (status, body["error"]) == (400, "insufficient_credit")


@pytest.mark.parametrize(
    ("fault", "status", "word"),
    [
        (Fault.OFFER_GONE, 404, "404/3603"),
        (Fault.OFFER_TAKEN, 410, "410/3907"),
        (Fault.SPEND_RATE, 400, "New accounts"),
    ],
)
async def test_a_purchase_can_fail_without_being_executed(
    tenant: Tenant, offer: int, fault: Fault, status: int, word: str
) -> None:
    tenant.server.arm(fault, offer=offer)
    actual, body = await refused(tenant, offer)
    assert actual == status
    assert word in body["msg"]
    assert tenant.server.created_total == 0


async def test_a_purchase_can_be_executed_and_never_answered(tenant: Tenant, offer: int) -> None:
    tenant.server.arm(Fault.CREATE_SILENT)
    tenant.sdk.timeout = 0.2
    with pytest.raises(requests.ReadTimeout):
        await tenant.rent(offer)
    assert len(tenant.server.alive()) == 1


async def test_a_purchase_can_be_executed_and_the_connection_cut(tenant: Tenant, offer: int) -> None:
    tenant.server.arm(Fault.CREATE_CUT)
    with pytest.raises(requests.ConnectionError):
        await tenant.rent(offer)
    assert len(tenant.server.alive()) == 1


async def test_a_purchase_can_be_executed_twice(tenant: Tenant, offer: int) -> None:
    tenant.server.arm(Fault.CREATE_TWICE)
    first = await tenant.rent_running(offer)
    assert tenant.server.double_paid() == [ORDER["label"]]
    assert [row["actual_status"] for row in await tenant.sdk("show_instances")] == ["running", "running"]
    assert first == min(tenant.server.alive())


async def test_a_purchase_can_be_executed_and_answered_with_garbage(tenant: Tenant, offer: int) -> None:
    tenant.server.arm(Fault.CREATE_GARBAGE)
    with pytest.raises(requests.JSONDecodeError):
        await tenant.rent(offer)
    assert len(tenant.server.alive()) == 1


async def test_a_purchase_can_be_executed_and_not_say_what_was_bought(tenant: Tenant, offer: int) -> None:
    tenant.server.arm(Fault.CREATE_NO_ID)
    assert await tenant.sdk("create_instance", offer, **ORDER) == {"success": True}
    assert len(tenant.server.alive()) == 1


async def test_a_failed_purchase_can_name_an_instance_that_exists(tenant: Tenant, offer: int) -> None:
    tenant.server.arm(Fault.CREATE_ERROR_BUT_BOUGHT)
    status, body = await refused(tenant, offer, price=0.4)
    assert status == 410
    assert [body["new_contract"]] == tenant.server.alive()
