"""The double's list: pages, filters, and the ways in which it lies."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from doubles.vast.faults import Fault
from doubles.vast.sdk import Tenant


async def rent_many(tenant: Tenant, number: int) -> list[int]:
    return [await tenant.rent(label=f"llmhost/home/{n}") for n in range(number)]


async def page(tenant: Tenant, **query: Any) -> dict[str, Any]:
    body: dict[str, Any] = await tenant.sdk("show_instances_v1", query)
    return body


def ids(body: dict[str, Any]) -> list[int]:
    return [row["id"] for row in body["instances"]]


async def test_a_page_holds_25_and_names_the_next(tenant: Tenant) -> None:
    every = await rent_many(tenant, 30)
    first = await page(tenant, limit=100)
    assert (ids(first), first["instances_found"], first["total_instances"]) == (every[:25], 25, 30)
    second = await page(tenant, after_token=first["next_token"])
    assert (ids(second), second["next_token"]) == (every[25:], None)


async def test_the_sdk_follows_the_pages(tenant: Tenant) -> None:
    every = await rent_many(tenant, 51)
    assert [row["id"] for row in await tenant.sdk("show_instances")] == every
    assert tenant.server.calls["list"] == 3


async def test_a_page_goes_on_after_an_instance_that_is_gone(tenant: Tenant) -> None:
    every = await rent_many(tenant, 4)
    first = await page(tenant, limit=2)
    await tenant.sdk("destroy_instance", every[1])
    assert ids(await page(tenant, after_token=first["next_token"])) == every[2:]


async def test_rows_are_filtered_by_what_is_stored(tenant: Tenant) -> None:
    every = await rent_many(tenant, 3)
    body = await page(tenant, select_filters={"label": {"eq": "llmhost/home/1"}})
    assert (ids(body), body["total_instances"]) == ([every[1]], 1)


async def test_rows_come_in_the_order_asked_for(tenant: Tenant) -> None:
    every = await rent_many(tenant, 3)
    assert ids(await page(tenant, order_by=[{"col": "label", "dir": "desc"}])) == every[::-1]


async def test_labels_are_counted(tenant: Tenant) -> None:
    for label in ("a", "a", None):
        await tenant.rent(label=label)
    assert (await page(tenant))["label_counts"] == {"a": 2, "": 1}


async def test_only_the_columns_asked_for_are_shown(tenant: Tenant) -> None:
    [id] = await rent_many(tenant, 1)
    body = await page(tenant, select_cols=["id", "colour"])
    assert body["instances"] == [{"id": id, "colour": None}]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"select_filters": {"dph_total": {"gt": 1}}}, "invalid_request"),
        ({"select_filters": {"label": {"like": "x"}}}, "invalid_request"),
        ({"order_by": [{"col": "dph_total"}]}, "invalid_request"),
        ({"after_token": "nonsense"}, "invalid_token"),
    ],
)
async def test_a_list_that_makes_no_sense_is_refused(
    tenant: Tenant, query: dict[str, Any], error: str
) -> None:
    with pytest.raises(requests.HTTPError) as caught:
        await page(tenant, **query)
    assert caught.value.response.status_code == 400
    assert caught.value.response.json()["error"] == error


async def test_the_old_list_is_gone(tenant: Tenant) -> None:
    assert (await tenant.sdk.client("get", "/instances/")).status_code == 410


async def test_a_row_can_be_missing(tenant: Tenant) -> None:
    await rent_many(tenant, 3)
    tenant.server.arm(Fault.LIST_SHORT)
    body = await page(tenant)
    assert (len(body["instances"]), body["total_instances"]) == (2, 3)
    assert len((await page(tenant))["instances"]) == 3


async def test_the_next_page_can_be_kept_secret(tenant: Tenant) -> None:
    await rent_many(tenant, 3)
    tenant.server.arm(Fault.LIST_NO_TOKEN)
    body = await page(tenant, limit=2)
    assert (ids(body), body["total_instances"], "next_token" in body) == (tenant.server.alive()[:2], 3, False)


async def test_a_page_can_lead_to_itself(tenant: Tenant) -> None:
    await rent_many(tenant, 5)
    first = await page(tenant, limit=2)
    tenant.server.arm(Fault.LIST_LOOPS)
    second = await page(tenant, limit=2, after_token=first["next_token"])
    assert second["next_token"] == first["next_token"]


@pytest.mark.parametrize(
    ("fault", "shape"),
    [
        (Fault.LIST_ARRAY, lambda body: isinstance(body, list) and len(body) == 1),
        (Fault.LIST_NULL, lambda body: body["instances"] is None and body["total_instances"] == 1),
        (Fault.LIST_ODD_ROWS, lambda body: not all(isinstance(row, dict) for row in body["instances"])),
        (Fault.LIST_NO_ID, lambda body: "id" not in body["instances"][0]),
    ],
)
async def test_a_list_can_have_the_wrong_shape(tenant: Tenant, fault: Fault, shape: Any) -> None:
    await rent_many(tenant, 1)
    tenant.server.arm(fault)
    answer = await tenant.sdk.client("get", "/api/v1/instances/")
    assert answer.status_code == 200
    assert shape(json.loads(answer.text))
