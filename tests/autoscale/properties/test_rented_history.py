"""Whatever happens while the autoscaler runs: never too many, nor too dear, and in the end as many as wanted.

Random histories of loads, steps, crashes, faults and machines that break are played against the double of
vast.ai, through the real SDK and a real Redis.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from doubles.rented_fleet import SPEED, RentedFleet, crash, rented_fleet
from doubles.vast.faults import Fault
from doubles.vast.schema import INSTANCE, ODD_VALUES
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.autoscale.models import StepResult
from llmhost.config.models import RedisConfig
from llmhost.errors import LlmhostError
from llmhost.fleet.budget import Limits
from llmhost.fleet.registry import FleetRecords
from llmhost.fleet.results import DownResult
from llmhost.store.client import connect

MOST = 4  #: workers
PER_HOUR = 1.4  #: USD; four machines, but not four of the dearer ones
MAX_BID = 0.45  #: USD an hour
PATIENCE = 300.0  #: seconds; machines boot in one minute
MINUTE, HOURS = 60.0, 3600.0

#: of what a worker delivers; inside the band, so that each worker is needed and no other one is
WORTH = 0.75

#: What makes a call fail for the moment; silent ones are left out, for each costs real seconds.
CALLS = (
    Fault.CREATE_CUT,
    Fault.CREATE_TWICE,
    Fault.CREATE_GARBAGE,
    Fault.CREATE_ERROR_BUT_BOUGHT,
    Fault.OFFER_GONE,
    Fault.OFFER_TAKEN,
    Fault.LIST_SHORT,
    Fault.LIST_NULL,
    Fault.LIST_EMPTY,
    Fault.CUT,
    Fault.GARBAGE,
    Fault.SERVER_ERROR,
    Fault.TOO_MANY,
    Fault.DESTROY_LIES,
    Fault.DESTROY_CUT,
)
#: What befalls the next machine that is rented, and the seconds or times that it does.
MACHINES = (
    (Fault.STUCK, None),
    (Fault.BOOT_ERROR, None),
    (Fault.EXITS, None),
    (Fault.OUTBID, None),
    (Fault.NO_PORTS, None),
    (Fault.LISTED_LATE, 50.0),
    (Fault.DEARER, 3.0),
)

#: Fields of its row that may be anything; see schema.ODD_VALUES.
FIELDS, ODD = sorted({*INSTANCE} - {"id"}), sorted(ODD_VALUES)
#: seconds by which this machine's clock is wrong for a while
JUMPS = (-40_000.0, -4000.0, -30.0, 30.0, 4000.0, 40_000.0)

#: seconds; cron is on time or not
INTERVAL = st.sampled_from([5.0, 60.0, 300.0, 1000.0])

EVENT = st.one_of(
    st.tuples(st.just("load"), st.integers(0, MOST + 1)),
    st.tuples(st.just("step"), INTERVAL),
    st.tuples(st.just("steps"), st.integers(2, 6)),
    st.tuples(st.just("crash"), st.tuples(st.integers(1, 25), st.booleans())),
    st.tuples(st.just("elsewhere"), INTERVAL),
    st.tuples(st.just("two_at_once"), st.just(0)),
    st.tuples(st.just("up_beside"), st.integers(1, MOST)),
    st.tuples(st.just("no_heartbeat"), st.tuples(st.integers(1, MOST), st.integers(1, 12))),
    st.tuples(st.just("wrong_clock"), st.tuples(st.sampled_from(JUMPS), st.integers(1, 3))),
    st.tuples(st.just("no_credit"), st.integers(1, 3)),
    st.tuples(st.just("taken_down"), st.tuples(st.booleans(), st.booleans(), st.integers(1, 4))),
    st.tuples(st.just("fault"), st.tuples(st.sampled_from(CALLS), st.integers(1, 3))),
    st.tuples(st.just("machine"), st.sampled_from(MACHINES)),
    st.tuples(st.just("odd"), st.tuples(st.integers(0, MOST), st.sampled_from(FIELDS), st.sampled_from(ODD))),
    st.tuples(
        st.just("break"),
        st.tuples(st.integers(0, MOST), st.sampled_from(["exited", "outbid", "wedge", "contract ends"])),
    ),
)


@dataclass
class World:
    """The fleet, what a history does to it, and what must never be. `load` is for so many workers."""

    fleet: RentedFleet
    wrong: list[str] = field(default_factory=list)
    load: int = 0

    def ask(self, workers: int) -> None:
        """From now on questions come for so many workers."""
        self.fleet.traffic.ask(workers * SPEED * WORTH)

    @property
    def server(self) -> Any:
        return self.fleet.server

    async def step(self, pause: float = MINUTE) -> StepResult:
        result = await self.fleet.scaler().step()
        await self.fleet.clock.sleep(pause)
        return result

    def look(self) -> None:
        """Of two machines for one order the second is vast.ai's doing."""
        by_order = [min(ids) for ids in self.server.labels.values()]
        newest = max(by_order, default=0)
        prices = {number: self.server.instances[number].price for number in by_order}
        if newest:  # what it really costs shows when it is there
            bought = self.server.instances[newest]
            prices[newest] = (bought.bid or bought.offer["dph_base"]) + bought.disk_rate
        if len(by_order) > MOST:
            self.wrong.append(f"{len(by_order)} workers")
        if sum(prices.values()) > PER_HOUR * 1.0001:
            self.wrong.append(f"${sum(prices.values()):.2f} an hour")
        ours = f"llmhost/{self.fleet.fleet}/"
        self.wrong += [f"label {label}" for label in self.server.labels if not str(label).startswith(ours)]


