"""A worker that gets no requests destroys itself, and one that gets some does not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from doubles.certificates import certify
from doubles.clock import ManualClock
from doubles.vast.containers import Container, RealContainers, command_line
from doubles.vast.rented import INSTANCE, KEY, Receiver, Rented, orders, question
from doubles.vast.sdk import Tenant
from doubles.vast.server import VastServer
from doubles.waiting import until

from llmhost.fleet.providers.vast.identity import environment, make_identity, onstart

#: seconds; the script counts whole ones
ORPHAN_AFTER = 2.0

Make = Callable[..., RealContainers]


@pytest.fixture
def containers(tmp_path: Path) -> Make:
    return lambda **choices: RealContainers(tmp_path, **choices)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as server:
        yield server


def rent(containers: RealContainers, receiver: Receiver) -> Rented:
    return Rented(containers, api_url=receiver.url, orphan_after=ORPHAN_AFTER)


def rent_by_name(containers: RealContainers, receiver: Receiver) -> Rented:
    """As `rent`; vast.ai has a name, as certificates need one."""
    url = receiver.url.replace("127.0.0.1", "localhost")
    return Rented(containers, api_url=url, orphan_after=ORPHAN_AFTER)


async def keep_asking(client: httpx.AsyncClient, seconds: float) -> None:
    """A few times a second. Errors are no matter: nothing but having asked is meant."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            await client.get("/llmhost/progress")
        await asyncio.sleep(0.2)


@pytest.mark.slow
async def test_a_worker_that_nobody_ever_spoke_to_destroys_its_own_instance(
    containers: Make, receiver: Receiver
) -> None:
    booted = time.monotonic()
    async with rent(containers(), receiver) as worker:
        await until(lambda: receiver.endings)
        assert "no request has come for too long" in worker.container.printed()
    request = receiver.endings[0]
    assert (request.method, request.path) == ("DELETE", f"/api/v0/instances/{INSTANCE}/")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert time.monotonic() - booted > ORPHAN_AFTER - 1


@pytest.mark.slow
async def test_it_does_not_while_somebody_speaks_and_does_afterwards(
    containers: Make, receiver: Receiver
) -> None:
    async with rent(containers(), receiver) as worker:
        await keep_asking(worker.client, 2.5 * ORPHAN_AFTER)
        assert receiver.endings == []
        await until(lambda: receiver.endings)


@pytest.mark.slow
async def test_whoever_has_another_token_or_none_does_not_count(containers: Make, receiver: Receiver) -> None:
    async with (
        rent(containers(), receiver) as worker,
        worker.connect(None) as one,
        worker.connect("x" * 43) as other,
    ):
        strangers = [asyncio.create_task(keep_asking(client, 60)) for client in (one, other)]
        await until(lambda: receiver.endings)
        for stranger in strangers:
            stranger.cancel()
        await asyncio.gather(*strangers, return_exceptions=True)


@pytest.mark.slow
async def test_a_forbidden_request_with_the_token_counts(containers: Make, receiver: Receiver) -> None:
    async with rent(containers(), receiver) as worker:
        for _ in range(10):
            await asyncio.sleep(ORPHAN_AFTER / 4)
            with contextlib.suppress(httpx.HTTPError):
                await worker.client.delete("/api/delete")
        assert receiver.endings == []


@pytest.mark.slow
async def test_an_answer_that_takes_longer_is_no_silence(containers: Make, receiver: Receiver) -> None:
    async with rent(containers(fault="HANGS", after=1), receiver) as worker:
        await worker.until_stage("ready")
        async with worker.client.stream("POST", "/api/chat", json=question()) as response:
            assert response.status_code == 200
            await asyncio.sleep(2 * ORPHAN_AFTER)
            assert receiver.endings == []
        await until(lambda: receiver.endings)


@pytest.mark.slow
async def test_it_tries_again_until_it_is_gone(containers: Make) -> None:
    async with Receiver(refuses=2) as receiver, rent(containers(), receiver):
        await until(lambda: receiver.endings)


@pytest.mark.slow
async def test_it_does_so_even_if_nothing_could_be_installed(containers: Make, receiver: Receiver) -> None:
    async with rent(containers(absent=("nginx", "ollama")), receiver):
        await until(lambda: receiver.endings)


@pytest.mark.slow
async def test_the_key_is_in_no_command_line_and_in_no_log(containers: Make) -> None:
    async with Receiver(hangs=True) as receiver, rent(containers(), receiver) as worker:
        await until(lambda: receiver.endings)
        lines = [command_line(process) for process in worker.container.processes()]
        assert [line for line in lines if "DELETE" in line]
        assert [line for line in lines if KEY in line] == []
        assert KEY not in worker.container.printed()


@pytest.mark.slow
async def test_the_count_begins_again_at_a_reboot(containers: Make, receiver: Receiver) -> None:
    async with rent(containers(), receiver) as worker:
        for _ in range(3):
            await asyncio.sleep(ORPHAN_AFTER / 2)
            await worker.container.reboot()
        assert receiver.endings == []


@pytest.mark.slow
async def test_the_double_of_vast_ai_lets_it_end_itself(manual_clock: ManualClock, containers: Make) -> None:
    identity = make_identity(time.time())
    async with VastServer(manual_clock, containers()) as server:
        tenant = Tenant(server, manual_clock)
        ordered = environment(orders(orphan_after=ORPHAN_AFTER), identity)
        id = await tenant.rent_running(env=ordered, onstart_cmd=onstart())
        assert (await tenant.row(id))["actual_status"] == "running"
        await until(lambda: not server.instances[id].alive)


# That it will work is seen before the worker is


async def switch_of(worker: Rented) -> dict[str, Any]:
    metrics = await until(lambda: worker.answer("/llmhost/metrics"))
    found: dict[str, Any] = metrics["switch"]
    return found


