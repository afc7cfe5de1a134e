"""Rented machines that are not what they should be: replaced, doubted, given back, and never forgotten."""

from __future__ import annotations

import time

import pytest
from doubles.vast.faults import Fault
from doubles.waiting import until
from plugins.rented_commands import RentedHouse, bought

from llmhost.fleet.providers.vast.identity import (
    certificate_to_environment,
    key_to_environment,
    make_identity,
)

pytestmark = pytest.mark.slow


async def test_machines_that_fail_are_replaced_by_others_in_the_same_up(rented_house: RentedHouse) -> None:
    rented_house.configure(vast={"max_attempts": 6})
    broken, exiting, *_ = rented_house.offers
    rented_house.server.arm(Fault.BOOT_ERROR, offer=broken["id"])
    rented_house.server.arm(Fault.EXITS, offer=exiting["id"], value=0.2)
    rented_house.machines.impostors.add(bought(3))
    rented_house.machines.sick[bought(4)] = {"pull_error": "pull model manifest: file does not exist"}
    up = await rented_house.ok("up", "--gpus", "4", "--yes")
    reasons = {failure["worker"]: failure["message"] for failure in up["replaced"]}
    for number, reason in enumerate(
        ("OCI runtime", "its container has ended", "another certificate", "file does not exist"), 1
    ):
        assert reason in reasons[f"vast-{bought(number)}"]
    assert [worker["ready"] for worker in up["workers"]] == [True] * 4
    assert sorted(worker["id"] for worker in up["workers"]) == rented_house.alive()
    assert rented_house.server.burn == pytest.approx(up["hourly_cost_usd"])


async def test_machines_that_get_stuck_are_replaced_by_others_in_the_same_up(
    rented_house: RentedHouse,
) -> None:
    rented_house.configure(vast={"max_attempts": 9})
    for offer, fault in zip(
        rented_house.offers, (Fault.STUCK, Fault.PORT_CLOSED, Fault.NO_PORTS), strict=False
    ):
        rented_house.server.arm(fault, offer=offer["id"])
    rented_house.machines.sick[bought(4)] = {"wedged": True}
    up = await rented_house.ok("up", "--gpus", "4", "--yes")
    replaced = {failure["worker"]: failure["message"] for failure in up["replaced"]}
    for number, stage in enumerate(("booting", "installing", "installing", ""), 1):
        assert replaced[f"vast-{bought(number)}"].startswith(f"nothing moved for 8 s while {stage}")
    assert [worker["ready"] for worker in up["workers"]] == [True] * 4
    assert sorted(worker["id"] for worker in up["workers"]) == rented_house.alive()


async def test_if_every_machine_fails_it_gives_up_and_nothing_is_left(rented_house: RentedHouse) -> None:
    rented_house.configure(vast={"max_attempts": 2})
    rented_house.server.arm(Fault.BOOT_ERROR, times=None)
    up = await rented_house.run("up", "--yes")
    assert (up.code, rented_house.server.created_total, rented_house.alive()) == (1, 3, [])
    machines = {one.offer["machine_id"] for one in rented_house.server.instances.values()}
    assert len(machines) == 3
    assert "0 of 1 workers are ready; meanwhile the fleet costs $0/h" in up.err


async def test_what_was_outbid_or_hangs_is_replaced_by_the_next_up(
    rented_house: RentedHouse,
) -> None:
    rented_house.configure(vast={"interruptible": True, "max_bid": 0.5})
    await rented_house.ok("up", "--gpus", "2", "--yes")
    outbid, hanging = rented_house.alive()
    rented_house.server.outbid(bought(1))
    seen = await rented_house.status()
    assert (seen[outbid]["state"], seen[hanging]["state"]) == ("failed", "ready")
    assert "outbid: another customer pays more" in seen[outbid]["detail"]
    rented_house.container(hanging).engine(wedged=True)
    up = await rented_house.ok("up", "--gpus", "2", "--yes")
    assert up["plan"]["destroy"] == [outbid]
    assert [failure["worker"] for failure in up["replaced"]] == [hanging]
    assert [worker["ready"] for worker in up["workers"]] == [True, True]
    assert {outbid, hanging} & set(rented_house.alive()) == set()


