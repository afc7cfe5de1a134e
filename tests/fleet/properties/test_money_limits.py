"""Attempts to have a rented fleet go over its limits, hang for ever, or end those that it should keep."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.fleet_values import make_offer
from doubles.memory_provider import RentingProvider
from doubles.rented_fleet import RentedFleet
from doubles.vast.faults import Fault
from doubles.vast.instances import Boot

from llmhost.config.models import RedisConfig
from llmhost.errors import FleetBusy, LimitError, LimitInDoubt, ProviderError, StateError, StoreRefused
from llmhost.fleet.budget import Limits
from llmhost.fleet.models import Intent, WorkerState
from llmhost.fleet.providers.vast.provider import VastProvider
from llmhost.fleet.purchases import PurchaseBook
from llmhost.fleet.registry import FleetRecords
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys

HOUR, DAY = 3600.0, 86_400.0


# Limits


async def test_the_last_of_many_purchases_knows_what_the_first_have_cost_meanwhile(
    fleet: RentedFleet,
) -> None:
    offers = [fleet.server.market.add(dph_base=1.0) for _ in range(40)]
    fleet.server.world.boot = Boot(created=0, loading=0, running=0)
    limit = 40 * 1.011 / 2  # half an hour of forty
    fleet = replace(fleet, max_gpus=40, limits=Limits(per_day=limit))
    fleet.settings = fleet.settings.model_copy(update={"offers": "dph_base>=1 num_gpus=1 gpu_name=RTX_4090"})
    midnight = fleet.clock.now() - fleet.clock.now() % DAY + DAY
    await fleet.clock.sleep(midnight - HOUR / 2 - fleet.clock.now())

    async def approve(quote: Any) -> None:  # and then all of them become dearer
        for offer in offers:
            fleet.server.market.offers[offer["id"]] = {**offer, "dph_base": 1.2}

    result = await fleet.service().up(40, wait=False, approve=approve)
    assert 30 < len(result.workers) < 40
    await fleet.clock.sleep(midnight - fleet.clock.now())
    assert fleet.server.billed_total() <= limit


async def test_a_lost_ledger_does_not_forget_what_was_billed_today(fleet: RentedFleet) -> None:
    fleet = replace(fleet, limits=Limits(per_day=2.9))  # twelve hours of one worker, or six of two
    noon = fleet.clock.now() - fleet.clock.now() % DAY + DAY + 12 * HOUR
    await fleet.clock.sleep(noon - fleet.clock.now())
    await fleet.service().up(1)
    await fleet.clock.sleep(6 * HOUR)
    await fleet.service().down()
    await fleet.client.flushdb()
    with pytest.raises(LimitError):
        await fleet.service().up(2)


async def test_status_knows_what_was_billed_in_a_month_that_the_ledger_has_lost(fleet: RentedFleet) -> None:
    await fleet.service().up(2)
    await fleet.clock.sleep(30 * HOUR)
    await fleet.service().down()
    await fleet.clock.sleep(72 * HOUR)
    await fleet.client.flushdb()
    status = await fleet.service().status()
    assert status.spending.total == pytest.approx(fleet.server.billed_total(), abs=0.01)


async def test_when_redis_has_lost_everything_the_workers_stay(fleet: RentedFleet) -> None:
    await fleet.service().up(2)
    before = fleet.ids
    await fleet.client.flushdb()
    result = await fleet.service().up(2)
    assert ({worker.id for worker in result.workers}, fleet.ids) == (before, before)
    assert fleet.server.created_total == 2


async def test_when_redis_is_away_all_the_time_nothing_is_lost(fleet: RentedFleet, tmp_path: Path) -> None:
    away = replace(fleet, client=connect(RedisConfig(), socket=tmp_path / "nobody.sock"))
    await away.service().up(2)
    status = await away.service().status()
    assert {worker.id for worker in status.workers} == fleet.ids
    assert status.spending.total == pytest.approx(fleet.server.billed_total(), abs=0.02)
    result = await away.service().down()
    assert (len(result.destroyed), fleet.ids) == (2, set())


# What was refused, and may have been sold all the same


def refuse(fleet: RentedFleet, times: int, *, sold: bool = False) -> None:
    """The next purchases are refused; those that are `sold` all the same show 25 s later."""
    for _ in range(times):
        fleet.server.arm(Fault.CREATE_GONE_BUT_BOUGHT if sold else Fault.OFFER_TAKEN)
        if sold:
            fleet.server.arm(Fault.SHOWN_LATE, value=25.0)


def watched(fleet: RentedFleet) -> list[float]:
    """USD an hour of all that exists, after each call."""
    burns: list[float] = []

    async def after(endpoint: str, number: int) -> None:
        burns.append(sum(fleet.prices))

    fleet.server.after = after
    return burns


async def test_offers_that_are_refused_and_sold_all_the_same_stay_within_the_budget(
    fleet: RentedFleet,
) -> None:
    fleet.limits = Limits(per_hour=0.3)
    refuse(fleet, 7, sold=True)
    burns = watched(fleet)
    result = await fleet.service().up(1)
    assert max(burns) <= 0.3
    assert ({worker.id for worker in result.workers}, result.failed) == (fleet.ids, ())


async def test_offers_that_are_refused_and_sold_all_the_same_stay_within_the_most_workers(
    fleet: RentedFleet,
) -> None:
    fleet.max_gpus = 2
    refuse(fleet, 3, sold=True)
    burns = watched(fleet)
    result = await fleet.service().up(2)
    assert max(burns) == pytest.approx(sum(fleet.prices))
    assert (len(result.workers), len(fleet.ids)) == (2, 2)


@pytest.mark.parametrize("wait", [True, False])
async def test_one_that_was_refused_and_shows_when_it_has_failed_goes_before_another_one_comes(
    fleet: RentedFleet, wait: bool
) -> None:
    fleet.max_gpus = 1
    refuse(fleet, 1, sold=True)
    fleet.server.arm(Fault.EXITS, value=0.0)
    burns = watched(fleet)
    result = await fleet.service().up(1, wait=wait)
    assert max(burns) <= 0.25  # one, not two
    states = [worker.state for worker in result.workers]
    assert (states, len(result.failed)) == (([WorkerState.READY], 0) if wait else ([], 1))


@pytest.mark.parametrize(("per_hour", "waits"), [(0.3, 1), (None, 0)])
async def test_an_up_waits_for_what_was_refused_only_where_the_limits_leave_no_room_beside_it(
    fleet: RentedFleet, per_hour: float | None, waits: int
) -> None:
    fleet.limits = Limits(per_hour=per_hour)
    refuse(fleet, 1)
    stages: list[str] = []
    begun = fleet.clock.monotonic()
    result = await fleet.service().up(
        1, wait=False, on_progress=lambda step: stages.append(f"{step.worker}: {step.stage}")
    )
    assert (len(result.workers), result.failed) == (1, ())
    waited = [stage for stage in stages if stage.startswith("fleet: wait")]
    assert (len(waited), fleet.clock.monotonic() - begun >= 60) == (2 * waits, bool(waits))


async def test_an_up_whose_offers_were_refused_continues_when_the_first_of_them_is_known(
    fleet: RentedFleet,
) -> None:
    fleet.limits = Limits(per_hour=0.45)  # two of the cheapest
    for _ in range(5):
        fleet.server.market.add(dph_base=0.2)
    refuse(fleet, 4)
    begun = fleet.clock.monotonic()
    result = await fleet.service().up(1, wait=False)
    assert (len(result.workers), result.failed) == (1, ())
    assert 120 <= fleet.clock.monotonic() - begun < 180  # two at once, twice


async def test_what_a_watch_has_listed_a_moment_before_is_not_passed_over(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.limits = Limits(per_hour=0.3)
    refuse(fleet, 1, sold=True)
    intents = VastProvider.intents

    async def after_another_look(self: VastProvider) -> Any:
        for instance in fleet.server.instances.values():
            instance.quirks.pop(Fault.SHOWN_LATE, None)
        await self.list()  # as of those that wait for other workers
        return await intents(self)

    monkeypatch.setattr(VastProvider, "intents", after_another_look)
    await fleet.service().up(1, wait=False)
    assert fleet.server.created_total == 1


async def test_what_was_refused_counts_for_a_replacement_too(fleet: RentedFleet) -> None:
    fleet.limits = Limits(per_hour=0.3)
    fleet.server.arm(Fault.EXITS, value=0.0)
    burns = watched(fleet)

    async def before(endpoint: str, number: int) -> None:
        if endpoint == "destroy":
            fleet.server.before = None
            refuse(fleet, 2, sold=True)

    fleet.server.before = before
    result = await fleet.service().up(1)
    assert max(burns) <= 0.3
    assert ([worker.state for worker in result.workers], len(fleet.ids)) == ([WorkerState.READY], 1)


async def test_a_step_of_scale_says_what_it_would_have_to_wait_for_and_the_next_one_continues(
    fleet: RentedFleet,
) -> None:
    fleet.scale = replace(fleet.scale, min_gpus=1)
    fleet.limits = Limits(per_hour=0.3)
    refuse(fleet, 2)
    begun = fleet.clock.monotonic()
    step = await fleet.scaler().step()
    assert isinstance(step.error, LimitInDoubt)
    assert [action.detail for action in step.actions] == [step.error.message]
    assert "purchases in doubt (1)" in step.error.message
    assert fleet.clock.monotonic() - begun < 30
    fleet.server.faults.armed.clear()
    await fleet.clock.sleep(60)
    assert ((await fleet.scaler().step()).error, len(fleet.ids)) == (None, 1)


async def test_a_damaged_purchase_that_cannot_be_written_anew_is_not_waited_for_for_ever(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.max_gpus = 1
    write = PurchaseBook.write

    async def refused(self: PurchaseBook, intent: Intent) -> None:
        if intent.id == "damaged":
            raise StoreRefused("out of memory")
        await write(self, intent)

    monkeypatch.setattr(PurchaseBook, "write", refused)
    await fleet.client.hset(FleetKeys(fleet.fleet).purchases, "damaged", "{")
    begun = fleet.clock.monotonic()
    with pytest.raises(LimitInDoubt):
        await fleet.service().up(1, wait=False)
    assert fleet.clock.monotonic() - begun < 300


async def test_a_down_ends_an_up_that_waits_for_what_was_refused(fleet: RentedFleet) -> None:
    fleet.limits = Limits(per_hour=0.3)
    refuse(fleet, 1)
    begun = fleet.clock.monotonic()
    other = FleetRecords(fleet.registry, None, fleet.clock, 0.0)

    async def before(endpoint: str, number: int) -> None:
        if endpoint == "list" and fleet.server.calls["create"] and not await other.pauses():
            await other.pause()

    fleet.server.before = before
    stages: list[str] = []
    with pytest.raises(FleetBusy):
        await fleet.service().up(1, on_progress=lambda step: stages.append(step.stage))
    assert ["a refused purchase counts" in stage for stage in stages] == [True]
    assert fleet.clock.monotonic() - begun < 30


# Who stays


async def test_of_too_many_those_that_answer_stay(fleet: RentedFleet) -> None:
    await fleet.service().up(3)
    oldest, *_ = sorted(fleet.ids)
    fleet.wedged.add(oldest)
    result = await fleet.service().up(2)
    assert oldest not in fleet.ids
    assert {worker.id for worker in result.workers} == fleet.ids
    assert fleet.server.created_total == 3


async def test_a_fleet_whose_name_begins_alike_is_left_alone(fleet: RentedFleet) -> None:
    other = replace(fleet, fleet=f"{fleet.fleet}-2")
    await other.service().up(1)
    theirs = fleet.ids
    await fleet.service().up(1)
    await fleet.service().down_orphans()
    await fleet.service().down()
    assert fleet.ids == theirs


@pytest.mark.parametrize("label", [None, "", "mine now", "llmhost/other/1700000000-00000000"])
async def test_an_instance_on_record_is_shown_and_ended_whatever_its_label(
    fleet: RentedFleet, label: str | None
) -> None:
    await fleet.service().up(2)
    one, _ = fleet.server.alive()
    fleet.server.instances[one].label = label
    shown = {worker.id: worker.state for worker in (await fleet.service().status()).workers}
    assert shown[f"vast-{one}"] is WorkerState.FAILED
    await fleet.service().down()
    assert fleet.server.alive() == []


@pytest.mark.parametrize("status", ["frozen", "exited"])
async def test_one_that_will_not_run_again_is_ended_and_replaced_once(
    fleet: RentedFleet, status: str
) -> None:
    await fleet.service().up(2)
    broken, _ = fleet.server.alive()
    fleet.server.become(broken, status)
    await fleet.service().up(2)
    assert broken not in fleet.server.alive()
    assert (len(fleet.ids), fleet.server.created_total) == (2, 3)


# Time


async def test_one_that_counts_instead_of_booting_is_given_up(bench: Any) -> None:
    class Counting(RentingProvider):
        """Its machines say something new each time that they are listed."""

        async def list(self) -> Any:
            for worker_id in bench.cloud.machines:
                bench.cloud.say(worker_id, f"retrying in {bench.clock.monotonic():g} s")
            return await super().list()

    bench.cloud.market = [make_offer()]
    bench.cloud.boot_seconds = float("inf")
    result = await asyncio.wait_for(bench.make(provider=Counting(bench.cloud)).up(1), 20)
    assert ["nothing moved for 60 s" in failure.message for failure in result.failed] == [True]
    assert bench.cloud.machines == {}


async def test_a_hundred_refusals_buy_nothing_and_end(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.TOO_MANY, times=None, endpoint="create")
    with pytest.raises(ProviderError):
        await fleet.service().up(2)
    assert fleet.server.created_total == 0
    assert fleet.clock.monotonic() < 600


async def test_a_very_long_retry_after_is_not_waited_for(fleet: RentedFleet) -> None:
    fleet.server.arm(Fault.TOO_MANY, times=None, value=1e6)
    with pytest.raises(ProviderError):
        await fleet.service().up(2)
    assert fleet.clock.monotonic() < 600


async def test_a_clock_that_was_put_back_buys_nothing_twice(fleet: RentedFleet) -> None:
    await fleet.service().up(2)
    fleet.clock.ahead = -3 * DAY
    result = await fleet.service().up(2)
    status = await fleet.service().status()
    assert len(result.workers) == 2
    assert fleet.server.created_total == 2
    assert status.spending.total >= 0


async def test_credit_that_runs_out_leaves_nothing_that_bills(fleet: RentedFleet) -> None:
    await fleet.service().up(2)
    fleet.server.credit = 0.5
    await fleet.clock.sleep(2 * HOUR)
    with pytest.raises(LimitError, match="credit"):
        await fleet.service().up(2)
    await fleet.service().down()
    assert (fleet.server.alive(), fleet.server.created_total) == ([], 2)


# Disk


async def test_a_disk_that_is_full_stops_the_purchase_before_it_is_made(fleet: RentedFleet) -> None:
    intents = fleet.folder / fleet.fleet / "intents"
    intents.parent.mkdir(parents=True)
    intents.write_text("in the way")
    with pytest.raises(StateError):
        await fleet.service().up(1)
    assert fleet.server.created_total == 0


async def test_what_was_bought_as_the_disk_filled_up_is_ended_from_anywhere(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StateError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("llmhost.fleet.providers.vast.create.PendingPurchases.resolve", full)
        with suppress(StateError):
            await fleet.service().up(1)
        assert len(fleet.ids) == 1
    result = await fleet.elsewhere().service().down()
    assert (len(result.destroyed), fleet.ids) == (1, set())