async def play(world: World, event: str, value: Any) -> None:
    """One thing that happens. Steps do not raise; `up` may, in the ways that we promise."""
    if event in COMMANDS:
        with suppress(LlmhostError):
            await COMMANDS[event](world, value)
        world.look()
    elif event == "load":
        world.load = value
        world.ask(value)
    elif event == "fault":
        world.server.arm(value[0], times=value[1])
    elif event == "machine":
        world.server.arm(value[0], value=value[1])
    elif alive := world.server.alive():
        number = alive[value[0] % len(alive)]
        if event == "odd":
            world.server.instances[number].odd |= {value[1]: ODD_VALUES[value[2]]}
        else:
            harm(world, number, value[1])


def harm(world: World, number: int, how: str) -> None:
    if how == "wedge":
        world.fleet.wedged.add(f"vast-{number}")
    elif how in ("outbid", "contract ends"):
        world.server.outbid(number)
        if how == "contract ends":  # stopped for good, and paid for its disk
            world.server.instances[number].odd |= {"end_date": 1.0, "duration": 0.0}
    else:
        world.server.become(number, how)


async def steps(world: World, count: int) -> None:
    for _ in range(count):
        await world.step()
        world.look()


async def no_heartbeat(world: World, value: tuple[int, int]) -> None:
    """For some minutes vast.ai hears nothing of some hosts, or of all, whose workers answer all the same."""
    count, minutes = value
    silent = {
        number
        for number in world.server.alive()[:count]
        if world.server.instances[number].actual_status == "running"
        and f"vast-{number}" not in world.fleet.wedged
        and Fault.NO_PORTS not in world.server.instances[number].quirks  # it never answered
    }
    for number in silent:
        world.server.become(number, "unknown")
    for _ in range(minutes):
        result = await world.step()
        ended = {action.worker for action in result.actions if action.kind == "repair"}
        if lost := ended & {f"vast-{number}" for number in silent}:
            world.wrong.append(f"ended though they answer: {sorted(map(str, lost))}")
        world.look()
    for number in silent & set(world.server.alive()):
        world.server.become(number, "running")


async def wrong_clock(world: World, value: tuple[float, int]) -> None:
    """Somebody sets the date of this machine, and some steps later it is put right."""
    world.fleet.clock.ahead = value[0]
    try:
        await steps(world, value[1])
    finally:
        world.fleet.clock.ahead = 0.0


async def no_credit(world: World, count: int) -> None:
    """The account runs dry, which stops all its machines, and is paid in again."""
    credit, world.server.credit = world.server.credit, 0.0
    try:
        await steps(world, count)
    finally:
        world.server.credit = credit


async def taken_down(world: World, value: tuple[bool, bool, int]) -> None:
    """`down`, beside a step or not, while Redis is away or not. Then much is asked, and nothing comes back
    before `up`, on another machine neither. What `down` leaves, it says."""
    is_beside, redis_away, count = value
    fleet = world.fleet
    service = fleet.service()
    if redis_away:
        nowhere = connect(RedisConfig(), socket=fleet.folder / "nobody.sock")
        service = replace(fleet, client=nowhere).service()
    meanwhile = [fleet.scaler().step()] if is_beside else []
    result, *_ = await asyncio.gather(service.down(), *meanwhile, return_exceptions=True)
    await fleet.clock.sleep(MINUTE)
    if isinstance(result, LlmhostError):  # nothing was ended
        return
    assert isinstance(result, DownResult)
    if world.server.alive() and not (result.remaining or result.failed):
        world.wrong.append("down said that nothing is left")
    bought = world.server.created_total
    world.ask(MOST)
    await steps(world, count)
    if not redis_away:
        await elsewhere(world, MINUTE)
    if world.server.created_total > bought:
        world.wrong.append("bought after down")
    world.ask(world.load)
    records = FleetRecords(fleet.registry, None, fleet.clock, 0.0)
    await records.lift(await records.pauses())


