"""Whatever happens to a rented fleet: one more `up` and `down` put it right, and no money is lost from sight.

Random histories of commands, crashes and faults are played against the double of vast.ai, through the real
SDK and a real Redis.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.fleet_values import make_spec
from doubles.vast.faults import Fault
from doubles.vast.server import Drop, VastServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmhost.config.models import RedisConfig
from llmhost.engines.engine import Progress
from llmhost.errors import EngineUnavailable, LlmhostError
from llmhost.fleet.apply import FleetService
from llmhost.fleet.budget import Limits
from llmhost.fleet.health import Hooks
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import Worker
from llmhost.fleet.providers.vast.account import VastAccount
from llmhost.fleet.providers.vast.pacer import Pacer
from llmhost.fleet.providers.vast.provider import VastProvider
from llmhost.fleet.registry import FleetRegistry
from llmhost.ledger.ledger import Ledger
from llmhost.redis.connect import connect

MOST = 4  #: workers
PER_HOUR = 2.5  #: USD; some four of the cheaper machines

#: What makes a call fail for the moment; silent ones are left out, for each costs real seconds.
CALLS = (
    Fault.CREATE_CUT,
    Fault.CREATE_TWICE,
    Fault.CREATE_GARBAGE,
    Fault.CREATE_NO_ID,
    Fault.CREATE_ERROR_BUT_BOUGHT,
    Fault.OFFER_GONE,
    Fault.OFFER_TAKEN,
    Fault.LIST_SHORT,
    Fault.LIST_NO_TOKEN,
    Fault.LIST_ARRAY,
    Fault.LIST_NULL,
    Fault.LIST_ODD_ROWS,
    Fault.LIST_NO_ID,
    Fault.CUT,
    Fault.GARBAGE,
    Fault.SERVER_ERROR,
    Fault.UNAVAILABLE,
    Fault.TOO_MANY,
    Fault.DESTROY_LIES,
    Fault.DESTROY_CUT,
)
#: What befalls the next machine that is rented.
MACHINES = (Fault.STUCK, Fault.BOOT_ERROR, Fault.EXITS, Fault.OUTBID, Fault.NO_PORTS, Fault.NULL_START)

STEP = st.one_of(
    st.tuples(st.just("up"), st.integers(1, MOST)),
    st.tuples(st.just("down"), st.just(0)),
    st.tuples(st.just("down_one"), st.integers(0, MOST)),
    st.tuples(st.just("orphans"), st.just(0)),
    st.tuples(st.just("crash_up"), st.tuples(st.integers(1, MOST), st.integers(1, 25), st.booleans())),
    st.tuples(st.just("fault"), st.tuples(st.sampled_from(CALLS), st.integers(1, 3))),
    st.tuples(st.just("machine"), st.sampled_from(MACHINES)),
    st.tuples(st.just("outbid"), st.integers(0, MOST)),
    st.tuples(st.just("wedge"), st.integers(0, MOST)),
    st.tuples(st.just("pass"), st.sampled_from([30, 600, 4000])),
)


@dataclass
class World:
    """One account, one fleet, one Redis; `service` is what a new command has."""

    server: VastServer
    clock: ManualClock
    client: Any
    folder: Path
    settings: Any
    fleet: str = field(default_factory=lambda: f"h{uuid.uuid4().hex[:8]}")
    wedged: set[str] = field(default_factory=set)

    def service(self) -> FleetService:
        pacer = Pacer(self.folder / "pace.json", self.clock, 1.0)
        account = VastAccount(
            self.server.key, clock=self.clock, pacer=pacer, server_url=self.server.url, timeout=5.0
        )
        provider = VastProvider(account, self.settings, self.fleet, self.folder / self.fleet, self.clock)
        return FleetService(
            provider,
            make_spec(name=self.fleet, provider="vast", max_gpus=MOST, engine="ollama", model="tiny"),
            hooks=Hooks(prepare=self._prepare, probe=self._probe),
            lock=FleetLock(self.folder / "lock"),
            clock=self.clock,
            ready_timeout=900.0,
            limits=Limits(per_hour=PER_HOUR),
            attempts=2,
            registry=FleetRegistry(self.client, self.fleet, "vast"),
            rentals=Ledger(self.client, self.fleet),
        )

    async def _prepare(self, worker: Worker, on_progress: Callable[[Progress], None]) -> None:
        await asyncio.sleep(0)

    async def _probe(self, worker: Worker) -> None:
        await asyncio.sleep(0)
        if worker.id in self.wedged:
            raise EngineUnavailable("no answer")

    def pick(self, number: int) -> int | None:
        alive = self.server.alive()
        return alive[number % len(alive)] if alive else None


@asynccontextmanager
async def world(folder: Path, socket: Path, vast_settings: Any) -> AsyncIterator[World]:
    clock = ManualClock()
    client = connect(RedisConfig(), socket=socket)
    try:
        async with VastServer(clock, credit=10_000.0) as server:
            yield World(server, clock, client, folder, vast_settings)
    finally:
        await client.aclose()


async def play(world: World, step: str, value: Any) -> None:  # noqa: C901 - a table of steps
    """One thing that happens. A command may fail, in the ways that we promise."""
    with suppress(LlmhostError):
        match step:
            case "up":
                await world.service().up(value)
            case "down":
                await world.service().down()
            case "down_one":
                number = world.pick(value)
                await world.service().down([] if number is None else [f"vast-{number}"])
            case "orphans":
                await world.service().down_orphans()
            case "crash_up":
                await crash(world, *value)
            case "fault":
                world.server.arm(value[0], times=value[1])
            case "machine":
                world.server.arm(value)
            case "outbid" if (number := world.pick(value)) is not None:
                world.server.outbid(number)
            case "wedge" if (number := world.pick(value)) is not None:
                world.wedged.add(f"vast-{number}")
            case "pass":
                await world.clock.sleep(value)
    # What is looked at every few minutes, as a cron job would, is counted to the minute.
    with suppress(LlmhostError):
        await world.service().status()


async def crash(world: World, gpus: int, at: int, executed: bool) -> None:
    """`up` dies at its n-th call, before the call is executed or after."""
    calls = 0
    others = asyncio.all_tasks()
    task = asyncio.ensure_future(world.service().up(gpus))

    async def die(endpoint: str, number: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            task.cancel()
            raise Drop

    world.server.before, world.server.after = (None, die) if executed else (die, None)
    try:
        with suppress(asyncio.CancelledError):
            await task
    finally:
        world.server.before = world.server.after = None
        await end_with_its_process(asyncio.all_tasks() - others)


async def end_with_its_process(tasks: set[asyncio.Task[Any]]) -> None:
    """A process that dies leaves no task behind; those of the server's connections live on."""
    left = [task for task in tasks if "_converse" not in repr(task)]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def put_right(world: World, gpus: int) -> None:
    """Fair weather again: one `up` and one `down` more."""
    world.server.faults.armed.clear()
    world.wedged.clear()
    for number in world.server.alive():
        world.server.instances[number].quirks.clear()
    result = await world.service().up(gpus)
    assert [failure.message for failure in result.failed] == []
    assert len(world.server.alive()) == gpus
    assert world.server.double_paid() == []
    assert all(str(label).startswith(f"llmhost/{world.fleet}/") for label in world.server.labels)


@pytest.mark.slow
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEP, min_size=1, max_size=9), gpus=st.integers(1, MOST))
def test_after_any_history_one_up_and_one_down_put_the_fleet_right(
    steps: list[tuple[str, Any]], gpus: int, tmp_path: Path, redis_server: Any, vast_settings: Any
) -> None:
    async def body() -> None:
        async with world(tmp_path / uuid.uuid4().hex, redis_server.socket, vast_settings) as here:
            for step, value in steps:
                await play(here, step, value)
            await put_right(here, gpus)
            status = await here.service().status()
            dearest = max(one.price for one in here.server.instances.values())
            assert status.spending.total == pytest.approx(here.server.billed_total(), abs=dearest / 60)
            await here.service().down()
            assert here.server.alive() == []
            assert here.server.peak_price <= PER_HOUR * 1.0001
            assert here.server.too_early == {}

    asyncio.run(body())
