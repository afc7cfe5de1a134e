"""Whatever happens to a rented fleet: one more `up` and `down` put it right, and no money is lost from sight.

Random histories of commands, crashes and faults are played against the double of vast.ai, through the real
SDK and a real Redis.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from doubles.rented_fleet import RentedFleet, crash, rented_fleet
from doubles.vast.faults import Fault
from doubles.vast.instances import Boot
from doubles.vast.schema import INSTANCE, ODD_VALUES
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmhost.config.models import RedisConfig
from llmhost.errors import LlmhostError
from llmhost.fleet.budget import Limits
from llmhost.fleet.service import FleetService
from llmhost.store.client import connect

MOST = 4  #: workers
PER_HOUR = 2.5  #: USD; some four of the cheaper machines
MAX_BID = 0.45  #: USD an hour
BOOT = Boot(created=1, loading=3, running=20)
PATIENCE = 100.0  #: seconds

#: What makes a call fail for the moment; silent ones are left out, for each costs real seconds.
CALLS = (
    Fault.CREATE_CUT,
    Fault.CREATE_TWICE,
    Fault.CREATE_GARBAGE,
    Fault.CREATE_NO_ID,
    Fault.CREATE_ERROR_BUT_BOUGHT,
    Fault.CREATE_GONE_BUT_BOUGHT,
    Fault.OFFER_GONE,
    Fault.OFFER_TAKEN,
    Fault.LIST_SHORT,
    Fault.LIST_NO_TOKEN,
    Fault.LIST_ARRAY,
    Fault.LIST_NULL,
    Fault.LIST_ODD_ROWS,
    Fault.LIST_NO_ID,
    Fault.LIST_EMPTY,
    Fault.LIST_REFUSED,
    Fault.CUT,
    Fault.GARBAGE,
    Fault.SERVER_ERROR,
    Fault.UNAVAILABLE,
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
    (Fault.NULL_START, None),
    (Fault.LISTED_LATE, 20.0),
    (Fault.LISTED_LATE, 50.0),
    (Fault.SHOWN_LATE, 25.0),
    (Fault.SHOWN_LATE, 50.0),
    (Fault.DEARER, 3.0),
)

#: What somebody with the account may write over a label.
LABELS = (None, "", "mine now", "llmhost/other/1700000000-00000000")
#: What vast.ai says of a host whose heartbeat does not arrive; its worker may go on answering.
SILENT = ("unknown", "offline")
#: Fields of its row that may be anything; see schema.ODD_VALUES.
FIELDS, ODD = sorted({*INSTANCE} - {"id"}), sorted(ODD_VALUES)
#: seconds by which this machine's clock is wrong, until it is put right or wrong in another way
JUMPS = (-40_000.0, -4000.0, -30.0, 0.0, 30.0, 4000.0, 40_000.0)

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
    st.tuples(st.just("no_heartbeat"), st.integers(1, MOST)),
    st.tuples(st.just("relabel"), st.tuples(st.integers(0, MOST), st.sampled_from(LABELS))),
    st.tuples(st.just("heartbeat_lost"), st.tuples(st.integers(0, MOST), st.sampled_from(SILENT))),
    st.tuples(st.just("odd"), st.tuples(st.integers(0, MOST), st.sampled_from(FIELDS), st.sampled_from(ODD))),
    st.tuples(st.just("contract_ends"), st.integers(0, MOST)),
    st.tuples(st.just("no_credit"), st.sampled_from(["up", "status", "down"])),
    st.tuples(st.just("redis_empty"), st.just(0)),
    st.tuples(st.just("clock"), st.sampled_from(JUMPS)),
    st.tuples(st.just("pass"), st.sampled_from([30, 600, 4000])),
    st.tuples(st.just("unseen"), st.sampled_from([30, 4000, 40_000])),
    st.tuples(st.just("two_at_once"), st.tuples(st.integers(1, MOST), st.integers(1, MOST))),
    st.tuples(st.just("redis_away"), st.sampled_from(["up", "down", "status"])),
    st.tuples(st.just("without_waiting"), st.integers(1, MOST)),
    st.tuples(st.just("elsewhere"), st.integers(1, MOST)),
)


@dataclass
class World:
    """The fleet, and what a history does to it."""

    fleet: RentedFleet
    was_wrong: bool = False  #: whether this machine's clock ever was, or its records were lost

    @property
    def server(self) -> Any:
        return self.fleet.server

    def service(self) -> FleetService:
        return self.fleet.service()

    def without_redis(self) -> FleetService:
        client = connect(RedisConfig(), socket=self.fleet.folder / "nobody.sock")
        return replace(self.fleet, client=client).service()

    async def ids_by_fleet(self) -> dict[str, set[str]]:
        """What exists, as it is shown: this fleet's, and what neither a label nor a record calls its."""
        own = {worker.id for worker in (await self.service().status()).workers}
        shown = await self.fleet.provider().fleets()
        others = {name: {worker.id for worker in workers} - own for name, workers in shown.items()}
        return {self.fleet.fleet: own, **{name: ids for name, ids in others.items() if ids}}

    def pick(self, number: int) -> int | None:
        alive = self.server.alive()
        return alive[number % len(alive)] if alive else None


