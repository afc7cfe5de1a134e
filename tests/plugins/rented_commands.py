"""A fleet rented at the double of vast.ai, as a user runs it: real commands, TLS, nginx and onstart."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from doubles.terminal import Terminal
from doubles.vast.catalogue import Offer
from doubles.vast.containers import Container, Engine, RealContainers
from doubles.vast.instances import Boot
from doubles.vast.sdk import Sdk
from doubles.vast.server import VastServer
from doubles.vast.world import FIRST_INSTANCE
from plugins.commands import Finished, House, Running, processes_of
from plugins.redis_servers import RedisServer

from llmhost.fleet.clock import SystemClock

#: seconds; long enough to be seen on the way, and no longer
QUICK = Boot(created=0.1, loading=0.2, running=0.6)

#: seconds; a machine that boots as long as any test lasts
ENDLESS = Boot(created=0.0, loading=0.1, running=3600.0)

#: without progress; a sound worker needs about a second, on a busy machine a few
READY_TIMEOUT = "8s"

#: USD an hour of the cheapest offer, its disk not included; each further one costs a cent more
CHEAPEST = 0.30


class Machines(RealContainers):
    """Containers of which some are not as they should be, by the number of the instance."""

    def __init__(self, folder: Path, **choices: Any) -> None:
        super().__init__(folder, **choices)
        self.sick: dict[int, Engine] = {}
        self.impostors: set[int] = set()
        self._sound = self.engine

    async def start(self, instance_id: int, *order: Any) -> Container:
        self.engine = self.sick.get(instance_id, self._sound)
        self.impostor = instance_id in self.impostors
        return await super().start(instance_id, *order)


class RentedHouse(House):
    """`server` is vast.ai and `machines` is what runs there.

    What is for rent are `offers`, cheapest first: in this order they are bought. `state` is the state
    folder, `said` is what every command printed.
    """

    def __init__(
        self, folder: Path, server: VastServer, machines: Machines, redis: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.server = server
        self.machines = machines
        self.state = folder / "state"
        self.said: list[Finished] = []
        self.offers: list[Offer] = []
        self._config = folder / "llmhost.yaml"
        self._redis = redis
        self.environ = {
            "LLMHOST_CONFIG": str(self._config),
            "LLMHOST_STATE_DIR": str(self.state),
            "LLMHOST_GATEWAY__AUTOSTART": "false",
            "LLMHOST_CACHE_DIR": str(folder / "cache"),
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "NO_COLOR": "1",
            **server.environment(),
        }

    async def start(self, *args: str, stdin: bytes | None = None, **environ: str) -> Running:
        return await super().start(*args, stdin=stdin, **{**self.environ, **environ})

    async def run(self, *args: str, stdin: Any = None, **environ: str) -> Finished:
        done = await super().run(*args, stdin=stdin, **environ)
        self.said.append(done)
        return done

    @asynccontextmanager
    async def terminal(self, *args: str) -> AsyncIterator[Terminal]:
        """A command on a terminal."""
        terminal = await Terminal.run([sys.executable, "-m", "llmhost", *args], self.environ)
        try:
            yield terminal
        finally:
            terminal.close()

    def configure(self, **sections: Any) -> Path:
        """Writes the configuration: the usual one, with changes by section."""
        usual: dict[str, dict[str, Any]] = {
            "fleet": {"name": "rented", "provider": "vast", "ready_timeout": READY_TIMEOUT},
            "vast": {"pace": 0.001},
            "engine": {"kind": "ollama", "model": "tiny", "first_token_timeout": "5s"},
            "redis": dict(self._redis),
        }
        both = {name: {**usual.get(name, {}), **sections.get(name, {})} for name in usual | sections}
        self._config.write_text(yaml.safe_dump(both))
        return self._config

    def offer(self, count: int) -> None:
        """Puts so many alike up for rent, and nothing else."""
        market = self.server.market
        market.clear()
        self.offers = [market.add(dph_base=round(CHEAPEST + 0.01 * n, 2)) for n in range(count)]

    def boot_for_ever(self) -> None:
        """What is bought from now on never runs."""
        self.server.world.boot = ENDLESS

    async def fleets(self, **environ: str) -> dict[str, Any]:
        """How many workers each fleet has, as `llmhost fleets` shows it."""
        shown = await self.ok("fleets", **environ)
        return {fleet["name"]: len(fleet["workers"]) for fleet in shown["fleets"]}

    async def status(self) -> dict[str, Any]:
        """What `status` says of each worker that exists."""
        return {worker["id"]: worker for worker in (await self.ok("status"))["workers"]}

    def container(self, worker: str) -> Container:
        return self.machines.all[int(worker.removeprefix("vast-"))]

    def in_containers(self) -> list[psutil.Process]:
        """What runs on the machines."""
        return [process for container in self.machines.all.values() for process in container.processes()]

    def processes(self) -> list[psutil.Process]:
        """What works in the state folder: commands, and the embedded Redis."""
        return processes_of(self.state)

    def alive(self) -> list[str]:
        """The workers that are paid for, by vast.ai's own books."""
        return [f"vast-{number}" for number in self.server.alive()]

    @property
    def sdk(self) -> Sdk:
        """The account without llmhost."""
        return Sdk(self.server)


def bought(number: int) -> int:
    """The instance that the account's first purchase makes, its second, and so on."""
    return FIRST_INSTANCE + number - 1


@asynccontextmanager
async def renting(folder: Path, redis: Mapping[str, Any], **engine: Any) -> AsyncIterator[RentedHouse]:
    """An account with credit and ten offers, a configuration for it, and no worker yet; nothing of it is
    left at the end. `redis` is that section of the configuration; empty, it is the embedded one. `engine` is
    what each engine does (`containers.Engine`)."""
    logs = folder / "containers"
    logs.mkdir(parents=True)
    machines = Machines(logs, **engine)
    async with VastServer(SystemClock(), machines, boot=QUICK, pace=0) as server:
        house = RentedHouse(folder, server, machines, redis)
        house.configure()
        house.offer(10)
        try:
            yield house
        finally:
            await house.close()
            left = house.processes()
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=10)


@pytest.fixture
async def rented_house(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[RentedHouse]:
    """As `renting`, for one test."""
    redis = {"url": f"unix://{redis_server.socket}"}
    async with renting(tmp_path / "rented", redis) as house:
        yield house


@pytest.fixture
async def blue(rented_house: RentedHouse) -> RentedHouse:
    """A fleet named blue, of two workers that boot for as long as the test lasts."""
    rented_house.boot_for_ever()
    rented_house.configure(fleet={"name": "blue", "budget": {"per_hour": 10}})
    await rented_house.ok("up", "--gpus", "2", "--yes", "--no-wait")
    return rented_house


@pytest.fixture
async def green(blue: RentedHouse, redis_server: Any, tmp_path: Path) -> str:
    """The configuration of another fleet of this machine, which has a Redis of its own, and whose only worker
    was ended by name."""
    usual = blue.configure()
    blues = usual.read_text()
    blue.configure(
        fleet={"name": "green", "budget": {"per_hour": 10}},
        scale={"min_gpus": 1},
        redis={"url": f"unix://{redis_server.socket}"},
    )
    path = str(usual.rename(tmp_path / "green.yaml"))
    usual.write_text(blues)
    await blue.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=path)
    status = await blue.ok("status", LLMHOST_CONFIG=path)
    await blue.ok("down", *(worker["id"] for worker in status["workers"]), LLMHOST_CONFIG=path)
    return path
