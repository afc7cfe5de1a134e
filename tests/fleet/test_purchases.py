"""What is being bought on one machine is known to all machines of its Redis before it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from doubles.rented_fleet import RentedFleet
from doubles.vast.faults import Fault

from llmhost.errors import FleetBusy, ProviderError, PurchaseUnclear, StoreRefused, StoreUnavailable
from llmhost.fleet.models import Intent, Payer, Registered
from llmhost.fleet.pause import PauseBook
from llmhost.fleet.providers.vast.client import VastAccount
from llmhost.fleet.providers.vast.faults import NoResponse
from llmhost.fleet.purchases import PurchaseBook
from llmhost.fleet.registry import FleetRecords, FleetRegistry
from llmhost.store.clock import Ahead
from llmhost.store.keys import FleetKeys

NOW = 1_700_000_000.0
INTENT = Intent(
    "1700000000-0a1b2c3d",
    "7000001",
    "20001",
    NOW,
    model="tiny",
    worker="vast-1",
    price_per_hour=0.5,
    payer=Payer("42", "f" * 8),
)


def book_of(client: Any, *, ahead: float = 0.0) -> PurchaseBook:
    """`ahead` is how many seconds the clock of Redis is before that of the machine that keeps the book."""

    async def compare() -> Ahead:
        return Ahead(ahead, ahead)

    return PurchaseBook(client, "test", compare)


async def begun(fleet: RentedFleet) -> list[Intent]:
    return list((await fleet.registry.known(fleet.clock.now())).begun)


async def test_a_purchase_is_read_as_it_was_written(redis_client: Any) -> None:
    await book_of(redis_client).write(INTENT)
    assert await book_of(redis_client).read(NOW) == [INTENT]


async def test_when_it_was_begun_is_right_on_a_machine_with_another_clock(redis_client: Any) -> None:
    await book_of(redis_client, ahead=1200.0).write(INTENT)
    (intent,) = await book_of(redis_client, ahead=-300.0).read(NOW + 1500.0)
    assert intent.written == NOW + 1500.0


async def test_after_a_quarter_of_an_hour_it_is_none_any_more(redis_client: Any) -> None:
    await book_of(redis_client).write(INTENT)
    assert await book_of(redis_client).read(NOW + 900.0) == []
    assert await redis_client.exists(FleetKeys("test").purchases) == 0


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff", b'{"id": "another"}', b"[1]", b'{"written": "x"}'])
async def test_what_cannot_be_read_was_begun_all_the_same(redis_client: Any, text: bytes) -> None:
    await redis_client.hset(FleetKeys("test").purchases, INTENT.id, text)
    assert await book_of(redis_client).read(NOW) == [Intent(INTENT.id, "", "", NOW)]
    assert await book_of(redis_client).read(NOW + 899.0) != []
    assert await book_of(redis_client).read(NOW + 900.0) == []


@pytest.mark.parametrize(
    "odd",
    [
        {"written": NOW + 86400.0},
        {"price_per_hour": -1000.0},
        {"price_per_hour": 1e300},
        {"payer": Payer("9" * 5000)},
        {"worker": "vast-" + "9" * 5000},
        {"model": "m" * 10_000},
    ],
    ids=repr,
)
async def test_a_purchase_that_makes_no_sense_says_nothing_but_that_there_may_be_one(
    redis_client: Any, odd: dict[str, Any]
) -> None:
    await book_of(redis_client).write(replace(INTENT, **odd))
    assert await book_of(redis_client).read(NOW) == [Intent(INTENT.id, "", "", NOW)]


async def test_the_purchase_of_a_worker_that_is_gone_is_forgotten(redis_client: Any) -> None:
    book = book_of(redis_client)
    await book.write(INTENT)
    await book.write(replace(INTENT, id="1700000000-ffffffff", worker=""))
    await book.drop_of("vast-1", NOW)
    assert [intent.worker for intent in await book.read(NOW)] == [""]


# A fleet on two machines


async def test_it_is_written_down_before_the_provider_is_asked(fleet: RentedFleet) -> None:
    seen: list[int] = []

    async def before(endpoint: str, _: int) -> None:
        if endpoint == "create":
            seen.append(len(await begun(fleet.elsewhere())))

    fleet.server.before = before
    await fleet.service().up(2)
    assert (seen, await begun(fleet)) == ([1, 2], [])


async def test_a_down_on_another_machine_does_not_pass_over_a_purchase_in_doubt(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.CREATE_CUT)
    fleet.server.arm(Fault.SHOWN_LATE, value=600.0)
    with pytest.raises(PurchaseUnclear):
        await fleet.service().up(1)
    for end in (fleet.elsewhere().service().down, fleet.elsewhere().service().stay_down):
        result = await end()
        assert ["not known yet whether the purchase" in failure.message for failure in result.failed] == [
            True
        ]
    await fleet.clock.sleep(600)
    assert len((await fleet.elsewhere().service().down()).destroyed) == 1
    assert (await fleet.elsewhere().service().down()).failed == ()


async def test_what_was_sold_and_is_not_shown_yet_is_no_worker_that_is_gone_on_another_machine(
    fleet: RentedFleet,
) -> None:
    fleet.server.arm(Fault.SHOWN_LATE, value=300.0)
    (worker,) = (await fleet.service().up(1, wait=False)).workers
    result = await fleet.elsewhere().service().down()
    assert ([failure.worker for failure in result.failed], result.destroyed) == ([worker.id], ())
    assert worker.id in (await fleet.registry.workers()).ids
    await fleet.clock.sleep(300)
    assert (await fleet.elsewhere().service().down()).destroyed == (worker.id,)


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_what_was_sold_and_is_not_shown_yet_is_not_bought_again(
    fleet: RentedFleet, elsewhere: bool
) -> None:
    fleet.scale = replace(fleet.scale, min_gpus=1)
    fleet.server.arm(Fault.SHOWN_LATE, value=300.0, times=None)
    await fleet.service().up(1, wait=False)
    other = fleet.elsewhere() if elsewhere else fleet
    again = await other.service().up(1, wait=False)
    await other.scaler().step()
    assert (fleet.server.created_total, {worker.id for worker in again.workers}) == (1, fleet.ids)


async def test_what_was_refused_is_in_doubt_for_a_minute_on_every_machine(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.SPEND_RATE)
    with pytest.raises(ProviderError):
        await fleet.service().up(1)
    for machine in (fleet, fleet.elsewhere()):
        (doubt,) = (await machine.service().status()).doubts
        assert "refused a moment ago" in doubt.message
    await fleet.clock.sleep(60)
    assert (await fleet.elsewhere().service().status()).doubts == ()
    assert (await begun(fleet), (await fleet.service().status()).doubts) == ([], ())


async def test_the_minute_begins_when_the_purchase_is_refused(fleet: RentedFleet) -> None:
    async def before(endpoint: str, _: int) -> None:
        if endpoint == "create":
            await fleet.clock.sleep(70)  # as after being told to come again later

    fleet.server.before = before
    fleet.server.arm(Fault.SPEND_RATE)
    with pytest.raises(ProviderError):
        await fleet.service().up(1)
    for machine in (fleet, fleet.elsewhere()):
        assert len((await machine.service().status()).doubts) == 1


async def test_what_was_never_sent_leaves_no_doubt(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unsent(_: object, __: int, ___: object, before: Callable[[], Any]) -> Any:
        await before()
        raise NoResponse("no way to vast.ai", may_have_executed=False)

    monkeypatch.setattr(VastAccount, "create", unsent)
    with pytest.raises(ProviderError):
        await fleet.service().up(1)
    assert (await begun(fleet), (await fleet.service().status()).doubts) == ([], ())


async def test_an_up_that_ends_meanwhile_says_until_when_what_was_refused_may_still_be_listed(
    fleet: RentedFleet,
) -> None:
    fleet.server.arm(Fault.CREATE_GONE_BUT_BOUGHT)
    fleet.server.arm(Fault.SHOWN_LATE, value=50.0)
    result = await fleet.service().up(1)
    assert (len(result.workers), result.failed, len(fleet.ids)) == (1, (), 2)
    (intent,) = [intent for intent in await begun(fleet) if intent.refused]
    until = datetime.fromtimestamp(math.ceil(intent.written + 60), UTC)
    (warning,) = result.warnings
    assert f"{intent.id} was refused a moment ago, and may be listed all the same until" in warning
    assert f"{until:%H:%M:%S} UTC; run `llmhost fleets` then" in warning
    await fleet.clock.sleep(60)
    again = await fleet.service().up(1)
    assert (again.warnings, len(fleet.ids)) == ((), 1)


async def test_a_worker_that_shows_after_it_was_refused_is_ended_from_elsewhere(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.CREATE_GONE_BUT_BOUGHT)
    fleet.server.arm(Fault.SHOWN_LATE, value=25.0)
    await fleet.service().up(1, wait=False)
    await fleet.clock.sleep(30)
    other = fleet.elsewhere().service()
    late = min(worker.id for worker in await other.list())
    result = await other.down([late])
    assert (result.destroyed, result.failed) == ((late,), ())


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_down_waits_for_what_was_refused_and_may_have_been_bought(
    fleet: RentedFleet, elsewhere: bool
) -> None:
    fleet.server.arm(Fault.CREATE_GONE_BUT_BOUGHT)
    fleet.server.arm(Fault.SHOWN_LATE, value=25.0)
    await fleet.service().up(1, wait=False)
    assert fleet.server.created_total == 2
    result = await (fleet.elsewhere() if elsewhere else fleet).service().down()
    assert (len(result.destroyed), result.failed, fleet.ids) == (2, (), set())


@pytest.mark.parametrize("fault", [Fault.CREATE_GONE_BUT_BOUGHT, Fault.CREATE_CUT])
async def test_what_shows_after_the_list_was_read_is_in_doubt(fleet: RentedFleet, fault: Fault) -> None:
    fleet.server.arm(fault)
    fleet.server.arm(Fault.SHOWN_LATE, value=1e9)
    with suppress(PurchaseUnclear):
        await fleet.service().up(1, wait=False)
    late = fleet.server.instances[min(fleet.server.instances)]
    lists = 0

    async def before(endpoint: str, _: int) -> None:
        nonlocal lists
        lists += endpoint == "list"
        if endpoint == "list" and lists == 2:
            late.quirks[Fault.SHOWN_LATE] = 0.0

    fleet.server.before = before
    status = await fleet.service().status()
    assert len(status.doubts) == 1
    assert f"vast-{late.id}" not in {worker.id for worker in status.workers}


async def test_what_was_refused_to_another_account_stays_in_doubt(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.CREATE_GONE_BUT_BOUGHT)
    fleet.server.arm(Fault.SHOWN_LATE, value=1e9)
    (worker,) = (await fleet.service().up(1, wait=False)).workers
    await fleet.service().down([worker.id])
    fleet.server.change_account()
    for _ in range(2):
        (failure,) = (await fleet.service().down()).failed
        assert "cannot be seen with this API key" in failure.message
        await fleet.clock.sleep(600)


async def test_a_purchase_that_a_down_stopped_leaves_nothing_to_wait_for(fleet: RentedFleet) -> None:
    searches = 0

    async def before(endpoint: str, _: int) -> None:
        nonlocal searches
        searches += endpoint == "search"
        if endpoint == "search" and searches == 2:
            await FleetRecords(fleet.registry, None, fleet.clock, 0.0).pause()

    fleet.server.before = before
    with pytest.raises(FleetBusy):
        await fleet.service().up(1)
    assert (fleet.server.created_total, await begun(fleet)) == (0, [])


async def test_nothing_is_bought_of_which_a_redis_that_was_there_could_not_be_told(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise StoreRefused("Redis has no memory left")

    monkeypatch.setattr(PurchaseBook, "write", full)
    with pytest.raises(StoreRefused):
        await fleet.service().up(1)
    assert (fleet.server.created_total, await fleet.provider().intents()) == (0, ())


async def test_what_appears_and_is_ended_elsewhere_is_waited_for_no_longer(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.CREATE_CUT)
    fleet.server.arm(Fault.SHOWN_LATE, value=60.0)
    with pytest.raises(PurchaseUnclear):
        await fleet.service().up(1)
    await fleet.clock.sleep(60)
    other = fleet.elsewhere()
    assert len((await other.service().down()).destroyed) == 1
    assert (await begun(fleet), (await other.service().down()).failed) == ([], ())


# Redis that is away for a moment


@pytest.fixture
def blink(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Redis does not say what is on record, so many times."""

    def begin(times: int) -> None:
        known, left = FleetRegistry.known, times

        async def away(self: FleetRegistry, now: float) -> Registered:
            nonlocal left
            left -= 1
            if left >= 0:
                raise StoreUnavailable("Redis was away for a moment")
            return await known(self, now)

        monkeypatch.setattr(FleetRegistry, "known", away)

    return begin


