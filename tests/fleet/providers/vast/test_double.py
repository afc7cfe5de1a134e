"""The double against what vast.ai publishes: fields, types, status codes and the pauses between calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import requests
from doubles.vast.sdk import ORDER, Tenant

Ask = Callable[[Tenant], Awaitable[Any]]

Schema = Mapping[str, tuple[type, ...]]

NUMBER, NONE = (int, float), type(None)
INT, TEXT, FLAG, LIST, OBJECT = (int,), (str,), (bool,), (list,), (dict,)


def fields(names: str, types: tuple[type, ...]) -> dict[str, tuple[type, ...]]:
    return dict.fromkeys(names.split(), types)


#: Published under GET /api/v1/instances/ (api-reference/openapi: show_instances).
INSTANCE: Schema = {
    **fields("id machine_id host_id num_gpus ssh_port direct_port_count cpu_cores cpu_ram", INT),
    **fields("gpu_ram gpu_totalram gpu_lanes", INT),
    **fields("cur_state next_state intended_status image_uuid image_runtype onstart gpu_name", TEXT),
    **fields("public_ipaddr local_ipaddrs ssh_host ssh_idx geolocation verification cpu_arch", TEXT),
    **fields("cpu_name gpu_arch disk_name mobo_name time_remaining time_remaining_isbid", TEXT),
    **fields("actual_status label status_msg template_hash_id template_name", (str, NONE)),
    **fields("dph_base dph_total min_bid storage_cost storage_total_cost disk_space end_date", NUMBER),
    **fields("duration reliability2 gpu_frac gpu_mem_bw disk_bw disk_usage disk_util pci_gen", NUMBER),
    **fields("pcie_bw cpu_cores_effective cpu_util total_flops bw_nvlink client_run_time", NUMBER),
    **fields("host_run_time", NUMBER),
    **fields("start_date uptime_mins mem_limit mem_usage vmem_usage gpu_util gpu_temp", (*NUMBER, NONE)),
    **fields("dlperf credit_balance credit_discount template_id", (*NUMBER, NONE)),
    **fields("is_bid static_ip rentable", FLAG),
    **fields("extra_env image_args", LIST),
    **fields("search instance", OBJECT),
    **fields("ports", (dict, NONE)),
    **fields("webpage os_version", (str, NONE)),
}
PAGE: Schema = {
    **fields("success", FLAG),
    **fields("instances_found total_instances", INT),
    **fields("label_counts", OBJECT),
    **fields("next_token", (str, NONE)),
    **fields("instances", LIST),
}

#: Published under POST /api/v0/bundles/ (search_offers).
OFFER: Schema = {
    **fields("id ask_contract_id machine_id host_id num_gpus gpu_ram gpu_total_ram cpu_cores", INT),
    **fields("cpu_ram compute_cap direct_port_count gpu_lanes hosting_type has_avx", INT),
    **fields("dph_base dph_total min_bid dlperf dlperf_per_dphtotal flops_per_dphtotal score", NUMBER),
    **fields("reliability reliability2 inet_down inet_up inet_down_cost inet_up_cost duration", NUMBER),
    **fields("disk_space disk_bw storage_cost storage_total_cost cuda_max_good total_flops", NUMBER),
    **fields("cpu_cores_effective cpu_ghz gpu_frac gpu_mem_bw gpu_max_power gpu_max_temp", NUMBER),
    **fields("bw_nvlink pci_gen pcie_bw end_date start_date", NUMBER),
    **fields("gpu_name geolocation verification cpu_arch cpu_name disk_name driver_version", TEXT),
    **fields("gpu_arch mobo_name os_version resource_type public_ipaddr", TEXT),
    **fields("is_bid rentable rented static_ip gpu_display_active vms_enabled", FLAG),
    **fields("external", (bool, NONE)),
    **fields("search", OBJECT),
}
OFFERS: Schema = fields("offers", LIST)

#: Published under GET /api/v0/charges/ (show_charges).
CHARGES: Schema = {
    **fields("success", FLAG),
    **fields("count total", INT),
    **fields("next_token", (str, NONE)),
    **fields("results", LIST),
}
CHARGE: Schema = {
    **fields("start end", INT),
    **fields("type source description", TEXT),
    **fields("amount", NUMBER),
    **fields("metadata", OBJECT),
    **fields("items", LIST),
}
ITEM: Schema = {**CHARGE, **fields("source", (NONE,))}

#: Published under GET /api/v0/users/current/ (show_user).
USER: Schema = {**fields("id key_id", INT), **fields("email ssh_key sid", TEXT), **fields("balance", NUMBER)}

ERROR: Schema = {**fields("success", FLAG), **fields("error msg", TEXT)}


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


async def test_the_user(tenant: Tenant) -> None:
    assert_fits(await tenant.sdk("show_user"), USER)


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