async def play(world: World, step: str, value: Any) -> None:
    """One thing that happens. A command may fail, in the ways that we promise."""
    with suppress(LlmhostError):
        await act(world, step, value)
    # What is looked at every few minutes, as a cron job would, is counted to the minute.
    if step != "unseen":
        with suppress(LlmhostError):
            await world.service().status()


async def act(world: World, step: str, value: Any) -> None:
    if step in COMMANDS:
        await COMMANDS[step](world, value)
    elif step == "fault":
        world.server.arm(value[0], times=value[1])
    elif step == "machine":
        world.server.arm(value[0], value=value[1])
    elif step in ("pass", "unseen"):
        await world.fleet.clock.sleep(value)
    elif step == "clock":
        world.fleet.clock.ahead = value
        world.was_wrong = world.was_wrong or value != 0
    elif (number := world.pick(value[0] if isinstance(value, tuple) else value)) is not None:
        befall(world, number, step, value)


def befall(world: World, number: int, step: str, value: Any) -> None:
    """What happens to one instance."""
    one = world.server.instances[number]
    if step == "relabel":
        one.label = value[1]
    elif step == "odd":
        one.odd |= {value[1]: ODD_VALUES[value[2]]}
    elif step == "contract_ends":
        world.server.outbid(number)  # stopped, and paid for its disk
        one.odd |= {"end_date": 1.0, "duration": 0.0}
    elif step == "heartbeat_lost":
        world.server.become(number, value[1])
    elif step == "outbid":
        world.server.outbid(number)
    elif step == "wedge":
        world.fleet.wedged.add(f"vast-{number}")


async def down_one(world: World, value: int) -> None:
    number = world.pick(value)
    await world.service().down([] if number is None else [f"vast-{number}"])


async def elsewhere(world: World, gpus: int) -> None:
    """On another machine, which has another address, while this one does nothing."""
    await world.fleet.clock.sleep(60)
    try:
        await world.fleet.elsewhere().service().up(gpus)
    finally:
        await world.fleet.clock.sleep(60)


async def two_at_once(world: World, sizes: tuple[int, int]) -> None:
    commands = (world.service().up(gpus) for gpus in sizes)
    await asyncio.gather(*commands, return_exceptions=True)


async def no_heartbeat(world: World, count: int) -> None:
    """vast.ai hears nothing of some hosts while `up` runs; what answers is neither ended nor bought again."""
    silent = [
        number
        for number in world.server.alive()[:count]
        if world.server.instances[number].actual_status == "running"
        and f"vast-{number}" not in world.fleet.wedged
        and Fault.NO_PORTS not in world.server.instances[number].quirks  # it never answered
    ]
    for number in silent:
        world.server.become(number, "unknown")
    try:
        await world.service().up(MOST)
    finally:
        ended = set(silent) - set(world.server.alive())
        for number in set(silent) - ended:
            world.server.become(number, "running")
    assert not ended


async def no_credit(world: World, command: str) -> None:
    """The account runs dry, which stops all its machines, and is paid in again."""
    credit, world.server.credit = world.server.credit, 0.0
    try:
        await getattr(world.service(), command)()
    finally:
        world.server.credit = credit