async def test_an_up_from_which_redis_was_away_for_a_moment_buys_nothing_twice(
    fleet: RentedFleet, blink: Callable[[int], None]
) -> None:
    fleet.server.arm(Fault.SHOWN_LATE, value=300.0)
    await fleet.service().up(1, wait=False)
    blink(1)
    await fleet.elsewhere().service().up(1, wait=False)
    assert fleet.server.created_total == 1


async def test_an_up_that_cannot_read_what_others_bought_buys_nothing(
    fleet: RentedFleet, blink: Callable[[int], None]
) -> None:
    blink(9)
    with pytest.raises(StoreUnavailable):
        await fleet.service().up(1)
    assert fleet.server.created_total == 0


@pytest.mark.parametrize("shared", [True, False])
async def test_a_down_that_could_not_read_what_others_bought_fails_where_there_may_be_others(
    fleet: RentedFleet, blink: Callable[[int], None], shared: bool
) -> None:
    await fleet.service().up(1)
    blink(1)
    result = await replace(fleet.service(), shared=shared).down()
    assert (len(result.destroyed), fleet.server.alive()) == (1, [])
    assert ["could not be read in Redis" in failure.message for failure in result.failed] == [True] * shared


async def test_an_up_that_cannot_read_whether_the_fleet_was_taken_down_buys_nothing(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise StoreUnavailable("Redis was away for a moment")

    monkeypatch.setattr(PauseBook, "read", away)
    with pytest.raises(StoreUnavailable):
        await fleet.service().up(1)
    assert fleet.server.created_total == 0


async def test_what_was_made_for_a_fleet_that_is_to_stay_down_is_ended(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    await fleet.registry.forget(f"vast-{fleet.server.alive()[0]}")
    assert len((await fleet.elsewhere().service().stay_down()).destroyed) == 1
    assert fleet.server.alive() == []
