"""The life of an instance at the double, seen through the real SDK."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from doubles.vast.catalogue import make_offer
from doubles.vast.faults import Fault
from doubles.vast.no_containers import NoContainers
from doubles.vast.sdk import Sdk, Tenant

PORT = "8443/tcp"


async def statuses(tenant: Tenant, id: int, *waits: float) -> list[str | None]:
    seen = []
    for wait in waits:
        await tenant.clock.sleep(wait)
        seen.append((await tenant.row(id))["actual_status"])
    return seen


def containers(tenant: Tenant) -> NoContainers:
    made: NoContainers = tenant.server.machines.containers
    return made


async def test_it_comes_up_step_by_step(tenant: Tenant) -> None:
    id = await tenant.rent()
    assert await statuses(tenant, id, 0, 2, 3, 54, 1) == [None, "created", "loading", "loading", "running"]


async def test_its_message_changes_while_it_loads(tenant: Tenant) -> None:
    id = await tenant.rent()
    await tenant.clock.sleep(6)
    first = (await tenant.row(id))["status_msg"]
    await tenant.clock.sleep(20)
    assert first != (await tenant.row(id))["status_msg"]


async def test_ports_are_shown_only_while_it_runs(tenant: Tenant) -> None:
    id = await tenant.rent()
    assert (await tenant.row(id))["ports"] is None
    await tenant.clock.sleep(60)
    [mapping] = (await tenant.row(id))["ports"][PORT]
    assert mapping["HostPort"] == str(containers(tenant).started[id].ports[8443])
    await tenant.sdk("stop_instance", id)
    assert (await tenant.row(id))["ports"] is None


async def test_its_address_ends_with_a_line_end(tenant: Tenant) -> None:
    row = await tenant.sdk("show_instance", await tenant.rent())
    assert row["public_ipaddr"] == "127.0.0.1\n"


async def test_a_machine_with_too_few_open_ports_maps_none(tenant: Tenant) -> None:
    offer = tenant.server.market.add(direct_port_count=0)["id"]
    assert (await tenant.row(await tenant.rent_running(offer)))["ports"] is None


async def test_its_container_is_started_once_with_what_was_ordered(tenant: Tenant) -> None:
    id = await tenant.rent_running()
    await tenant.sdk("show_instances")
    await tenant.sdk("show_instances")
    assert containers(tenant).starts == 1
    assert containers(tenant).orders[id] == ("echo hello", tenant.server.instances[id].key, tenant.server.url)


async def test_destroying_it_stops_its_container_and_the_list_forgets_it(tenant: Tenant) -> None:
    id = await tenant.rent_running()
    await tenant.row(id)
    assert (await tenant.sdk("destroy_instance", id))["success"] is True
    assert containers(tenant).started[id].stopped
    assert await tenant.sdk("show_instances") == []
    assert await tenant.sdk("show_instance", id) is None


async def test_destroying_what_is_gone_is_an_error(tenant: Tenant) -> None:
    with pytest.raises(requests.HTTPError) as caught:
        await tenant.sdk("destroy_instance", 7)
    assert caught.value.response.status_code == 404
    assert caught.value.response.json()["error"] == "no_such_instance"


async def test_its_own_key_shows_and_destroys_it(tenant: Tenant) -> None:
    id = await tenant.rent()
    own = Sdk(tenant.server, tenant.server.instances[id].key)
    assert (await own("show_instance", id))["id"] == id
    await own("destroy_instance", id)
    assert tenant.server.alive() == []


async def test_stopped_it_can_be_started_again(tenant: Tenant) -> None:
    id = await tenant.rent_running()
    await tenant.sdk("stop_instance", id)
    row = await tenant.row(id)
    assert [row[name] for name in ("cur_state", "intended_status", "next_state")] == ["stopped"] * 3
    assert row["actual_status"] == "exited"
    await tenant.sdk("start_instance", id)
    assert await statuses(tenant, id, 0, 10) == ["loading", "running"]
    assert containers(tenant).starts == 2


async def test_a_reboot_starts_its_container_again(tenant: Tenant) -> None:
    id = await tenant.rent_running()
    await tenant.row(id)
    await tenant.sdk("reboot_instance", id)
    assert await statuses(tenant, id, 0, 10) == ["rebooting", "running"]
    assert containers(tenant).starts == 2


async def test_a_reboot_that_nobody_watched_is_a_reboot(tenant: Tenant) -> None:
    id = await tenant.rent_running()
    await tenant.row(id)
    tenant.server.instances[id].reboot(tenant.server.world.boot, tenant.clock.now())
    await tenant.clock.sleep(10)
    await tenant.row(id)
    assert containers(tenant).starts == 2


async def test_it_can_be_labelled_anew(tenant: Tenant) -> None:
    id = await tenant.rent()
    await tenant.sdk("label_instance", id, "other")
    assert (await tenant.row(id))["label"] == "other"
    assert tenant.server.labels == {"other": [id]}


async def test_its_logs_are_fetched_from_where_the_answer_says(tenant: Tenant) -> None:
    id = await tenant.rent_running()
    await tenant.row(id)
    containers(tenant).started[id].text = "one\ntwo\nthree\n"
    assert await tenant.sdk("logs", id, tail="2") == "two\nthree"


async def test_logs_of_what_is_gone_are_an_error(tenant: Tenant) -> None:
    with pytest.raises(requests.HTTPError, match="404"):
        await tenant.sdk("logs", 7)


async def test_a_key_can_be_attached(tenant: Tenant) -> None:
    id = await tenant.rent()
    answer = await ssh(tenant, id, {"ssh_key": "ssh-ed25519 AAAA"})
    assert answer.json()["success"] is True
    assert tenant.server.instances[id].ssh_keys == ["ssh-ed25519 AAAA"]
    assert (await ssh(tenant, id, {})).status_code == 400


async def ssh(tenant: Tenant, id: int, body: dict[str, Any]) -> requests.Response:
    answer: requests.Response = await tenant.sdk.client("post", f"/instances/{id}/ssh/", json_data=body)
    return answer


async def test_being_outbid_stops_it_and_a_higher_bid_brings_it_back(tenant: Tenant) -> None:
    offer = tenant.server.market.add(dph_base=0.5, min_bid=0.2)["id"]
    id = await tenant.rent_running(offer, price=0.25)
    tenant.server.outbid(id)
    row = await tenant.row(id)
    assert [row[name] for name in ("cur_state", "intended_status", "next_state")] == ["stopped"] * 3
    assert (row["actual_status"], row["min_bid"]) == ("exited", pytest.approx(0.275))
    await tenant.sdk("change_bid", id, price=0.26)
    assert (await tenant.row(id))["intended_status"] == "stopped"
    await tenant.sdk("change_bid", id, price=0.3)
    assert await statuses(tenant, id, 10) == ["running"]
    assert (await tenant.row(id))["dph_base"] == 0.3


async def test_a_fixed_price_cannot_be_bid_on(tenant: Tenant) -> None:
    with pytest.raises(requests.HTTPError, match="400"):
        await tenant.sdk("change_bid", await tenant.rent(), price=0.5)


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault.EXITS, "exited"), (Fault.OFFLINE, "offline"), (Fault.OUTBID, "exited")],
)
async def test_it_can_end_some_time_after_it_runs(tenant: Tenant, fault: Fault, status: str) -> None:
    tenant.server.arm(fault, value=30)
    id = await tenant.rent()
    assert await statuses(tenant, id, 60, 29, 1) == ["running", "running", status]


async def test_one_that_runs_can_be_made_to_end(tenant: Tenant) -> None:
    id = await tenant.rent_running()
    tenant.server.arm(Fault.EXITS, instance=id, value=5)
    assert await statuses(tenant, id, 0, 5) == ["running", "exited"]


async def test_it_can_be_stuck_in_loading_for_ever(tenant: Tenant) -> None:
    offer = make_offer(id=1)
    tenant.server.market.offers[1] = offer
    tenant.server.arm(Fault.STUCK, offer=1)
    fine, stuck = await tenant.rent(), await tenant.rent(1)
    assert await statuses(tenant, stuck, 10, 86_400) == ["loading", "loading"]
    assert await statuses(tenant, fine, 0) == ["running"]


async def test_it_can_fail_to_boot_and_say_why(tenant: Tenant) -> None:
    tenant.server.arm(Fault.BOOT_ERROR)
    row = await tenant.row(await tenant.rent_running())
    assert row["actual_status"] == "created"
    assert "OCI runtime create failed" in row["status_msg"]


async def test_a_restart_can_hang(tenant: Tenant) -> None:
    id = await tenant.rent_running()
    await tenant.sdk("stop_instance", id)
    tenant.server.arm(Fault.SCHEDULING, instance=id)
    await tenant.sdk("start_instance", id)
    assert await statuses(tenant, id, 3600) == ["scheduling"]


async def test_a_test_can_make_it_show_any_status(tenant: Tenant) -> None:
    id = await tenant.rent_running()
    tenant.server.become(id, "unknown", "host does not answer")
    row = await tenant.row(id)
    assert (row["actual_status"], row["status_msg"]) == ("unknown", "host does not answer")


async def test_destroying_can_lie_so_many_times(tenant: Tenant) -> None:
    id = await tenant.rent()
    tenant.server.arm(Fault.DESTROY_LIES, times=2)
    for left in ([id], [id], []):
        assert (await tenant.sdk("destroy_instance", id))["success"] is True
        assert tenant.server.alive() == left


async def test_destroying_can_be_executed_and_the_connection_cut(tenant: Tenant) -> None:
    id = await tenant.rent()
    tenant.server.arm(Fault.DESTROY_CUT)
    with pytest.raises(requests.ConnectionError):
        await tenant.sdk("destroy_instance", id)
    assert tenant.server.alive() == []


async def test_its_start_can_be_null_and_the_sdk_breaks_on_that(tenant: Tenant) -> None:
    tenant.server.arm(Fault.NULL_START)
    await tenant.rent()
    with pytest.raises(TypeError):
        await tenant.sdk("show_instances")


async def test_its_start_can_be_off_by_hours(tenant: Tenant) -> None:
    tenant.server.arm(Fault.SKEW, value=-7200)
    id = await tenant.rent()
    assert (await tenant.row(id))["start_date"] == tenant.clock.now() - 7200


async def test_its_environment_can_be_hidden(tenant: Tenant) -> None:
    tenant.server.arm(Fault.HIDDEN_ENV)
    assert (await tenant.row(await tenant.rent()))["extra_env"] == {}


async def test_its_ports_can_stay_away(tenant: Tenant) -> None:
    tenant.server.arm(Fault.NO_PORTS)
    assert (await tenant.row(await tenant.rent_running()))["ports"] is None


async def test_its_ports_can_lead_nowhere(tenant: Tenant) -> None:
    tenant.server.arm(Fault.PORT_CLOSED)
    row = await tenant.row(await tenant.rent_running())
    assert int(row["ports"][PORT][0]["HostPort"]) < 1024