async def redis_empty(world: World, _: int) -> None:
    """All records are gone, and what was not billed yet is not known any more."""
    await world.fleet.client.flushall()
    world.was_wrong = True


COMMANDS: dict[str, Callable[[World, Any], Awaitable[Any]]] = {
    "up": lambda world, gpus: world.service().up(gpus),
    "without_waiting": lambda world, gpus: world.service().up(gpus, wait=False),
    "no_heartbeat": no_heartbeat,
    "no_credit": no_credit,
    "redis_empty": redis_empty,
    "elsewhere": elsewhere,
    "two_at_once": two_at_once,
    "redis_away": lambda world, command: getattr(world.without_redis(), command)(),
    "down": lambda world, _: world.service().down(),
    "down_one": down_one,
    "orphans": lambda world, _: world.service().down_orphans(),
    "crash_up": lambda world, death: crash(world.server, world.service().up(death[0]), *death[1:]),
}


async def put_right(world: World, gpus: int) -> None:
    """Fair weather again: one `up` and one `down` more."""
    world.server.faults.armed.clear()
    world.fleet.wedged.clear()
    world.fleet.clock.ahead = 0.0
    for number in world.server.alive():
        world.server.instances[number].quirks.pop(Fault.NO_PORTS, None)
        world.server.instances[number].odd.clear()
    result = await world.service().up(gpus)
    assert [failure.message for failure in result.failed] == []
    named = await world.ids_by_fleet()
    assert {worker for ids in named.values() for worker in ids} == world.fleet.ids
    assert len(named[world.fleet.fleet]) == gpus
    assert world.was_wrong or len(named) == 1  # records that are lost do not say whose a changed label is
    assert world.server.double_paid() == []
    prefix = f"llmhost/{world.fleet.fleet}/"
    assert all(label in LABELS or str(label).startswith(prefix) for label in world.server.labels)


async def right_in_the_end(world: World, gpus: int) -> None:
    await put_right(world, gpus)
    server = world.server
    status = await world.service().status()
    dearest = max(one.price for one in server.instances.values())
    if not world.was_wrong:
        # A worker whose end was not confirmed is counted until it is seen to be gone: never too little.
        billed = server.billed_total()
        assert billed - dearest / 60 <= status.spending.total <= billed + dearest / 6
    for fleet in await world.ids_by_fleet():
        await replace(world.fleet, fleet=fleet).service().down()
    assert server.alive() == []
    assert world.was_wrong or server.too_early == {}
    assert server.peak_price <= PER_HOUR * 1.0001
    assert all(one.bid is None or one.bid <= MAX_BID for one in server.instances.values())


#: Nobody knows any more whose it is: it is shown as of no fleet, and one more is bought.
LOST = [("elsewhere", 1), ("relabel", (0, "mine now")), ("redis_empty", 0)]

#: Its label says no more when it was bought, and this machine did not buy it.
RELABELLED = [("elsewhere", 2), ("relabel", (1, "")), ("pass", 4000)]


@pytest.mark.slow
@settings(max_examples=12)
@example(steps=RELABELLED, gpus=2, interruptible=False)
@example(steps=LOST, gpus=1, interruptible=False)
@given(steps=st.lists(STEP, min_size=1, max_size=9), gpus=st.integers(1, MOST), interruptible=st.booleans())
def test_after_any_history_one_up_and_one_down_put_the_fleet_right(
    steps: list[tuple[str, Any]],
    gpus: int,
    interruptible: bool,
    memory_folder: Path,
    redis_server: Any,
    vast_settings: Any,
) -> None:
    bids = {"interruptible": interruptible, "max_bid": MAX_BID if interruptible else None}
    wanted = vast_settings.model_copy(update=bids)
    limits = Limits(per_hour=PER_HOUR)
    folder = memory_folder / uuid.uuid4().hex

    async def body() -> None:
        async with rented_fleet(
            folder, redis_server.socket, wanted, max_gpus=MOST, limits=limits, ready_timeout=PATIENCE
        ) as fleet:
            fleet.server.world.boot = BOOT
            world = World(fleet)
            for step, value in steps:
                await play(world, step, value)
            await right_in_the_end(world, gpus)

    asyncio.run(body())
