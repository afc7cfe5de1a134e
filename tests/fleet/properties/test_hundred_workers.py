"""A hundred workers: each command reads the list once, and vast.ai is asked no more often than it allows."""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from doubles.forked_command import forked
from doubles.http_server import Reply, Request
from doubles.ollama_server import OllamaServer
from doubles.rented_fleet import RentedFleet, rented_fleet
from doubles.vast.instances import Boot
from doubles.vast.server import VastServer

from llmhost.fleet.clock import SystemClock
from llmhost.fleet.models import WorkerState
from llmhost.fleet.providers.vast.identity import FRONT_PORT, read_environment
from llmhost.fleet.providers.vast.pacer import INTERVALS

GPUS = 100
PAGES = -(-GPUS // 25)


def stock(server: VastServer, offers: int = GPUS) -> None:
    """So many good offers more, each a tenth of a cent dearer than the one before."""
    for number in range(offers):
        server.market.add(dph_base=0.4 + number / 1000)


# What each command reads


class FrontDoors:
    """Containers of which nothing runs but what answers at the front door, with its own certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def start(
        self, instance_id: int, onstart: str, env: Mapping[str, str], api_url: str, api_key: str
    ) -> FrontDoor:
        door = FrontDoor(env, self._folder / f"{instance_id}.pem")
        await door.server.__aenter__()
        return door


class Prepared(OllamaServer):
    """It says that its set-up is through."""

    async def answer(self, request: Request, reply: Reply) -> None:
        if request.path == "/llmhost/progress":
            return await reply.json({"stage": "ready", "detail": "tiny", "at": time.time()})
        return await super().answer(request, reply)


class FrontDoor:
    def __init__(self, env: Mapping[str, str], file: Path) -> None:
        facts = read_environment(env)
        key = load_der_private_key(base64.b64decode(env["LLMHOST_KEY"]), None)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_text(pem.decode() + str(facts.certificate))
        self.server = Prepared("tiny:latest", facts.token)
        self.server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.tls.load_cert_chain(file)

    @property
    def ports(self) -> Mapping[int, int]:
        return {FRONT_PORT: int(self.server.url.rpartition(":")[2])}

    async def stop(self) -> None:
        await self.server.__aexit__(None, None, None)


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[VastServer]:
    """An account whose machines answer at once, on the machine's own clock, without limits of frequency."""
    boot = Boot(created=0, loading=0, running=0)
    async with VastServer(SystemClock(), FrontDoors(tmp_path), boot=boot, credit=1000.0, pace=0) as server:
        stock(server)
        yield server


@pytest.fixture
def configured(market: VastServer, redis_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command finds in its folder and its environment."""
    for name, value in market.environment().items():
        monkeypatch.setenv(name, value)
    Path("llmhost.yaml").write_text(
        json.dumps(
            {
                "fleet": {
                    "name": "hundred",
                    "provider": "vast",
                    "gpus": GPUS,
                    "max_gpus": GPUS,
                    "budget": {"per_hour": 200.0},
                },
                "scale": {"min_gpus": GPUS},
                "vast": {"pace": 0.001},
                "engine": {"kind": "ollama", "model": "tiny"},
                "redis": {"url": f"unix://{redis_server.socket}"},
                "cache": {"enabled": False},
            }
        )
    )


async def command(*args: str) -> Any:
    """What `llmhost` answers, as JSON."""
    process = await forked([*args, "--json"], os.environ, None)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


@pytest.mark.slow
@pytest.mark.usefixtures("configured")
async def test_commands_read_the_list_of_a_hundred_workers_once(market: VastServer) -> None:
    bought = await command("up", "--yes", "--no-wait")
    assert len(bought["workers"]) == GPUS

    before = Counter(market.calls)
    again = await command("up", "--dry-run")
    assert len(again["plan"]["keep"]) == GPUS
    assert Counter(market.calls) - before == {"list": PAGES}

    before = Counter(market.calls)
    seen = await command("status")
    assert [worker["ready"] for worker in seen["workers"]] == [True] * GPUS
    assert Counter(market.calls) - before == {"list": PAGES, "charges": 1, "user": 1}

    before = Counter(market.calls)
    step = await command("scale")
    assert (step["actions"], step["observed"]["ready"]) == ([], GPUS)
    assert Counter(market.calls) - before == {"list": PAGES, "user": 1}


# vast.ai's time


@pytest.fixture
async def fleet(tmp_path: Path, redis_server: Any, vast_settings: Any) -> AsyncIterator[RentedFleet]:
    async with rented_fleet(tmp_path / "here", redis_server.socket, vast_settings, max_gpus=GPUS) as here:
        stock(here.server)
        yield here


@pytest.mark.slow
async def test_a_hundred_workers_come_and_go_at_vast_ais_own_pace(fleet: RentedFleet) -> None:
    server, clock = fleet.server, fleet.clock
    result = await fleet.service().up(GPUS)
    assert [worker.state for worker in result.workers] == [WorkerState.READY] * GPUS
    assert (server.created_total, server.double_paid()) == (GPUS, [])
    assert clock.monotonic() < GPUS * INTERVALS["create"] * 1.2 + server.world.boot.running
    assert server.calls["list"] < GPUS * PAGES

    before = Counter(server.calls)
    status = await fleet.service().status()
    assert len(status.workers) == GPUS
    assert Counter(server.calls) - before == {"list": PAGES, "charges": 1, "user": 1}

    before, begun = Counter(server.calls), clock.monotonic()
    down = await fleet.service().down()
    assert (len(down.destroyed), server.alive()) == (GPUS, [])
    calls = Counter(server.calls) - before
    # This clock adds up what is waited for side by side; a real one would show the longest alone.
    waits = sum(calls[endpoint] * INTERVALS[endpoint] for endpoint in ("destroy", "show", "list"))
    assert clock.monotonic() - begun <= waits
    assert (calls["destroy"], calls["show"]) == (GPUS, GPUS)
    assert calls["list"] < 2 * GPUS
    assert server.too_early == {}
