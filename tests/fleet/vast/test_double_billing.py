"""What the double bills, and what is left of the credit."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from doubles.vast.sdk import Tenant

HOUR, DAY = 3600.0, 86_400.0

#: USD an hour of the offer below with 50 GB: 0.36 for the GPU, 0.144 * 50 / 720 for the disk.
GPU, DISK = 0.36, 0.01


@pytest.fixture
def offer(tenant: Tenant) -> int:
    return int(tenant.server.market.add(dph_base=GPU, storage_cost=0.144, min_bid=0.1)["id"])


async def charges(tenant: Tenant, **more: Any) -> dict[str, Any]:
    now = int(tenant.clock.now())
    wanted = {"charges": True, "start_date": now - 30 * 86_400, "end_date": now + 1, **more}
    body: dict[str, Any] = await tenant.sdk("show_invoices_v1", **wanted)
    return body


async def test_while_it_boots_only_the_disk_is_billed(tenant: Tenant, offer: int) -> None:
    id = await tenant.rent(offer)
    await tenant.clock.sleep(36)
    assert tenant.server.billed(id) == pytest.approx(DISK / 100)
    assert tenant.server.burn == pytest.approx(DISK)


async def test_while_it_runs_everything_is_billed(tenant: Tenant, offer: int) -> None:
    id = await tenant.rent_running(offer)
    before = tenant.server.billed(id)
    await tenant.clock.sleep(HOUR)
    assert tenant.server.billed(id) - before == pytest.approx(GPU + DISK)


async def test_stopped_it_still_costs_its_disk(tenant: Tenant, offer: int) -> None:
    id = await tenant.rent_running(offer)
    await tenant.sdk("stop_instance", id)
    assert tenant.server.burn == pytest.approx(DISK)


async def test_offline_it_costs_nothing(tenant: Tenant, offer: int) -> None:
    id = await tenant.rent_running(offer)
    tenant.server.become(id, "offline")
    assert tenant.server.burn == 0
    tenant.server.become(id, "running")
    assert tenant.server.burn == pytest.approx(GPU + DISK)


async def test_destroyed_it_costs_nothing_more_and_its_bill_stays(tenant: Tenant, offer: int) -> None:
    id = await tenant.rent_running(offer)
    await tenant.clock.sleep(HOUR)
    await tenant.sdk("destroy_instance", id)
    bill = tenant.server.billed(id)
    await tenant.clock.sleep(HOUR)
    assert tenant.server.billed(id) == tenant.server.billed_total() == bill > GPU


async def test_a_bid_is_what_it_costs_from_then_on(tenant: Tenant, offer: int) -> None:
    id = await tenant.rent_running(offer, price=0.2)
    assert tenant.server.burn == pytest.approx(0.2 + DISK)
    await tenant.sdk("change_bid", id, price=0.3)
    assert tenant.server.burn == pytest.approx(0.3 + DISK)


async def test_the_row_says_what_it_costs_while_running_and_now(tenant: Tenant, offer: int) -> None:
    row = await tenant.row(await tenant.rent(offer))
    assert row["dph_total"] == pytest.approx(GPU + DISK)
    assert row["instance"]["totalHour"] == pytest.approx(DISK)


async def test_the_credit_goes_down_by_what_is_billed(tenant: Tenant, offer: int) -> None:
    await tenant.rent_running(offer)
    await tenant.clock.sleep(HOUR)
    user = await tenant.sdk("show_user")
    assert user["credit"] == pytest.approx(100 - tenant.server.billed_total())
    assert user["credit"] == pytest.approx(100 - GPU, abs=0.02)


async def test_when_the_credit_is_used_up_everything_stops_and_disks_are_billed_on(
    tenant: Tenant, offer: int
) -> None:
    id = await tenant.rent_running(offer)
    tenant.server.credit = (GPU + DISK) / 2
    await tenant.clock.sleep(HOUR)
    assert (await tenant.row(id))["intended_status"] == "stopped"
    assert tenant.server.credit == pytest.approx(-DISK / 2)
    with pytest.raises(requests.HTTPError, match="400"):
        await tenant.sdk("start_instance", id)


async def test_paying_in_lets_it_start_again(tenant: Tenant, offer: int) -> None:
    id = await tenant.rent_running(offer)
    tenant.server.credit = 0
    await tenant.row(id)
    tenant.server.credit = 5
    await tenant.sdk("start_instance", id)
    await tenant.clock.sleep(10)
    assert (await tenant.row(id))["actual_status"] == "running"


async def test_the_charges_add_up_to_the_bill_and_carry_the_label(tenant: Tenant, offer: int) -> None:
    id = await tenant.rent_running(offer, label="llmhost/home/1")
    await tenant.clock.sleep(DAY)
    [entry] = (await charges(tenant))["results"]
    assert entry["amount"] == pytest.approx(tenant.server.billed(id), abs=0.001)
    assert (entry["source"], entry["metadata"]) == (f"instance-{id}", {"label": "llmhost/home/1"})
    assert {item["type"] for item in entry["items"]} == {"gpu", "disk"}
    assert sum(item["amount"] for item in entry["items"]) == pytest.approx(entry["amount"], abs=0.002)


async def test_charges_are_of_the_time_asked_for(tenant: Tenant, offer: int) -> None:
    await tenant.rent_running(offer)
    start = int(tenant.clock.now())
    await tenant.clock.sleep(5 * HOUR)
    [entry] = (await charges(tenant, start_date=start, end_date=start + 3600))["results"]
    assert entry["amount"] == pytest.approx(GPU + DISK)
    assert (entry["start"], entry["end"]) == (start, start + 3600)


async def test_traffic_is_billed_by_the_gigabyte(tenant: Tenant) -> None:
    id = await tenant.rent(tenant.server.market.add(inet_down_cost=0.02, inet_up_cost=0.05)["id"])
    tenant.server.traffic(id, down=10, up=2)
    assert tenant.server.billed(id) == pytest.approx(0.3)
    [entry] = (await charges(tenant))["results"]
    assert [(item["type"], item["amount"]) for item in entry["items"]] == [("bwd", 0.2), ("bwu", 0.1)]


async def test_charges_come_in_pages_the_gone_ones_too(tenant: Tenant) -> None:
    every = [await tenant.rent() for _ in range(3)]
    await tenant.clock.sleep(60)
    await tenant.sdk("destroy_instance", every[0])
    first = await charges(tenant, limit=2)
    assert (first["count"], first["total"]) == (2, 3)
    second = await charges(tenant, limit=2, next_token=first["next_token"])
    sources = [entry["source"] for entry in first["results"] + second["results"]]
    assert (sources, second["next_token"]) == ([f"instance-{id}" for id in every], None)


async def test_charges_without_days_are_refused(tenant: Tenant) -> None:
    answer = await tenant.sdk.client("get", "/charges/", query_args={"select_filters": {"day": {"gte": 1}}})
    assert (answer.status_code, "Must provide both 'day'" in answer.json()["msg"]) == (400, True)


async def test_the_most_that_all_would_cost_is_remembered(tenant: Tenant, offer: int) -> None:
    id = await tenant.rent(offer)
    await tenant.sdk("destroy_instance", id)
    await tenant.rent(tenant.server.market.add(dph_base=0.1)["id"])
    assert tenant.server.peak_price == pytest.approx(GPU + DISK)
