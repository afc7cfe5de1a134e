"""A rented fleet as a user runs it: real commands, TLS, nginx and onstart, at the double of vast.ai."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from doubles.vast.containers import Container
from doubles.vast.instances import Boot
from doubles.waiting import until
from plugins.rented_commands import RentedHouse, renting

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

#: So slow that each stage is seen, on a busy machine too.
SLOW = Boot(created=0.1, loading=0.3, running=2.0)
PULL_PAUSE = 0.25  #: seconds for each tenth of the model

STAGES = ["rented", "booting", "installing", "pulling", "loading", "ready"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RentedHouse]:
    """Two workers that are ready, and whose model does not fit on the GPU; `said[0]` is what `up` said."""
    folder = tmp_path_factory.mktemp("rented")
    async with renting(folder, {}, pull_pause=PULL_PAUSE, on_gpu=0.4) as house:
        house.server.world.boot = SLOW
        up = await house.run("up", "--gpus", "2", "--yes")
        assert up.code == 0, up.err
        yield house


async def test_each_worker_says_how_far_it_has_come(fleet: RentedHouse) -> None:
    told = [line.partition(": ") for line in fleet.said[0].err.splitlines()]
    for worker in fleet.alive():
        stages = [re.split(r"\W", stage)[0] for name, _, stage in told if name == worker]
        # Ollama starts and the switch arms itself in a moment, which one look a second sees or not.
        assert [stage for stage in stages if stage not in ("starting", "arming")] == STAGES


async def test_status_says_whether_the_dead_man_switch_is_armed(fleet: RentedHouse) -> None:
    assert {worker["dead_man_switch"] for worker in (await fleet.status()).values()} == {"armed"}


async def test_a_question_is_answered_by_a_worker_and_then_from_the_cache(fleet: RentedHouse) -> None:
    first = await fleet.ok("ask", "What is Redis?")
    assert (first["source"], first["answer"]) == ("engine", "Hello, Wörld!")
    assert first["worker"] in fleet.alive()
    again = await fleet.ok("ask", "What is Redis?")
    assert (again["source"], again["answer"], again["cost_usd"]) == ("exact", "Hello, Wörld!", 0)


async def test_an_answer_is_shown_while_it_is_written(fleet: RentedHouse) -> None:
    for worker in fleet.alive():
        fleet.container(worker).engine(fault="HANGS", after=1)
    asking = await fleet.start("ask", "--no-cache", "What is nginx?")
    await asking.until("out", "Hello")
    asking.interrupt()
    assert (await asking.end()).code == 130
    for worker in fleet.alive():
        fleet.container(worker).engine(on_gpu=0.4)


async def test_status_knows_what_is_paid_and_for_how_long_it_can_be(fleet: RentedHouse) -> None:
    said = await fleet.ok("status")
    assert [(worker["state"], worker["gpu"], worker["detail"]) for worker in said["workers"]] == [
        ("ready", "RTX 4090", "")
    ] * 2
    prices = [fleet.server.instances[number].price for number in fleet.server.alive()]
    assert [worker["price_per_hour"] for worker in said["workers"]] == pytest.approx(prices)
    # It grows while one looks.
    assert 0 < said["spent_usd"] == pytest.approx(fleet.server.billed_total(), abs=sum(prices) / 60)
    assert said["credit_usd"] == pytest.approx(fleet.server.credit, abs=0.1)
    assert said["runway_hours"] == pytest.approx(said["credit_usd"] / sum(prices))


async def test_what_a_bill_may_still_correct_is_marked_as_an_estimate_everywhere(fleet: RentedHouse) -> None:
    status, stats = await fleet.ok("status"), await fleet.ok("stats")
    assert (status["spent_estimated"], stats["cost"]["spent_estimated"]) == (True, True)
    assert [worker["spent_estimated"] for worker in status["workers"]] == [True, True]
    assert status["spent"]["total"] <= stats["cost"]["spent_usd"] + 0.002  # a bill is rounded
    compared = (await fleet.ok("stats", "--reconcile"))["workers"]
    assert {row["worker"] for row in compared} >= set(fleet.alive())
    for row in compared:
        if row["billed_usd"] is not None:
            assert sum(row["causes"].values()) == pytest.approx(row["difference_usd"])
    for command in ("up --gpus 2", "status", "stats"):
        assert "~$0.0" in (await fleet.run(*command.split())).out, command


async def test_a_bench_measures_each_worker_through_its_front_door(fleet: RentedHouse) -> None:
    said = await fleet.ok("bench", "--quick")
    assert {worker["worker"]: worker["failure"] for worker in said["workers"]} == dict.fromkeys(
        fleet.alive(), ""
    )
    assert all(worker["queries_per_minute"] > 0 for worker in said["workers"])


async def test_status_shows_what_the_gpus_do(fleet: RentedHouse) -> None:
    async def measured() -> Any:  # which a worker does every few seconds
        shown = (await fleet.ok("status", "--gpu"))["gpus"]
        return shown if shown[0]["spilled"] else None

    one, other = await until(measured)
    assert (one["worker"], other["worker"]) == tuple(fleet.alive())
    assert one["gpus"] == [
        {
            "name": "NVIDIA GeForce RTX 4090",
            "utilisation": 0.35,
            "memory_used_mb": 6120.0,
            "memory_total_mb": 24564.0,
            "temperature_c": 61.0,
        }
    ]
    assert (one["engine_version"], one["loaded"], one["spilled"], one["error"]) == (
        "0.12.3",
        True,
        True,
        None,
    )
    assert 0 < one["disk"]["used_gb"] < one["disk"]["total_gb"]


async def test_logs_are_what_the_worker_printed(fleet: RentedHouse) -> None:
    worker = fleet.alive()[1]
    lines = (await fleet.ok("logs", worker, "--lines", "2"))["lines"]
    assert lines == ["llmhost: loading: tiny", "llmhost: ready: tiny"]


async def test_the_address_of_a_shell_is_told(fleet: RentedHouse) -> None:
    worker = fleet.alive()[0]
    (row,) = [row for row in await fleet.sdk("show_instances") if f"vast-{row['id']}" == worker]
    said = await fleet.ok("ssh", worker)
    assert said == {"user": "root", "host": row["ssh_host"], "port": row["ssh_port"]}


async def test_a_second_up_changes_nothing_and_asks_nobody(fleet: RentedHouse) -> None:
    up = await fleet.ok("up", "--gpus", "2")
    assert (up["plan"]["create"], up["plan"]["keep"]) == (0, fleet.alive())


def connect(container: Container, token: str) -> httpx.AsyncClient:
    """Without a check of the certificate, as an attacker would connect."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return httpx.AsyncClient(
        base_url=f"https://127.0.0.1:{container.ports[8443]}",
        headers={"Authorization": f"Bearer {token}"},
        verify=context,
        trust_env=False,
    )


async def test_the_token_of_one_worker_opens_no_other(fleet: RentedHouse) -> None:
    one, other = (fleet.container(worker) for worker in fleet.alive())
    for container, status in ((one, 401), (other, 200)):
        async with connect(container, other.environ["LLMHOST_TOKEN"]) as client:
            assert (await client.get("/api/tags")).status_code == status


async def test_up_replaces_a_worker_that_does_not_use_its_gpu(tmp_path: Path) -> None:
    async with renting(tmp_path, {}, on_gpu=0.0) as house:
        up = await house.run("up", "--gpus", "1", "--yes")
        assert up.code != 0
        assert "does not use the GPU" in up.err
        assert (house.server.created_total, house.server.alive()) == (4, [])  # three may be replaced
