"""The double against what vast.ai publishes: fields, types, status codes and the pauses between calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import requests
from doubles.vast.schema import (
    CHARGE,
    CHARGES,
    ERROR,
    INSTANCE,
    ITEM,
    OBJECT,
    OFFER,
    OFFERS,
    PAGE,
    USER,
    Schema,
    fields,
)
from doubles.vast.sdk import ORDER, Sdk, Tenant

Ask = Callable[[Tenant], Awaitable[Any]]


def departures(value: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Fields that are missing or of another type."""
    missing = {name: "missing" for name in schema if name not in value}
    wrong = {
        name: value[name] for name in schema if name in value and not isinstance(value[name], schema[name])
    }
    return missing | wrong


def assert_fits(value: Mapping[str, Any], schema: Schema) -> None:
    assert departures(value, schema) == {}


async def test_a_page_of_instances(tenant: Tenant) -> None:
    id = await tenant.rent()
    for wait in (0, 60):
        await tenant.clock.sleep(wait)
        body = await tenant.sdk("show_instances_v1", {})
        assert_fits(body, PAGE)
        assert_fits(body["instances"][0], INSTANCE)
    [[name, value], *_] = body["instances"][0]["extra_env"]
    assert {name: value}.items() <= ORDER["env"].items()
    [mapping] = body["instances"][0]["ports"]["8443/tcp"]
    assert {key: type(value) for key, value in mapping.items()} == {"HostIp": str, "HostPort": str}
    assert_fits((await tenant.sdk("show_instance", id)), {**INSTANCE, **fields("extra_env", OBJECT)})


async def test_a_search(tenant: Tenant) -> None:
    answer = await tenant.sdk.client("post", "/bundles/", json_data={"type": "bid"})
    assert_fits(answer.json(), OFFERS)
    for offer in answer.json()["offers"]:
        assert_fits(offer, OFFER)


async def test_charges(tenant: Tenant) -> None:
    await tenant.rent_running()
    await tenant.clock.sleep(3600)
    now = int(tenant.clock.now())
    body = await tenant.sdk("show_invoices_v1", charges=True, start_date=now - 86_400, end_date=now)
    assert_fits(body, CHARGES)
    [entry] = body["results"]
    assert_fits(entry, CHARGE)
    for item in entry["items"]:
        assert_fits(item, ITEM)
        assert item["type"] in {"gpu", "disk", "bwd", "bwu"}
    stamps = [entry["start"], entry["end"], *(item["end"] for item in entry["items"])]
    assert [stamp % 86_400 for stamp in stamps] == [0] * len(stamps)


async def test_the_user(tenant: Tenant) -> None:
    user = await tenant.sdk("show_user")
    assert_fits(user, USER)
    assert (user["credit"], user["balance"]) == (100.0, 0.0)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", "/charges/", 404),
        ("post", "/bundles/", 404),
        ("get", "/users/current/", 401),
        ("get", "/api/v1/instances/", 401),
        ("delete", "/instances/1/", 401),
    ],
)
async def test_a_wrong_key_is_404_only_where_that_is_published(
    tenant: Tenant, method: str, path: str, status: int
) -> None:
    answer = await Sdk(tenant.server, "wrong").client(method, path)
    assert answer.status_code == status


@pytest.mark.parametrize(("count", "mapped"), [(2, False), (3, True)])
async def test_what_the_image_exposes_takes_a_port_too(tenant: Tenant, count: int, mapped: bool) -> None:
    id = await tenant.rent_running(tenant.server.market.add(direct_port_count=count)["id"])
    assert ((await tenant.row(id))["ports"] is not None) == mapped


@pytest.mark.parametrize(
    ("status", "gpu", "disk"),
    [
        ("unknown", True, True),
        ("frozen", True, True),
        ("exited", False, True),
        ("offline", False, False),
    ],
)
async def test_what_is_billed_depends_on_the_status(
    tenant: Tenant, status: str, gpu: bool, disk: bool
) -> None:
    id = await tenant.rent_running()
    tenant.server.become(id, status)
    instance = tenant.server.instances[id]
    assert tenant.server.burn == pytest.approx(instance.gpu_rate * gpu + instance.disk_rate * disk)


async def test_an_instance_of_which_no_heartbeat_comes_runs_on(tenant: Tenant) -> None:
    id = await tenant.rent_running()
    ports = (await tenant.row(id))["ports"]
    tenant.server.become(id, "unknown")
    assert (await tenant.row(id))["ports"] == ports
    tenant.server.become(id, "running")
    assert (await tenant.row(id))["ports"] == ports


async def test_answers_that_only_say_success(tenant: Tenant) -> None:
    client, id = tenant.sdk.client, await tenant.rent_running(price=0.9)
    answers = [
        await client("put", f"/instances/request_logs/{id}", json_data={"tail": "10"}),
        await client("delete", f"/instances/{id}/"),
    ]
    assert [(answer.status_code, answer.json()["success"]) for answer in answers] == [(200, True)] * 2
    assert answers[0].json()["result_url"].startswith(tenant.server.url)


async def test_errors(tenant: Tenant) -> None:
    client = tenant.sdk.client
    answers = {
        404: [
            await client("put", "/asks/1/", json_data={"image": "x"}),
            await client("delete", "/instances/1/"),
        ],
        400: [
            await client("put", "/asks/1/", json_data={}),
            await client("get", "/api/v1/instances/", query_args={"after_token": "x"}),
        ],
    }
    for status, refused in answers.items():
        for answer in refused:
            assert answer.status_code == status
            assert_fits(answer.json(), ERROR)
    unknown = await client("put", "/instances/request_logs/1")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "invalid_id")


# How often a call may be made; x-rate-limit in vast.ai's OpenAPI files


async def status(asked: Awaitable[Any]) -> int:
    """Of the error that it brings; 200 if it brings none."""
    try:
        await asked
    except requests.HTTPError as error:
        return int(error.response.status_code)
    return 200


async def create(tenant: Tenant) -> Any:
    return await tenant.sdk("create_instance", tenant.server.market.add()["id"], **ORDER)


async def destroy(tenant: Tenant) -> Any:
    id = tenant.server.world.buy(tenant.server.market.add(), tenant.server.instances[ID].order).id
    return await tenant.sdk("destroy_instance", id)


#: The first instance that the double sells.
ID = 25_000_001


@pytest.mark.parametrize(
    ("ask", "interval"),
    [
        (create, 4.5),
        (destroy, 3.0),
        (lambda tenant: tenant.sdk("show_instance", ID), 2.0),
        (lambda tenant: tenant.sdk("show_instances"), 1.0),
        (lambda tenant: tenant.sdk("show_invoices_v1", charges=True), 1.0),
    ],
)
async def test_each_endpoint_has_its_own_interval(tenant: Tenant, ask: Ask, interval: float) -> None:
    tenant.server.limits.pace = 1.0
    await tenant.rent(price=0.8)
    await tenant.clock.sleep(60)
    assert await status(ask(tenant)) == 200
    await tenant.clock.sleep(interval - 0.01)
    assert await status(ask(tenant)) == 429
    await tenant.clock.sleep(0.01)
    assert await status(ask(tenant)) == 200
    assert tenant.server.too_early.total() == 1


async def test_ten_searches_a_minute_are_allowed(tenant: Tenant) -> None:
    tenant.server.limits.pace = 1.0
    answers = [await status(tenant.sdk("search_offers", {})) for _ in range(11)]
    assert answers == [200] * 10 + [429]
    await tenant.clock.sleep(60)
    assert await status(tenant.sdk("search_offers", {})) == 200
