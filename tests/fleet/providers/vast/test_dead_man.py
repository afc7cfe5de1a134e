"""A worker that nobody speaks to destroys itself, and one that somebody speaks to does not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from doubles.clock import ManualClock
from doubles.vast.containers import RealContainers, command_line
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
        assert "nobody speaks to it" in worker.container.printed()
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
    made = containers(missing=("nginx", "ollama"))
    async with rent(made, receiver) as worker:
        for name in ("nginx", "ollama"):
            (worker.container.home / "store" / name).unlink()
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
