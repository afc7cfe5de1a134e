"""A fleet that was taken down stays down until the next `up`, whatever Redis does meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from doubles.clock import ManualClock, WrongClock
from doubles.rented_fleet import RentedFleet
from doubles.vast.faults import Fault
from redis.asyncio import Redis

from llmhost.errors import FleetBusy, NoOffer, ProviderError, PurchaseUnclear, StateError, StoreUnavailable
from llmhost.fleet import service
from llmhost.fleet.buyer import Buyer
from llmhost.fleet.models import Worker
from llmhost.fleet.pause import NOWHERE, PauseBook, PauseMarks, Pauses, new_token
from llmhost.fleet.providers.vast.pacer import Pacer
from llmhost.fleet.registry import FleetRecords, FleetRegistry
from llmhost.fleet.results import DownResult
from llmhost.machine.files import hold_lock
from llmhost.store.keys import FleetKeys, pauses_of_all


async def down_without_redis(fleet: RentedFleet, *, shared: bool) -> DownResult:
    """`shared`: other machines use the Redis that is away."""
    redis, fleet.client = fleet.client, None
    try:
        return await replace(fleet.service(), shared=shared).down()
    finally:
        fleet.client = redis


async def is_paused(fleet: RentedFleet) -> bool:
    """Whether Redis says so."""
    kept = await fleet.client.hgetall(FleetKeys(fleet.fleet).pauses("vast"))
    return any(not since.startswith(b"-") for since in kept.values())


async def pause(fleet: RentedFleet) -> None:
    """What a `down` begins with, whoever has the lock."""
    await FleetRecords(fleet.registry, None, fleet.clock, 0.0).pause()


async def test_a_pause_that_redis_could_not_be_told_is_told_by_the_next_step_which_buys_nothing(
    fleet: RentedFleet,
) -> None:
    fleet.scale = replace(fleet.scale, min_gpus=1)
    await fleet.service().up(1)
    await down_without_redis(fleet, shared=False)
    assert (await is_paused(fleet), bool(fleet.marks.read())) == (False, True)
    step = await fleet.scaler().step()
    assert ("paused since" in step.decision.reason, fleet.server.alive()) == (True, [])
    assert (await is_paused(fleet), len(fleet.marks.read())) == (True, 1)


async def test_up_ends_a_pause_that_redis_was_never_told(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    await down_without_redis(fleet, shared=False)
    assert len((await fleet.service().up(1)).workers) == 1
    assert (await is_paused(fleet), dict(fleet.marks.read())) == (False, {})


async def test_a_pause_that_redis_could_not_be_told_holds_although_an_up_elsewhere_did_not_know_of_it(
    fleet: RentedFleet,
) -> None:
    await down_without_redis(fleet, shared=True)
    fleet.clock.ahead = -3600.0  # which of the two came later no clock can say for certain
    await fleet.elsewhere().service().up(1)
    assert (await fleet.service().status()).paused is not None
    assert await is_paused(fleet)


async def test_down_fails_where_autoscalers_on_other_machines_could_not_be_told(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    result = await down_without_redis(fleet, shared=True)
    (failure,) = result.failed
    assert (len(result.destroyed), fleet.server.alive()) == (1, [])
    assert failure.message.startswith("Redis could not be told that the fleet is to stay down")


async def test_down_succeeds_where_this_machine_alone_uses_the_redis_that_is_away(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    assert (await down_without_redis(fleet, shared=False)).failed == ()


async def test_down_fails_where_a_pause_can_be_kept_nowhere(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    fleet.client, service = None, fleet.service()
    result = await replace(service, registry=None, marks=NOWHERE).down()
    (failure,) = result.failed
    assert "could be written nowhere" in failure.message


async def test_a_fleet_without_workers_can_be_kept_down_too(fleet: RentedFleet) -> None:
    fleet.scale = replace(fleet.scale, min_gpus=1)
    await fleet.service().stay_down()
    await fleet.scaler().step()
    assert fleet.server.alive() == []


class Meanwhile(ManualClock):
    """Something happens while a command waits for the first time."""

    def __init__(self, happens: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._happens: Callable[[], Awaitable[object]] | None = happens

    async def sleep(self, seconds: float) -> None:
        happens, self._happens = self._happens, None
        if happens is not None:
            await happens()
        await super().sleep(seconds)


async def keep_busy(fleet: RentedFleet) -> None:
    """Every worker is at an answer that takes for ever."""
    for number in fleet.server.alive():
        await fleet.client.zadd(FleetKeys(fleet.fleet).load(f"vast-{number}"), {"answer": math.inf})


async def test_the_autoscaler_revives_and_buys_nothing_while_down_lets_workers_finish(
    fleet: RentedFleet,
) -> None:
    fleet.scale = replace(fleet.scale, min_gpus=3)
    await fleet.service().up(2)
    await keep_busy(fleet)
    draining: list[frozenset[str]] = []

    async def step() -> None:
        await fleet.scaler().step()
        draining.append(await fleet.registry.drains.draining())

    await replace(fleet.service(), clock=Meanwhile(step)).down()
    assert (len(draining[0]), fleet.server.created_total, fleet.server.alive()) == (2, 2, [])


@pytest.mark.parametrize("lies", [True, False])
async def test_a_down_that_asked_for_an_end_and_saw_none_keeps_the_fleet_paused(
    fleet: RentedFleet, lies: bool
) -> None:
    await fleet.service().up(1)
    fleet.server.arm(Fault.LIST_NULL, times=None)
    fleet.server.arm(Fault.SERVER_ERROR, endpoint="show", times=None)
    if lies:
        fleet.server.arm(Fault.DESTROY_LIES, times=None)
    with pytest.raises(ProviderError):
        await fleet.service().down()
    assert (len(fleet.server.alive()), await is_paused(fleet)) == (int(lies), True)


async def test_the_autoscaler_goes_on_where_down_could_ask_for_no_end(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    unseen = fleet.elsewhere()
    unseen.server.arm(Fault.LIST_NULL, times=None)
    await fleet.client.delete(FleetKeys(fleet.fleet).workers)
    with pytest.raises(ProviderError):
        await unseen.service().down()
    assert not await is_paused(fleet)


async def test_the_autoscaler_goes_on_where_down_is_stopped_before_it_ends_anything(
    fleet: RentedFleet,
) -> None:
    await fleet.service().up(1)
    await keep_busy(fleet)

    async def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await replace(fleet.service(), clock=Meanwhile(interrupt)).down()
    assert (await is_paused(fleet), await fleet.registry.drains.draining()) == (False, frozenset())


async def test_a_down_that_is_stopped_leaves_the_pause_of_another_one_that_ended_the_fleet(
    fleet: RentedFleet,
) -> None:
    await fleet.service().up(1)
    await keep_busy(fleet)

    async def end_it_elsewhere() -> None:
        await fleet.clock.sleep(1)
        await fleet.elsewhere().service().down(now=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await replace(fleet.service(), clock=Meanwhile(end_it_elsewhere)).down()
    assert (await is_paused(fleet), fleet.server.alive()) == (True, [])


async def test_a_fleet_stays_down_although_up_resumed_it_while_its_workers_finished_their_answers(
    fleet: RentedFleet,
) -> None:
    await fleet.service().up(1)
    await keep_busy(fleet)
    await replace(fleet.service(), clock=Meanwhile(lambda: fleet.elsewhere().service().up(1))).down()
    assert (await is_paused(fleet), fleet.server.alive()) == (True, [])


async def test_a_worker_that_was_being_bought_when_down_paused_the_fleet_is_ended_at_once(
    fleet: RentedFleet,
) -> None:
    async def before(endpoint: str, _: int) -> None:
        if endpoint == "create":
            await pause(fleet)

    fleet.server.before = before
    with pytest.raises(FleetBusy, match="has ended this fleet meanwhile"):
        await fleet.service().up(2)
    assert (fleet.server.created_total, fleet.server.alive()) == (1, [])


async def test_a_worker_that_was_being_bought_is_ended_at_once_although_this_machine_alone_knows_of_the_pause(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: PauseBook) -> Pauses:
        raise StoreUnavailable("Redis is gone, with its folder")

    async def before(endpoint: str, _: int) -> None:
        if endpoint == "create":
            fleet.marks.put(new_token(), fleet.clock.now())
            monkeypatch.setattr(PauseBook, "read", away)

    fleet.server.before = before
    with pytest.raises(FleetBusy, match="has ended this fleet meanwhile"):
        await fleet.service().up(1)
    assert (fleet.server.created_total, fleet.server.alive()) == (1, [])


# An `up` that began before a `down`


def while_it_searches(fleet: RentedFleet, happens: Callable[[], Awaitable[object]], at: int = 1) -> None:
    """Something happens while a command reads the offers for the `at`-th time."""
    searches = 0

    async def before(endpoint: str, _: int) -> None:
        nonlocal searches
        searches += endpoint == "search"
        if endpoint == "search" and searches == at:
            await happens()

    fleet.server.before = before


@pytest.mark.parametrize("at", [1, 2])
async def test_an_up_that_began_before_a_down_buys_nothing_after_it(fleet: RentedFleet, at: int) -> None:
    while_it_searches(fleet, lambda: pause(fleet), at)
    with pytest.raises(FleetBusy, match="has ended this fleet meanwhile"):
        await fleet.service().up(1)
    assert (fleet.server.created_total, await is_paused(fleet)) == (0, True)


async def test_an_up_on_another_machine_that_began_before_a_down_leaves_its_pause(
    fleet: RentedFleet,
) -> None:
    fleet.scale = replace(fleet.scale, min_gpus=1)
    await fleet.service().up(2)
    other = fleet.elsewhere()
    while_it_searches(other, lambda: fleet.service().down(now=True))
    with pytest.raises(FleetBusy):
        await other.service().up(3)
    await fleet.scaler().step()
    assert (fleet.server.created_total, fleet.server.alive()) == (2, [])


async def test_an_up_that_lets_workers_finish_buys_nothing_after_a_down_that_did_not_wait_for_them(
    fleet: RentedFleet,
) -> None:
    await fleet.service().up(1)
    await keep_busy(fleet)
    changed = replace(fleet.service(), clock=Meanwhile(lambda: fleet.service().down(now=True)))
    with pytest.raises(FleetBusy):
        await replace(changed, spec=replace(changed.spec, model="other")).up(1)
    assert (fleet.server.created_total, fleet.server.alive()) == (1, [])


async def test_an_up_lifts_the_pauses_that_it_found_when_it_began(fleet: RentedFleet) -> None:
    await fleet.service().down()
    await fleet.elsewhere().service().down()
    await fleet.service().up(1)
    assert not await is_paused(fleet)
    assert (await fleet.elsewhere().service().status()).paused is None


async def test_a_down_that_fails_leaves_the_pause_of_one_that_came_after_it(fleet: RentedFleet) -> None:
    fleet.scale = replace(fleet.scale, min_gpus=1)
    await fleet.service().up(1)
    await keep_busy(fleet)

    async def end_it_elsewhere() -> None:
        await fleet.elsewhere().service().down(now=True)
        fleet.server.arm(Fault.LIST_NULL, times=9)

    with suppress(ProviderError):
        await replace(fleet.service(), clock=Meanwhile(end_it_elsewhere)).down()
    fleet.server.faults.armed.clear()
    await fleet.scaler().step()
    assert (await is_paused(fleet), fleet.server.alive()) == (True, [])


async def test_a_purchase_that_waited_for_its_turn_is_confirmed_once_more_before_it_is_sent(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Pacer._reserve

    async def suspended(self: Pacer, endpoint: str, interval: float) -> None:
        await reserve(self, endpoint, interval)
        if endpoint == "create":
            await pause(fleet.elsewhere())

    monkeypatch.setattr(Pacer, "_reserve", suspended)
    with pytest.raises(FleetBusy):
        await fleet.service().up(1)
    assert (fleet.server.created_total, await fleet.provider().intents()) == (0, ())


async def test_an_up_that_is_cut_off_before_it_bought_anything_leaves_the_fleet_paused(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_off(*_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(Buyer, "buy", cut_off)
    await fleet.service().down()
    with pytest.raises(asyncio.CancelledError):
        await fleet.service().up(1)
    assert await is_paused(fleet)


async def test_an_up_whose_redis_was_away_for_a_moment_sees_a_later_pause(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = FleetRegistry.save

    async def away(self: FleetRegistry, worker: Worker, **_: object) -> None:
        monkeypatch.setattr(FleetRegistry, "save", save)
        await pause(fleet.elsewhere())
        raise StoreUnavailable("Redis was away for a moment")

    monkeypatch.setattr(FleetRegistry, "save", away)
    with pytest.raises(FleetBusy):
        await fleet.service().up(3)
    assert (fleet.server.created_total, fleet.server.alive()) == (1, [])


async def test_a_down_fails_where_another_machine_may_be_buying(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_LOCK_PATIENCE", 0.3)
    await fleet.service().up(1)
    async with fleet.elsewhere().lock().hold():
        result = await fleet.service().down()
    assert (result.destroyed, fleet.server.alive()) == (("vast-25000001",), [])
    assert [failure.message.split(" and ")[0] for failure in result.failed] == [
        "another llmhost is changing this fleet"
    ]


async def test_a_down_waits_once_in_all_for_whatever_a_suspended_command_holds(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmhost.machine.files.PATIENCE", 6.0)
    monkeypatch.setattr(service, "_STEP", 0.0)
    await fleet.service().up(1)
    async with AsyncExitStack() as held:
        for name in ("lock", "pace.lock", "pace-list.lock", "pace-destroy.lock", "pace-show.lock"):
            await held.enter_async_context(hold_lock(fleet.folder / name, patience=0))
        async with asyncio.timeout(11):  # waiting for two of them takes 12 s
            result = await fleet.service().down()
    assert (result.destroyed, result.failed, fleet.server.alive()) == (("vast-25000001",), (), [])


async def test_an_up_that_was_asked_for_before_a_down_and_begins_after_it_buys_nothing(
    fleet: RentedFleet,
) -> None:
    asked = fleet.clock.now()
    await fleet.clock.sleep(1)
    await fleet.service().down()
    with pytest.raises(FleetBusy):
        await fleet.service().up(1, began=asked)
    assert (fleet.server.created_total, await is_paused(fleet)) == (0, True)


async def test_a_pause_from_the_future_is_of_a_clock_that_was_put_back(fleet: RentedFleet) -> None:
    await fleet.service().down()
    fleet.clock.ahead = -3600.0
    await fleet.service().up(1, began=fleet.clock.now())
    assert not await is_paused(fleet)


async def test_an_up_that_cannot_remove_the_mark_leaves_the_fleet_paused(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: PauseMarks, tokens: object) -> None:
        raise StateError("read-only")

    await fleet.service().down()
    monkeypatch.setattr(PauseMarks, "remove", refuse)
    with pytest.raises(StateError):
        await fleet.service().up(1)
    assert (fleet.server.created_total, await is_paused(fleet)) == (0, True)


async def test_a_mark_that_cannot_be_read_back_is_none(fleet: RentedFleet, tmp_path: Path) -> None:
    class Unlisted(PauseMarks):
        def read(self) -> dict[str, float]:
            return {}

    assert not Unlisted(tmp_path / "fleet", "vast").put(new_token(), fleet.clock.now())


async def test_an_up_on_another_provider_leaves_what_is_rented_paused(fleet: RentedFleet) -> None:
    await fleet.service().down()
    here = replace(fleet.service(), registry=None, marks=replace(fleet.marks, provider="local"))
    await here._records().lift(await here._records().pauses())
    assert (len(fleet.marks.read()), await is_paused(fleet)) == (1, True)


async def test_down_fails_where_this_machine_could_not_mark_the_fleet(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    result = await replace(fleet.service(), marks=PauseMarks(Path("/dev/null/fleets"), "vast")).down()
    (failure,) = result.failed
    assert (fleet.server.alive(), failure.message[:35]) == ([], "this machine could not write down t")


# What this machine keeps


async def test_a_redis_that_lost_its_data_is_told_again_and_rents_nothing(fleet: RentedFleet) -> None:
    fleet.scale = replace(fleet.scale, min_gpus=1)
    await fleet.service().up(1)
    await fleet.service().down()
    await fleet.client.flushall()
    await fleet.scaler().step()
    assert (await is_paused(fleet), fleet.server.alive()) == (True, [])


async def test_a_pause_that_another_machine_has_seen_holds_there_although_redis_loses_its_data(
    fleet: RentedFleet,
) -> None:
    fleet.scale = replace(fleet.scale, min_gpus=1)
    other = fleet.elsewhere()
    await fleet.service().up(1)
    await fleet.service().down()
    await other.scaler().step()
    await fleet.client.flushall()
    step = await other.scaler().step()
    assert ("paused since" in step.decision.reason, fleet.server.alive()) == (True, [])
    await fleet.service().up(1)
    assert (await other.service().status()).paused is None


async def test_a_pause_that_was_only_seen_here_is_told_to_no_redis_that_lost_its_data(
    fleet: RentedFleet,
) -> None:
    other = fleet.elsewhere()
    await fleet.service().down()
    await other.service().status()
    await fleet.service().up(1)
    await fleet.client.flushall()
    await other.service().status()
    assert not await is_paused(fleet)


async def test_what_is_no_token_of_a_pause_is_no_name_of_a_file(fleet: RentedFleet) -> None:
    await fleet.client.hset(FleetKeys(fleet.fleet).pauses("vast"), "a\0b", "1.0")
    assert (await fleet.service().status()).paused is not None
    await fleet.service().up(1)
    assert (await fleet.service().status()).paused is None


async def test_a_pause_that_was_lifted_elsewhere_is_over_here_too(fleet: RentedFleet) -> None:
    await fleet.service().down()
    await fleet.elsewhere().service().up(1)
    assert (await fleet.service().status()).paused is None
    assert fleet.marks.read() == {}


async def test_the_pause_of_an_older_llmhost_holds_until_the_next_up(fleet: RentedFleet) -> None:
    await fleet.client.hset(FleetKeys(fleet.fleet).scale, "paused", "1700000000.0")
    (fleet.folder / "fleets" / fleet.fleet).mkdir(parents=True)
    (fleet.folder / "fleets" / fleet.fleet / "paused").touch()
    assert (await fleet.service().status()).paused == 1700000000.0
    await fleet.service().up(1)
    assert (await fleet.service().status()).paused is None


async def test_redis_remembers_a_limited_number_of_lifted_pauses(fleet: RentedFleet) -> None:
    records = FleetRecords(fleet.registry, None, fleet.clock, 0.0)
    await records.lift([f"{number:016x}" for number in range(500)])
    await records.lift(["f" * 16])
    assert await fleet.client.hlen(FleetKeys(fleet.fleet).pauses("vast")) == 200


async def test_an_up_that_could_buy_nothing_leaves_the_fleet_paused(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    await fleet.service().down()
    fleet.server.market.clear()
    with pytest.raises(NoOffer):
        await fleet.service().up(1)
    assert await is_paused(fleet)


async def test_down_fails_while_a_purchase_may_still_have_bought_something(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.CREATE_SILENT)
    fleet.server.arm(Fault.LISTED_LATE, value=800.0)
    with pytest.raises(PurchaseUnclear):
        await fleet.service().up(1)
    (failure,) = (await fleet.service().down()).failed
    assert "it is not known yet whether the purchase" in failure.message
    await fleet.clock.sleep(800)
    ended = await fleet.service().down()
    assert (ended.failed, len(ended.destroyed), fleet.server.alive()) == ((), 1, [])


@pytest.mark.parametrize("ahead", [-1200.0, 0.0, 1200.0])
async def test_an_up_that_was_asked_for_before_a_down_on_another_machine_buys_nothing(
    fleet: RentedFleet, ahead: float
) -> None:
    other = fleet.elsewhere(clock=WrongClock(fleet.clock._right))
    other.clock.ahead = ahead
    asked = other.clock.now()
    await fleet.clock.sleep(2)
    await fleet.service().down()
    await fleet.clock.sleep(2)
    with pytest.raises(FleetBusy, match="has ended this fleet meanwhile"):
        await other.service().up(1, began=asked)
    await other.service().up(1, began=other.clock.now())
    assert len(fleet.server.alive()) == 1


# Fleets that nobody has heard of yet


async def down_everywhere(fleet: RentedFleet) -> DownResult:
    return await fleet.service().down(everywhere=True)


def renamed(fleet: RentedFleet, folder: Path) -> RentedFleet:
    """Another fleet of the same account and Redis, of the machine with this state folder."""
    return replace(fleet, fleet=f"{fleet.fleet}x", folder=folder, scale=replace(fleet.scale, min_gpus=1))


@pytest.mark.parametrize("place", ["the same machine", "another one that uses this Redis"])
async def test_after_a_down_of_every_fleet_no_autoscaler_rents_for_one_that_it_did_not_know(
    fleet: RentedFleet, tmp_path: Path, place: str
) -> None:
    await fleet.service().up(1)
    await down_everywhere(fleet)
    unknown = renamed(fleet, fleet.folder if place == "the same machine" else tmp_path / "other")
    step = await unknown.scaler().step()
    assert ("paused since" in step.decision.reason, fleet.server.alive()) == (True, [])


async def test_a_down_of_every_fleet_holds_on_this_machine_without_redis_too(fleet: RentedFleet) -> None:
    redis, fleet.client = fleet.client, None
    await down_everywhere(fleet)
    fleet.client = redis
    step = await renamed(fleet, fleet.folder).scaler().step()
    assert ("paused since" in step.decision.reason, fleet.server.alive()) == (True, [])


async def test_an_up_ends_the_pause_of_every_fleet_for_its_own_alone(
    fleet: RentedFleet, tmp_path: Path
) -> None:
    await down_everywhere(fleet)
    await fleet.clock.sleep(1)
    one, other = renamed(fleet, fleet.folder), renamed(fleet, tmp_path / "other")
    await one.service().up(1)
    assert (await one.service().status()).paused is None
    assert (await other.service().status()).paused is None  # it is the same fleet, seen from elsewhere
    assert (await fleet.service().status()).paused is not None


async def test_who_looks_at_a_fleet_from_where_every_one_was_taken_down_pauses_it_nowhere_else(
    fleet: RentedFleet, tmp_path: Path
) -> None:
    redis, fleet.client = fleet.client, None
    await down_everywhere(fleet)
    fleet.client = redis
    here, there = renamed(fleet, fleet.folder), renamed(fleet, tmp_path / "other")
    await fleet.clock.sleep(1)
    await there.service().up(1)
    assert (await here.service().status()).paused is not None
    assert (await there.service().status()).paused is None


async def test_an_up_that_was_asked_for_before_a_down_of_every_fleet_buys_nothing(
    fleet: RentedFleet, tmp_path: Path
) -> None:
    unknown = renamed(fleet, tmp_path / "other")
    asked = fleet.clock.now()
    await fleet.clock.sleep(1)
    await down_everywhere(fleet)
    with pytest.raises(FleetBusy):
        await unknown.service().up(1, began=asked)
    assert fleet.server.created_total == 0


async def test_a_down_of_every_fleet_that_could_end_nothing_pauses_no_other(
    fleet: RentedFleet, tmp_path: Path
) -> None:
    fleet.server.arm(Fault.LIST_NULL, times=None)
    with pytest.raises(ProviderError):
        await down_everywhere(fleet)
    for folder in (fleet.folder, tmp_path / "other"):
        assert not await FleetRecords(renamed(fleet, folder).registry, None, fleet.clock, 0.0).pauses()


async def test_pauses_of_every_fleet_are_kept_in_a_limited_number(fleet: RentedFleet) -> None:
    for _ in range(60):
        await FleetRecords(fleet.registry, None, fleet.clock, 0.0).pause(everywhere=True)
        await fleet.clock.sleep(1)
    assert len(list((fleet.folder / "fleets").glob("paused.*"))) == 50
    assert await fleet.client.hlen(pauses_of_all("vast", fleet.account)) == 50


@pytest.mark.parametrize("writer", ["by its key alone", "by its number too"])
async def test_a_down_of_every_fleet_holds_under_each_name_of_the_account(
    fleet: RentedFleet, tmp_path: Path, writer: str
) -> None:
    """An older llmhost, or one that could not ask whose its key is, knows the key alone."""
    key, both = partial(tuple, [fleet.account]), partial(tuple, [f"{fleet.account}-2", fleet.account])
    writes, reads = (key, both) if writer == "by its key alone" else (both, key)
    here, there = records_by(fleet, writes), records_by(renamed(fleet, tmp_path / "other"), reads)
    pause = await here.pause(everywhere=True)
    assert list(await there.pauses()) == [pause.id]
    await here.undo_pause(pause)
    assert not await records_by(renamed(fleet, tmp_path / "third"), reads).pauses()


def records_by(fleet: RentedFleet, accounts: Callable[[], tuple[str, ...]]) -> FleetRecords:
    """What a machine records that calls the account so."""
    registry = fleet.registry
    marks = replace(fleet.marks, accounts=accounts)
    registry.marks, registry.pauses = marks, PauseBook(fleet.client, fleet.fleet, marks, fleet.clock.compare)
    return FleetRecords(registry, None, fleet.clock, 0.0)


async def test_a_user_of_redis_with_the_rights_for_one_fleet_alone_pauses_that_one(
    fleet: RentedFleet,
) -> None:
    name, rights = fleet.fleet, {"keys": [f"llmhost:{fleet.fleet}:*"], "commands": ["+@all"]}
    await fleet.client.acl_setuser(name, enabled=True, passwords=["+secret"], **rights)
    place = fleet.client.connection_pool.connection_kwargs["path"]
    async with Redis(unix_socket_path=place, username=name, password="secret") as client:
        limited = replace(fleet, client=client)
        assert (await down_everywhere(limited)).failed == ()
        assert (await limited.service().status()).paused is not None
    await fleet.client.acl_deluser(name)


# Another llmhost, of an older version, which keeps a pause in another place


async def old_pause(fleet: RentedFleet) -> bytes | None:
    return await fleet.client.hget(FleetKeys(fleet.fleet).scale, "paused")


async def test_an_older_llmhost_finds_the_pause_where_it_looks_until_the_last_one_is_lifted(
    fleet: RentedFleet,
) -> None:
    records = FleetRecords(fleet.registry, None, fleet.clock, 0.0)
    first, second = await records.pause(), await records.pause()
    held = [await old_pause(fleet)]
    for one in (second, first):
        await records.undo_pause(one)
        held.append(await old_pause(fleet))
    assert [raw is not None for raw in held] == [True, True, False]


async def test_the_pause_of_an_older_llmhost_holds_until_an_up(fleet: RentedFleet) -> None:
    await fleet.client.hset(FleetKeys(fleet.fleet).scale, "paused", repr(fleet.clock.now()))
    await FleetRecords(fleet.registry, None, fleet.clock, 0.0).undo_pause(
        await FleetRecords(fleet.registry, None, fleet.clock, 0.0).pause()
    )
    fleet.scale = replace(fleet.scale, min_gpus=1)
    await fleet.scaler().step()
    assert fleet.server.alive() == []
    await fleet.clock.sleep(1)
    await fleet.service().up(1)
    assert await old_pause(fleet) is None
