"""Who may call the double, how often, and what is said to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import requests
from doubles.vast.faults import Fault
from doubles.vast.sdk import ORDER, Sdk, Tenant

Ask = Callable[[Tenant], Awaitable[Any]]


@pytest.fixture
def limited(tenant: Tenant) -> Tenant:
    tenant.server.limits.pace = 1.0
    return tenant


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
        (lambda tenant: tenant.sdk("label_instance", ID, "x"), 1.0),
        (lambda tenant: tenant.sdk("start_instance", ID), 1.0),
        (lambda tenant: tenant.sdk("show_invoices_v1", charges=True), 1.0),
        (lambda tenant: tenant.sdk("change_bid", ID, price=0.9), 5.5),
    ],
)
async def test_each_endpoint_has_its_own_interval(limited: Tenant, ask: Ask, interval: float) -> None:
    await limited.rent(price=0.8)
    await limited.clock.sleep(60)
    assert await status(ask(limited)) == 200
    await limited.clock.sleep(interval - 0.01)
    assert await status(ask(limited)) == 429
    await limited.clock.sleep(0.01)
    assert await status(ask(limited)) == 200
    assert limited.server.too_early.total() == 1


async def test_ten_searches_a_minute_are_allowed(limited: Tenant) -> None:
    answers = [await status(limited.sdk("search_offers", {})) for _ in range(11)]
    assert answers == [200] * 10 + [429]
    await limited.clock.sleep(60)
    assert await status(limited.sdk("search_offers", {})) == 200


async def test_a_faster_pace_shortens_the_intervals(limited: Tenant) -> None:
    limited.server.limits.pace = 0.1
    await limited.sdk("show_instances")
    await limited.clock.sleep(0.1)
    assert await status(limited.sdk("show_instances")) == 200


async def test_endpoints_do_not_wait_for_one_another(limited: Tenant) -> None:
    await limited.rent()
    assert await status(limited.sdk("show_instances")) == 200
    assert await status(limited.sdk("show_instance", ID)) == 200


async def test_the_refusal_is_text_and_json_by_turns_and_names_no_time(limited: Tenant) -> None:
    await limited.sdk("show_instances")
    text, json = [await limited.sdk.client("get", "/api/v1/instances/") for _ in range(2)]
    assert text.headers["Content-Type"].startswith("text/plain")
    assert text.text == "API requests too frequent endpoint threshold=1.0"
    assert json.json() == {"detail": "API requests too frequent endpoint threshold=1.0"}
    assert "Retry-After" not in text.headers


async def test_a_refusal_can_say_when_to_come_again(tenant: Tenant) -> None:
    tenant.server.arm(Fault.TOO_MANY, endpoint="list", value=7)
    answer = await tenant.sdk.client("get", "/api/v1/instances/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert tenant.server.too_early.total() == 0


async def test_the_days_searches_can_be_used_up(tenant: Tenant) -> None:
    tenant.server.arm(Fault.QUOTA, endpoint="search")
    answer = await tenant.sdk.client("post", "/bundles/")
    assert (answer.status_code, answer.json()["error"]) == (429, "search_quota_exceeded")


async def test_a_wrong_key_is_not_found(tenant: Tenant) -> None:
    answer = await Sdk(tenant.server, "wrong").client("get", "/users/current")
    assert (answer.status_code, answer.json()["msg"]) == (404, "Invalid user key")


async def test_no_key_is_forbidden(tenant: Tenant) -> None:
    url = f"{tenant.server.url}/api/v0/users/current/"
    answer = await asyncio.to_thread(requests.get, url, timeout=5)
    assert (answer.status_code, answer.json()["error"]) == (403, "auth_error")


@pytest.mark.parametrize("method", ["show_instance", "destroy_instance"])
async def test_an_instances_key_is_good_for_no_other(tenant: Tenant, method: str) -> None:
    first, second = await tenant.rent(), await tenant.rent()
    own = Sdk(tenant.server, tenant.server.instances[first].key)
    assert await status(own(method, second)) == 401
    assert len(tenant.server.alive()) == 2


async def test_an_instances_key_buys_and_lists_nothing(tenant: Tenant) -> None:
    own = Sdk(tenant.server, tenant.server.instances[await tenant.rent()].key)
    offer = tenant.server.market.add()["id"]
    assert await status(own("show_instances")) == 401
    assert await status(own("create_instance", offer, **ORDER)) == 401


async def test_an_instances_key_dies_with_it(tenant: Tenant) -> None:
    id = await tenant.rent()
    await tenant.sdk("destroy_instance", id)
    own = Sdk(tenant.server, tenant.server.instances[id].key)
    assert await status(own("show_instance", id)) == 404


async def test_a_place_that_does_not_exist_is_not_found(tenant: Tenant) -> None:
    assert (await tenant.sdk.client("get", "/nowhere/")).status_code == 404