async def test_a_worker_that_shows_another_certificate_is_not_asked_any_more(
    rented_house: RentedHouse,
) -> None:
    await rented_house.ok("up", "--gpus", "2", "--yes")
    strange, sound = rented_house.alive()
    await disguise(rented_house, strange)
    asked = [await rented_house.run("ask", "--no-cache", f"Say {number}") for number in range(2)]
    assert [(done.code, done.out) for done in asked] == [(0, "Hello, Wörld!\n")] * 2
    assert any(f"warning: worker {strange} is not asked" in done.err for done in asked)
    assert all(f"answered by {sound}" in done.err for done in asked)
    seen = await rented_house.status()
    assert (seen[strange]["state"], seen[sound]["state"]) == ("failed", "ready")
    assert "another certificate" in seen[strange]["detail"]


async def test_no_answer_of_a_worker_that_is_found_untrusted_is_served_again(
    rented_house: RentedHouse,
) -> None:
    await rented_house.ok("up", "--yes")
    (strange,) = rented_house.alive()
    same = ("ask", "Explain machine learning briefly")
    alike = ("ask", "What is machine learning in simple terms?", "--threshold", "0")
    sources = [(await rented_house.ok(*ask))["source"] for ask in (same, same, alike)]
    assert sources == ["engine", "exact", "semantic"]
    await disguise(rented_house, strange)
    found = await rented_house.run("status")
    assert f"{strange} is not trusted any more: its answers (1) were removed from the cache" in found.err
    for ask in (same, alike):  # there is no other worker, so only the cache could answer
        assert (await rented_house.run(*ask)).code == 5, ask
    assert (await rented_house.ok("cache", "ls"))["entries"] == []


async def test_the_answers_of_one_worker_are_forgotten_on_demand(rented_house: RentedHouse) -> None:
    await rented_house.ok("up", "--gpus", "2", "--yes")
    entries = {}
    for question in ("What is Redis?", "Who was Plato?"):
        entry = (await rented_house.ok("ask", question))["entry"]
        answer = (await rented_house.ok("cache", "get", entry))["answer"]
        machine = rented_house.server.instances[int(answer["worker"].removeprefix("vast-"))].offer[
            "machine_id"
        ]
        assert answer["machine"] == str(machine)
        entries[answer["worker"]] = entry
    assert set(entries) == set(rented_house.alive())  # they took turns
    one, other = rented_house.alive()
    said = await rented_house.ok("cache", "forget", "--worker", one)
    assert said["forgotten"] == [entries[one]]
    assert [entry["entry"] for entry in (await rented_house.ok("cache", "ls"))["entries"]] == [entries[other]]


async def disguise(house: RentedHouse, worker: str) -> None:
    """Somebody else sits behind the worker's address from now on."""
    other = make_identity(time.time())
    container = house.container(worker)
    container.environ |= {
        "LLMHOST_KEY": key_to_environment(other.key),
        **certificate_to_environment(other.certificate),
    }
    await container.reboot()
    await until(lambda: container.processes("nginx: worker"))


async def test_down_leaves_nothing_alive(rented_house: RentedHouse) -> None:
    await rented_house.ok("up", "--gpus", "2", "--yes")
    workers = rented_house.alive()
    assert rented_house.in_containers()
    down = await rented_house.ok("down")
    assert (down["destroyed"], down["remaining"]) == (workers, [])
    assert rented_house.alive() == []
    assert rented_house.in_containers() == rented_house.processes() == []
    assert rented_house.server.burn == 0


async def test_down_does_not_believe_that_a_worker_is_gone_until_it_is(rented_house: RentedHouse) -> None:
    rented_house.boot_for_ever()
    await rented_house.ok("up", "--gpus", "2", "--yes", "--no-wait")
    stubborn, _ = workers = rented_house.alive()
    rented_house.server.arm(Fault.DESTROY_LIES, instance=bought(1), times=None)
    down = await rented_house.run("down")
    assert (down.code, rented_house.alive()) == (3, [stubborn])
    assert f"{stubborn}: could not be ended: vast.ai still lists instance" in down.error
    assert f"{stubborn} is still running." in down.out
    rented_house.server.faults.armed.clear()
    assert (await rented_house.ok("down"))["destroyed"] == [stubborn]
    assert (rented_house.alive(), rented_house.server.created_total) == ([], len(workers))


async def test_a_worker_that_nobody_speaks_to_ends_itself_and_status_says_so(
    rented_house: RentedHouse,
) -> None:
    # A configuration asks for a minute at least.
    rented_house.machines.env["LLMHOST_ORPHAN_AFTER"] = "6"
    up = await rented_house.ok("up", "--yes")
    (worker,) = up["workers"]
    await until(lambda: not rented_house.alive())
    status = await rented_house.run("status")
    assert status.code == 0
    assert f"worker {worker['id']} is gone" in status.err
    assert "No workers" in status.out
