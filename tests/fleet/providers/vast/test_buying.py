"""Buying at the double of vast.ai: whatever goes wrong, nothing is lost or bought twice."""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.vast.faults import CREATE_EXECUTED, Fault
from doubles.vast.renting import SPEC, Accounts, Providers, best, ids, tell
from doubles.vast.server import VastServer
from doubles.waiting import until

from llmhost.config.fleet import VastConfig
from llmhost.errors import OfferGone, ProviderError, PurchaseUnclear
from llmhost.fleet.doubts import doubt_about
from llmhost.fleet.models import WorkerState
from llmhost.fleet.providers.vast.create import PendingPurchases


async def test_what_is_bought_is_what_was_ordered(
    vast_server: VastServer, vast_provider: Providers, vast_settings: VastConfig
) -> None:
    worker = await vast_provider().create(SPEC)
    (instance,) = vast_server.instances.values()
    assert worker.id == f"vast-{instance.id}"
    order = instance.order
    assert (order.image, order.disk, order.runtype) == ("ollama/ollama:latest", 50.0, "ssh_direc ssh_proxy")
    assert order.env["LLMHOST_MODEL"] == "tiny"
    assert order.env["LLMHOST_TOKEN"] == worker.token
    assert order.cancel_unavailable


async def test_nothing_secret_stands_in_the_label_or_the_onstart(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    worker = await vast_provider().create(SPEC)
    (instance,) = vast_server.instances.values()
    shown = f"{instance.label} {instance.order.onstart} {instance.order.args}"
    assert worker.token not in shown
    assert vast_server.key not in f"{shown} {instance.order.env}"
    assert f"{instance.label}".startswith("llmhost/test/1700000")


@pytest.mark.parametrize("hidden", [False, True])
async def test_any_machine_with_the_key_can_speak_to_a_worker_and_this_one_even_if_the_list_hides_how(
    vast_server: VastServer, vast_provider: Providers, tmp_path: Path, hidden: bool
) -> None:
    if hidden:
        vast_server.arm(Fault.HIDDEN_ENV)
    created = await vast_provider().create(SPEC)
    reader = vast_provider() if hidden else vast_provider(folder=tmp_path / "elsewhere")
    (seen,) = await reader.list()
    assert "BEGIN CERTIFICATE" in (seen.certificate or "")
    assert (seen.token, seen.certificate, seen.model) == (created.token, created.certificate, "tiny")


async def test_the_order_is_written_down_before_it_is_sent(
    vast_server: VastServer, vast_provider: Providers, fleet_folder: Path
) -> None:
    seen: list[Any] = []

    async def look(endpoint: str, number: int) -> None:
        if endpoint == "create":
            (file,) = (fleet_folder / "intents").iterdir()
            seen.append((json.loads(file.read_text()), stat.S_IMODE(file.stat().st_mode)))

    vast_server.before = look
    worker = await vast_provider().create(SPEC)
    ((order, mode),) = seen
    assert mode == 0o600
    assert (order["token"], order["instance"]) == (worker.token, None)


#: what reads as a refusal; one that names an instance ends it, and of others the buyer looks at the list
REFUSED = {Fault.CREATE_ERROR_BUT_BOUGHT, Fault.CREATE_GONE_BUT_BOUGHT}


@pytest.mark.parametrize("fault", [fault for fault in CREATE_EXECUTED if fault not in REFUSED])
async def test_what_was_bought_without_a_clear_answer_is_found(
    vast_server: VastServer, vast_provider: Providers, fault: Fault
) -> None:
    vast_server.arm(fault)
    provider = vast_provider()
    worker = await provider.create(SPEC)
    assert vast_server.calls["create"] == 1
    assert worker.id in ids(await provider.list())
    assert list(await provider.intents()) == []
    assert (await tell(provider, worker.id)).token == worker.token


async def test_of_two_bought_for_one_order_one_has_failed_and_can_be_destroyed(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    vast_server.arm(Fault.CREATE_TWICE)
    provider = vast_provider()
    worker = await provider.create(SPEC)
    kept, twin = sorted(await provider.list(), key=lambda worker: worker.id)
    assert (kept.id, kept.state) == (worker.id, WorkerState.STARTING)
    assert (twin.state, "bought twice" in twin.detail) == (WorkerState.FAILED, True)
    await provider.destroy(twin.id)
    assert ids(await provider.list()) == [worker.id]


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.SERVER_ERROR, Fault.UNAVAILABLE, Fault.GARBAGE])
async def test_a_purchase_that_nobody_can_find_is_unclear_and_not_repeated(
    vast_server: VastServer, vast_provider: Providers, manual_clock: ManualClock, fault: Fault
) -> None:
    vast_server.arm(fault, endpoint="create")
    provider = vast_provider()
    begun = manual_clock.monotonic()
    with pytest.raises(PurchaseUnclear):
        await provider.create(SPEC)
    assert manual_clock.monotonic() - begun >= 30
    assert (vast_server.calls["create"], vast_server.created_total) == (1, 0)
    (intent,) = await provider.intents()
    assert intent.offer
    await provider.forget_intent(intent.id)
    assert list(await provider.intents()) == []