async def elsewhere(world: World, pause: float) -> None:
    """On another machine, which has another address, while this one does nothing."""
    await world.fleet.clock.sleep(MINUTE)
    await world.fleet.elsewhere().scaler().step()
    await world.fleet.clock.sleep(max(pause, MINUTE))


async def beside(world: World, command: Awaitable[Any]) -> None:
    """Two at once on one machine, which share its pace."""
    await asyncio.gather(world.fleet.scaler().step(), command, return_exceptions=True)
    await world.fleet.clock.sleep(MINUTE)


COMMANDS: dict[str, Callable[[World, Any], Awaitable[Any]]] = {
    "step": lambda world, pause: world.step(pause),
    "steps": steps,
    "no_heartbeat": no_heartbeat,
    "no_credit": no_credit,
    "taken_down": taken_down,
    "wrong_clock": wrong_clock,
    "elsewhere": elsewhere,
    "crash": lambda world, death: crash(world.server, world.fleet.scaler().step(), *death),
    "two_at_once": lambda world, _: beside(world, world.fleet.scaler().step()),
    "up_beside": lambda world, gpus: beside(world, world.fleet.service().up(gpus, wait=False)),
}


async def calm(world: World, workers: int, crashes: int, clock_errors: int) -> None:
    """Fair weather again, and a load for so many workers: they come, and then nothing changes any more.

    Redis does not know the time of a test, so what a clock that is ahead counts is charged to hours to come,
    which are waited for.
    """
    world.server.faults.armed.clear()
    world.fleet.wedged.clear()
    for number in world.server.alive():
        world.server.instances[number].odd.clear()
    world.ask(workers)
    await steps(world, 4)
    # Purchases that failed are forgotten, and hours have a budget anew.
    await world.fleet.clock.sleep(2 * HOURS + (max(JUMPS) if clock_errors else 0.0))
    await steps(world, 12)
    settled = world.server.alive()
    results = [await world.step(5 * MINUTE) for _ in range(5)]
    assert [(result.decision.action, result.actions) for result in results] == [("hold", ())] * 5
    assert [result.error for result in results] == [None] * 5
    assert (world.server.alive(), len(settled)) == (settled, max(1, workers))
    known = (await world.fleet.registry.workers()).ids
    assert known == {f"vast-{number}" for number in settled}
    # A process that dies takes its threads with it; here, what a thread was about to send may still come.
    assert world.server.double_paid() == []
    assert sum(world.server.too_early.values()) <= crashes


@pytest.mark.slow
@settings(max_examples=10)
@given(
    events=st.lists(EVENT, min_size=3, max_size=14), workers=st.integers(0, 3), interruptible=st.booleans()
)
def test_after_any_history_the_fleet_is_as_large_as_wanted_and_stays_so(
    events: list[tuple[str, Any]],
    workers: int,
    interruptible: bool,
    memory_folder: Path,
    redis_server: Any,
    vast_settings: Any,
) -> None:
    bids = {"interruptible": interruptible, "max_bid": MAX_BID if interruptible else None}
    wanted = vast_settings.model_copy(update=bids)
    folder = memory_folder / uuid.uuid4().hex

    async def body() -> None:
        async with rented_fleet(
            folder,
            redis_server.socket,
            wanted,
            max_gpus=MOST,
            limits=Limits(per_hour=PER_HOUR),
            ready_timeout=PATIENCE,
        ) as fleet:
            fleet.server.market.clear()
            for number in range(60):
                fleet.server.market.add(dph_base=0.28 + number / 200)
            world = World(fleet)
            for event, value in events:
                await play(world, event, value)
            crashes, clock_errors = (
                sum(event == what for event, _ in events) for what in ("crash", "wrong_clock")
            )
            await calm(world, workers, crashes + clock_errors, clock_errors)
            assert world.wrong == []

    asyncio.run(body())