@pytest.mark.slow
async def test_a_worker_whose_key_is_accepted_is_armed_before_it_is_ready(
    containers: Make, receiver: Receiver
) -> None:
    async with rent(containers(), receiver) as worker:
        await worker.until_stage("ready")
        proofs = [(request.method, request.path) for request in receiver.requests]
        assert proofs == [("GET", f"/api/v0/instances/{INSTANCE}/")]
        assert await until(lambda: is_armed(worker))


async def is_unarmed(worker: Rented) -> bool:
    return "cannot be asked" in str((await switch_of(worker))["detail"])


async def is_armed(worker: Rented) -> bool:
    return bool((await switch_of(worker))["armed"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "label", "detail"),
    [
        ("CONTAINER_API_KEY", "", "has no CONTAINER_API_KEY"),
        ("CONTAINER_ID", "", "has no CONTAINER_API_KEY or no CONTAINER_ID"),
    ],
    ids=["no key", "no number"],
)
async def test_without_what_it_needs_the_worker_fails_and_says_so(
    containers: Make, missing: str, label: str, detail: str
) -> None:
    async with Rented(containers(env={missing: label})) as worker:
        progress = await worker.until_stage("failed")
        assert progress["detail"].startswith("the dead-man switch is not armed")
        assert detail in progress["detail"]
        assert not await is_armed(worker)


@pytest.mark.slow
async def test_the_containers_label_stands_in_for_its_number(containers: Make, receiver: Receiver) -> None:
    made = containers(env={"CONTAINER_ID": "", "VAST_CONTAINERLABEL": f"C.{INSTANCE}"})
    async with rent(made, receiver) as worker:
        await worker.until_stage("ready")
    assert {request.path for request in receiver.requests} == {f"/api/v0/instances/{INSTANCE}/"}


@pytest.mark.slow
@pytest.mark.parametrize(("status", "detail"), [(401, "refuses its key (HTTP 401)"), (500, "(HTTP 500)")])
async def test_a_key_that_is_refused_fails_the_worker(containers: Make, status: int, detail: str) -> None:
    async with Receiver(refuses=1000, status=status) as receiver, rent(containers(), receiver) as worker:
        progress = await worker.until_stage("failed")
    assert detail in progress["detail"]


@pytest.mark.slow
async def test_one_call_that_fails_is_tried_again(containers: Make) -> None:
    async with Receiver(refuses=2) as receiver, rent(containers(), receiver) as worker:
        await worker.until_stage("ready")


# What may be missing or break


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_without_curl_it_proves_its_key_and_ends_all_the_same(
    containers: Make, tmp_path: Path, scheme: str
) -> None:
    trusted = tmp_path / "trusted.pem"
    receiver = Receiver()
    if scheme == "https":
        server = certify("localhost")
        receiver.tls = server.server_context(tmp_path)
        trusted.write_text(server.pem)
    made = containers(absent=("curl",), env={"SSL_CERT_FILE": str(trusted)})
    async with receiver, rent_by_name(made, receiver):
        await until(lambda: receiver.endings)
    assert receiver.requests[0].method == "GET"
    assert {request.headers["authorization"] for request in receiver.requests} == {f"Bearer {KEY}"}


@pytest.mark.slow
async def test_a_server_that_is_not_vast_ai_is_not_given_the_key_without_curl(
    containers: Make, tmp_path: Path
) -> None:
    receiver = Receiver()
    receiver.tls = certify("localhost").server_context(tmp_path)
    async with receiver, rent_by_name(containers(absent=("curl",)), receiver) as worker:
        await until(lambda: is_unarmed(worker))
        assert receiver.requests == []


@pytest.mark.slow
async def test_a_boot_in_the_middle_of_an_installation_is_repaired(
    containers: Make, receiver: Receiver
) -> None:
    async with Rented(containers(missing=("zstd", "ollama"))) as worker:
        await worker.container.stop()
        (worker.container.home / "interrupted").touch()
        await worker.container.boot()
        await worker.until_stage("ready")


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["watch", "metrics", "door", "setup"])
async def test_a_loop_that_is_killed_is_started_again(
    containers: Make, receiver: Receiver, loop: str
) -> None:
    async with Rented(containers(), api_url=receiver.url) as worker:
        await worker.until_stage("ready")
        killed = await until(lambda: holder(worker.container, loop))
        killed.kill()
        killed.wait(timeout=10)
        again = await until(lambda: holder(worker.container, loop))
        assert again != killed


@pytest.mark.slow
async def test_it_ends_itself_although_its_watch_was_killed(containers: Make, receiver: Receiver) -> None:
    async with rent(containers(), receiver) as worker:
        (await until(lambda: holder(worker.container, "watch"))).kill()
        await until(lambda: receiver.endings)


def holder(container: Container, loop: str) -> psutil.Process | None:
    """The process that runs a loop of the script: the oldest that has its lock open."""
    lock = str(container.files / f"{loop}.lock")
    for process in sorted(container.processes(), key=lambda process: process.pid):
        with contextlib.suppress(psutil.Error):
            if any(file.path == lock for file in process.open_files()):
                return process
    return None


@pytest.mark.slow
async def test_a_full_disk_stops_neither_the_front_door_nor_the_switch(
    containers: Make, receiver: Receiver
) -> None:
    async with rent(containers(), receiver) as worker:
        await worker.until_stage("ready")
        full = worker.container.root / "var" / "lib"
        full.rmdir()
        full.touch()  # nothing can be written below it any more
        before = (await switch_of(worker))["at"]
        await until(lambda: is_later(worker, before))
        await until(lambda: receiver.endings)


async def is_later(worker: Rented, before: float) -> bool:
    return bool((await switch_of(worker))["at"] > before)