async def test_a_purchase_that_shows_late_is_found_by_the_next_command(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    vast_server.arm(Fault.CREATE_CUT)
    vast_server.arm(Fault.SERVER_ERROR, times=None, endpoint="list")
    with pytest.raises(PurchaseUnclear):
        await vast_provider().create(SPEC)
    vast_server.faults.armed.clear()
    (worker,) = await vast_provider().list()
    assert worker.state is WorkerState.STARTING
    assert list(await vast_provider().intents()) == []


@pytest.mark.parametrize("fault", [Fault.OFFER_GONE, Fault.OFFER_TAKEN])
async def test_an_offer_that_somebody_else_took_is_gone(
    vast_server: VastServer, vast_provider: Providers, fault: Fault
) -> None:
    vast_server.arm(fault)
    provider = vast_provider()
    with pytest.raises(OfferGone):
        await provider.create(SPEC)
    assert (await provider.create(SPEC)).id in ids(await provider.list())


@pytest.mark.parametrize("fault", [Fault.OFFER_GONE, Fault.OFFER_TAKEN, Fault.SPEND_RATE])
async def test_what_was_refused_is_in_doubt_for_a_minute(
    vast_server: VastServer, vast_provider: Providers, manual_clock: ManualClock, fault: Fault
) -> None:
    vast_server.arm(fault)
    provider = vast_provider()
    with pytest.raises(ProviderError):
        await provider.create(SPEC)
    (intent,) = await vast_provider().intents()
    assert "refused a moment ago" in str(doubt_about(intent, manual_clock))
    await manual_clock.sleep(61)
    assert list(await provider.intents()) == []
    await provider.list()
    assert list(provider._intents.folder.iterdir()) == []


async def test_what_was_refused_and_bought_all_the_same_is_waited_for(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    vast_server.arm(Fault.CREATE_GONE_BUT_BOUGHT)
    vast_server.arm(Fault.SHOWN_LATE, value=25)
    with pytest.raises(OfferGone):
        await vast_provider().create(SPEC)
    provider = vast_provider()
    assert list(await provider.list()) == []
    await provider.resolve_pending()
    (worker,) = await provider.list()
    assert list(await provider.intents()) == []
    assert (await tell(provider, worker.id)).token


async def test_an_offer_that_never_was_is_gone(vast_server: VastServer, vast_provider: Providers) -> None:
    provider = vast_provider()
    offer = await best(provider)
    with pytest.raises(OfferGone):
        await provider.create(SPEC, replace(offer, id="999"))
    with pytest.raises(ProviderError, match="no offer"):
        await provider.create(SPEC, replace(offer, id="place-1"))
    assert vast_server.created_total == 0


async def test_a_refusal_is_passed_on_and_leaves_no_worker(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    vast_server.arm(Fault.SPEND_RATE)
    provider = vast_provider()
    with pytest.raises(ProviderError, match="New accounts") as caught:
        await provider.create(SPEC)
    assert not isinstance(caught.value, OfferGone | PurchaseUnclear)
    assert list(await provider.list()) == []


async def test_an_instance_that_a_refusal_names_is_destroyed(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    vast_server.arm(Fault.CREATE_ERROR_BUT_BOUGHT)
    provider = vast_provider()
    with pytest.raises(OfferGone):
        await provider.create(SPEC)
    assert (vast_server.created_total, vast_server.alive()) == (1, [])
    assert list(await provider.intents()) == []


async def test_an_instance_that_a_refusal_names_and_that_lives_on_is_not_hidden(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    vast_server.arm(Fault.CREATE_ERROR_BUT_BOUGHT)
    vast_server.arm(Fault.DESTROY_LIES, times=None)
    provider = vast_provider()
    with pytest.raises(PurchaseUnclear, match="could not be ended"):
        await provider.create(SPEC)
    assert len(await provider.list()) == 1


async def test_there_are_never_two_purchases_at_once(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    under_way, most = 0, 0

    async def enter(endpoint: str, number: int) -> None:
        nonlocal under_way, most
        if endpoint == "create":
            under_way += 1
            most = max(most, under_way)
            for _ in range(50):  # turns of the loop in which another purchase could be sent
                await asyncio.sleep(0)

    async def leave(endpoint: str, number: int) -> None:
        nonlocal under_way
        under_way -= endpoint == "create"

    vast_server.before, vast_server.after = enter, leave
    provider = vast_provider()
    offers = (await provider.offers(SPEC)).offers
    await asyncio.gather(*(provider.create(SPEC, offer) for offer in offers[:3]))
    assert (most, vast_server.created_total) == (1, 3)


async def test_a_purchase_that_is_interrupted_on_its_way_is_not_forgotten(
    vast_server: VastServer, vast_account: Accounts, vast_provider: Providers
) -> None:
    may_end = asyncio.Event()

    async def hold(endpoint: str, number: int) -> None:
        if endpoint == "create":
            await may_end.wait()

    vast_server.before = hold
    buying = asyncio.create_task(vast_provider(account=vast_account(timeout=30.0)).create(SPEC))
    await until(lambda: vast_server.calls["create"])
    buying.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await buying
    (worker,) = await vast_provider().list()
    assert worker.state is WorkerState.STARTING


# After a crash


async def test_what_a_crashed_command_bought_is_waited_for(
    vast_server: VastServer, vast_provider: Providers, fleet_folder: Path, manual_clock: ManualClock
) -> None:
    worker = await vast_provider().create(SPEC)
    book = PendingPurchases(fleet_folder / "intents")
    (order,) = book.all()
    book.write(replace(order, instance=None))  # killed before it heard the answer
    (instance,) = vast_server.instances.values()
    instance.label, shows = None, manual_clock.now() + 20

    async def appear(endpoint: str, number: int) -> None:
        instance.label = order.label if manual_clock.now() >= shows else None

    vast_server.before = appear
    await vast_provider().resolve_pending()
    assert ids(await vast_provider().list()) == [worker.id]
    assert manual_clock.now() < shows + 15


async def test_an_order_that_came_to_nothing_is_not_waited_for_for_ever(
    vast_server: VastServer, vast_provider: Providers, manual_clock: ManualClock
) -> None:
    vast_server.arm(Fault.CUT, endpoint="create")
    with pytest.raises(PurchaseUnclear):
        await vast_provider().create(SPEC)
    begun = manual_clock.monotonic()
    await vast_provider().resolve_pending()
    assert manual_clock.monotonic() - begun <= 61
    assert len(await vast_provider().intents()) == 1


async def test_there_is_nothing_to_wait_for_when_all_is_known(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    await vast_provider().create(SPEC)
    await vast_provider().list()
    lists = vast_server.calls["list"]
    await vast_provider().resolve_pending()
    assert vast_server.calls["list"] == lists
