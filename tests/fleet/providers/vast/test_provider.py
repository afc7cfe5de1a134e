"""Renting at the double of vast.ai: whatever goes wrong, nothing is lost, bought twice or left behind."""

from __future__ import annotations

import asyncio
import itertools
import json
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.fleet_values import make_spec
from doubles.vast.answers import Answer, Refused, as_json, as_text, refusal
from doubles.vast.faults import CREATE_EXECUTED, LIST, Fault
from doubles.vast.server import VastServer
from doubles.waiting import until

from llmhost.config.fleet import VastConfig
from llmhost.errors import ConfigError, FleetBusy, OfferGone, ProviderError, PurchaseUnclear
from llmhost.fleet.doubts import doubt_about
from llmhost.fleet.models import Intent, Offer, Payer, SshTarget, Worker, WorkerState
from llmhost.fleet.providers.vast.client import VastAccount, in_thread
from llmhost.fleet.providers.vast.create import PendingPurchases
from llmhost.fleet.providers.vast.provider import VastProvider
from llmhost.fleet.providers.vast.rows import number_in

Providers = Callable[..., VastProvider]
Accounts = Callable[..., VastAccount]

SPEC = make_spec(provider="vast", engine="ollama", model="tiny")


async def best(provider: VastProvider) -> Offer:
    return (await provider.offers(SPEC)).offers[0]


async def rent_running(provider: VastProvider, clock: ManualClock) -> Worker:
    """A worker whose machine runs."""
    created = await provider.create(SPEC)
    await clock.sleep(120)
    return next(worker for worker in await provider.list() if worker.id == created.id)


def ids(workers: Any) -> list[str]:
    return [worker.id for worker in workers]


async def tell(provider: VastProvider, worker_id: str) -> Worker:
    return next(worker for worker in await provider.list() if worker.id == worker_id)


# Offers


async def test_offers_are_ranked_and_the_filters_say_what_they_turned_away(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    market = await vast_provider().offers(SPEC)
    assert {offer.gpu for offer in market.offers} == {"RTX 4090"}
    assert all(offer.reliability > 0.95 and offer.verified for offer in market.offers)
    prices = [offer.price_per_hour for offer in market.offers]
    assert prices == sorted(prices)
    assert set(market.rejected) >= {"gpu_name=RTX_4090", "reliability>0.95", "verified=true"}


@pytest.mark.parametrize(
    "unfit",
    [
        {"direct_port_count": 2},  # SSH, the port that the image exposes, and ours
        {"cuda_max_good": 12.2},  # Ollama does not use a GPU with such a driver
        {"inet_down": 100.0},
        {"inet_down_cost": 0.09},
        {"inet_down_cost": None},
        {"duration": 1800.0},
        {"reliability": 0.9, "reliability2": 0.9},
        {"verification": "unverified"},
        {"num_gpus": 2},
    ],
    ids=str,
)
async def test_a_machine_on_which_a_worker_would_not_serve_is_no_offer_by_default(
    vast_server: VastServer, vast_provider: Providers, unfit: dict[str, Any]
) -> None:
    vast_server.market.clear()
    good = vast_server.market.add(dph_base=0.4)
    vast_server.market.add(**{"dph_base": 0.2} | unfit)
    market = await vast_provider(settings=VastConfig()).offers(SPEC)
    assert [offer.id for offer in market.offers] == [str(good["id"])]


async def test_the_price_of_an_offer_includes_the_disk_that_is_wanted(
    vast_server: VastServer, vast_provider: Providers, vast_settings: VastConfig
) -> None:
    small = await best(vast_provider())
    large = await best(vast_provider(settings=vast_settings.model_copy(update={"disk": 500.0})))
    assert large.price_per_hour > small.price_per_hour


async def test_what_a_worker_costs_is_what_its_offer_said(
    vast_server: VastServer, vast_provider: Providers, manual_clock: ManualClock
) -> None:
    provider = vast_provider()
    offer = await best(provider)
    worker = await rent_running(provider, manual_clock)
    assert worker.burn == pytest.approx(offer.price_per_hour)
    assert vast_server.burn == pytest.approx(worker.burn)


async def test_nothing_that_fits_is_an_error_that_says_where_to_look(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    vast_server.market.clear()
    with pytest.raises(ProviderError, match="fits") as caught:
        await vast_provider().create(SPEC)
    assert "llmhost offers" in (caught.value.hint or "")


async def test_an_interruptible_worker_is_bid_for(
    vast_server: VastServer, vast_provider: Providers, vast_settings: VastConfig, manual_clock: ManualClock
) -> None:
    provider = vast_provider(
        settings=vast_settings.model_copy(update={"interruptible": True, "max_bid": 0.3})
    )
    offer = await best(provider)
    worker = await rent_running(provider, manual_clock)
    (instance,) = vast_server.instances.values()
    assert instance.bid == offer.bid
    assert worker.price_per_hour == pytest.approx(offer.price_per_hour)


async def test_being_outbid_is_noticed(
    vast_server: VastServer, vast_provider: Providers, vast_settings: VastConfig, manual_clock: ManualClock
) -> None:
    provider = vast_provider(
        settings=vast_settings.model_copy(update={"interruptible": True, "max_bid": 0.3})
    )
    worker = await rent_running(provider, manual_clock)
    vast_server.outbid(number_in(worker.id) or 0)
    outbid = await tell(provider, worker.id)
    assert (outbid.state, outbid.stage) == (WorkerState.FAILED, "outbid")
    assert outbid.burn == pytest.approx(vast_server.burn)


# Creating


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
    assert list(provider._intents.all()) == []


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


async def test_a_refusal_is_passed_on_and_leaves_nothing(
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


# Listing


async def test_only_instances_of_this_fleet_are_workers(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    mine = await vast_provider().create(SPEC)
    await vast_provider(fleet="other").create(SPEC)
    vast_server.world.buy(vast_server.market.add(), replace(_order(vast_server), label=None))
    assert len(vast_server.alive()) == 3
    assert ids(await vast_provider().list()) == [mine.id]


def _order(server: VastServer) -> Any:
    return next(iter(server.instances.values())).order


def fill(server: VastServer, count: int) -> None:
    """Rents so many more instances like the one that there is, each under a label of its own."""
    order = _order(server)
    for number in range(count):
        label = f"llmhost/test/1700001{number:03d}-00000000"
        server.world.buy(server.market.add(), replace(order, label=label))


@pytest.mark.parametrize("count", [24, 25, 49, 60])
async def test_a_list_of_many_pages_is_complete(
    vast_server: VastServer, vast_provider: Providers, count: int
) -> None:
    await vast_provider().create(SPEC)
    fill(vast_server, count - 1)
    assert len(await vast_provider().list()) == count
    assert vast_server.too_early.total() == 0


@pytest.mark.parametrize(
    "fault",
    [
        *sorted({*LIST} - {Fault.LIST_EMPTY, Fault.LIST_ODD_ROWS, Fault.LIST_NO_ID}),
        Fault.SERVER_ERROR,
        Fault.GARBAGE,
        Fault.TOO_MANY,
        Fault.CUT,
        Fault.SILENT,
    ],
)
async def test_a_list_that_is_not_whole_is_an_error(
    vast_server: VastServer, vast_provider: Providers, fault: Fault
) -> None:
    await vast_provider().create(SPEC)
    fill(vast_server, 30)
    vast_server.arm(fault, times=None, endpoint="list" if fault not in LIST else None)
    with pytest.raises(ProviderError):
        await vast_provider().list()


async def test_a_list_that_changes_while_it_is_read_shows_what_exists_at_its_end(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    await vast_provider().create(SPEC)
    fill(vast_server, 29)
    first, *_, last = vast_server.alive()
    before = vast_server.calls["list"]

    async def come_and_go(endpoint: str, number: int) -> None:
        if vast_server.calls["list"] == before + 1:
            fill(vast_server, 2)
            vast_server.world.destroy(vast_server.instances[first])
            vast_server.world.destroy(vast_server.instances[last])

    vast_server.after = come_and_go
    listed = set(ids(await vast_provider().list()))
    assert {f"vast-{instance}" for instance in vast_server.alive()} <= listed
    assert f"vast-{last}" not in listed


class Scripted(VastAccount):
    """An account whose list is what a test says, page by page, and over again."""

    owner = None
    fingerprint = ""

    def __init__(self, *pages: Any) -> None:
        self._pages = itertools.cycle(pages)

    async def instances(self, after: str | None) -> object:
        return next(self._pages)


def page(*numbers: Any, total: Any = None) -> dict[str, Any]:
    rows = [{"id": number, "label": None} for number in numbers]
    return {"instances": rows, "total_instances": len(rows) if total is None else total}


def uncounted(*numbers: int) -> dict[str, Any]:
    """Neither how many there are in all, nor where the next page is."""
    return {"instances": page(*numbers)["instances"], "success": True}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"instances": []},
        {"instances": [], "total_instances": "0"},
        {"instances": {}, "total_instances": 0},
        page(1, 1),
        page(1, total=2),
        page(1, 2, total=1),
        page(total=1),
        page(*range(1, 26), total=30),
        uncounted(*range(1, 26)),
    ],
)
async def test_a_list_that_makes_no_sense_is_an_error(vast_provider: Providers, answer: Any) -> None:
    with pytest.raises(ProviderError):
        await vast_provider(account=Scripted(answer)).list()


async def test_a_page_that_has_room_for_more_need_not_say_how_many_there_are(
    vast_provider: Providers,
) -> None:
    assert await vast_provider(account=Scripted(uncounted(*range(1, 25)))).list() == ()


@pytest.mark.parametrize("row", ["none", {"id": "2"}, {"label": "llmhost/test/1"}, {"id": None, "label": 7}])
async def test_a_row_without_a_number_is_shown_and_cannot_be_ended(
    vast_provider: Providers, row: Any
) -> None:
    answer = page(1, total=2)
    answer["instances"].append(row)
    provider = vast_provider(account=Scripted(answer))
    (worker,) = await provider.list()
    assert (worker.id, worker.state) == ("vast-unknown-1", WorkerState.FAILED)
    with pytest.raises(ProviderError, match="no number"):
        await provider.destroy(worker.id)


@pytest.mark.parametrize("fault", [Fault.LIST_ODD_ROWS, Fault.LIST_NO_ID])
async def test_a_list_with_rows_that_say_nothing_still_shows_what_is_on_record(
    vast_server: VastServer, vast_provider: Providers, manual_clock: ManualClock, fault: Fault
) -> None:
    provider = vast_provider()
    worker = await rent_running(provider, manual_clock)
    await manual_clock.sleep(3600)
    vast_server.arm(fault, times=None)
    assert worker.id in ids(await provider.list())
    await provider.destroy(worker.id)
    assert vast_server.alive() == []


async def test_a_strangers_row_without_a_number_is_not_ours(vast_provider: Providers) -> None:
    answer = page(1, total=2)
    answer["instances"].append({"label": "theirs"})
    assert await vast_provider(account=Scripted(answer)).list() == ()


async def test_a_worker_whose_label_was_changed_is_failed_and_can_be_ended(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    provider = vast_provider()
    changed, kept = [await provider.create(SPEC) for _ in range(2)]
    vast_server.instances[number_in(changed.id) or 0].label = "mine now"
    states = {worker.id: worker.state for worker in await provider.list()}
    assert states == {changed.id: WorkerState.FAILED, kept.id: WorkerState.STARTING}
    await provider.destroy(changed.id)
    assert [f"vast-{number}" for number in vast_server.alive()] == [kept.id]


async def test_a_worker_on_record_is_found_by_any_machine_whatever_its_label(
    vast_server: VastServer, vast_provider: Providers, tmp_path: Path
) -> None:
    worker = await vast_provider().create(SPEC)
    vast_server.instances[number_in(worker.id) or 0].label = "mine now"
    elsewhere = vast_provider(folder=tmp_path / "elsewhere")
    assert ids(await elsewhere.list()) == []
    (found,) = await elsewhere.unlisted({worker.id: Payer()})
    assert (found.id, found.state) == (worker.id, WorkerState.FAILED)


async def listed_and_gone(server: VastServer, provider: Any) -> Worker:
    await provider.account()
    worker: Worker = await provider.create(SPEC)
    await provider.list()
    server.world.destroy(server.instances[number_in(worker.id) or 0])
    return worker


async def test_a_worker_is_not_gone_because_another_account_does_not_show_it(
    vast_server: VastServer, vast_provider: Providers, vast_account: Accounts
) -> None:
    provider = vast_provider()
    worker = await listed_and_gone(vast_server, provider)  # as another account sees it
    key, owner = vast_server.key, vast_server.change_account()
    other = vast_provider(account=vast_account(vast_server.key))
    for asking in (other.list, partial(other.destroy, worker.id)):
        with pytest.raises(ProviderError, match=f"{worker.id}: bought by user {owner} .* user 5151's"):
            await asking()
        assert other.on_record() == [worker.id]
    vast_server.key = key
    assert (await vast_provider().list(), other.on_record()) == ((), [])


async def test_a_worker_is_not_gone_while_vast_does_not_say_whose_the_other_key_is(
    vast_server: VastServer, vast_provider: Providers, vast_account: Accounts
) -> None:
    provider = vast_provider()
    worker = await listed_and_gone(vast_server, provider)  # as another account sees it
    vast_server.change_account()
    vast_server.arm(Fault.SERVER_ERROR, endpoint="user", times=None)
    other = vast_provider(account=vast_account(vast_server.key))
    for asking in (
        other.list,
        partial(other.destroy, worker.id),
        partial(other.unlisted, {worker.id: worker.payer}),
        partial(other.destroy, worker.id, worker.payer),
    ):
        with pytest.raises(ProviderError, match=f"{worker.id}: this API key is not proven to be"):
            await asking()
    assert other.on_record() == [worker.id]


async def test_the_key_that_bought_a_worker_proves_that_it_is_gone_though_vast_does_not_say_whose_it_is(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    worker = await vast_provider().create(SPEC)
    await vast_provider().list()
    vast_server.world.destroy(vast_server.instances[number_in(worker.id) or 0])
    vast_server.arm(Fault.SERVER_ERROR, endpoint="user", times=None)
    provider = vast_provider()
    assert not await provider.unlisted({worker.id: worker.payer})
    assert (await provider.list(), provider.on_record()) == ((), [])


async def test_a_new_key_of_the_same_account_proves_that_a_worker_is_gone(
    vast_server: VastServer, vast_provider: Providers, vast_account: Accounts
) -> None:
    provider = vast_provider()
    await provider.account()
    worker = await provider.create(SPEC)
    await provider.list()
    vast_server.world.destroy(vast_server.instances[number_in(worker.id) or 0])
    vast_server.world.user = vast_server.change_account()
    assert await vast_provider(account=vast_account(vast_server.key)).list() == ()


async def test_a_worker_that_another_key_lists_is_gone_when_that_key_lists_it_no_more(
    vast_server: VastServer, vast_provider: Providers, vast_account: Accounts
) -> None:
    vast_server.world.user = None  # vast.ai does not say whose key it is
    worker = await vast_provider().create(SPEC)
    vast_server.change_account()
    (listed,) = await vast_provider(account=vast_account(vast_server.key)).list()
    assert listed.payer.fingerprint not in {"", worker.payer.fingerprint}
    vast_server.world.destroy(vast_server.instances[number_in(worker.id) or 0])
    vast_server.arm(Fault.SERVER_ERROR, endpoint="user", times=None)
    other = vast_provider(account=vast_account(vast_server.key))
    assert (await other.list(), other.on_record()) == ((), [])


async def test_what_an_older_llmhost_wrote_without_a_payer_calls_nothing_gone(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    provider = vast_provider()
    worker = await provider.create(SPEC)
    await provider.list()
    (path,) = provider._intents.folder.glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "owner": None, "fingerprint": None}))
    vast_server.world.destroy(vast_server.instances[number_in(worker.id) or 0])
    with pytest.raises(ProviderError, match="is not proven to be") as caught:
        await vast_provider().list()
    assert f"remove {path.name} in {path.parent}" in (caught.value.hint or "")


async def test_a_number_that_vast_named_and_does_not_show_yet_is_not_gone_for_a_quarter_of_an_hour(
    vast_server: VastServer, vast_provider: Providers, manual_clock: ManualClock
) -> None:
    vast_server.arm(Fault.SHOWN_LATE, value=3600.0)
    worker = await vast_provider().create(SPEC)
    provider = vast_provider()
    assert (ids(await provider.list()), provider.on_record()) == ([worker.id], [worker.id])
    assert [intent.worker for intent in await provider.intents()] == [worker.id]
    with pytest.raises(ProviderError, match=f"not known yet whether {worker.id} exists"):
        await provider.destroy(worker.id, worker.payer)
    await manual_clock.sleep(901)
    assert (ids(await provider.list()), provider.on_record()) == ([], [])


async def test_what_vast_ended_although_it_never_listed_it_is_gone_at_once(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    vast_server.arm(Fault.LISTED_LATE, value=600.0)
    provider = vast_provider()
    await provider.destroy((await provider.create(SPEC)).id)
    assert (vast_server.alive(), provider.on_record(), await provider.intents()) == ([], [], ())


@pytest.mark.parametrize(
    "answer",
    [
        as_text("<html>410 Gone</html>", 410),
        as_text("Unauthorized", 401),
        as_json({"success": False}),
        as_json({"success": False, "msg": "upstream timeout"}),
        as_json({"message": "no Route matched with those values"}, 404),
        as_json({"error": "Bad Request", "message": "the gateway refused it"}, 400),
    ],
)
async def test_a_refusal_that_is_not_in_vasts_words_is_no_proof_that_nothing_was_bought(
    vast_server: VastServer, vast_provider: Providers, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    def refuse(*_: object) -> None:
        raise Refused(answer)

    monkeypatch.setattr("doubles.vast.purchases.success", refuse)
    worker = await vast_provider().create(SPEC)
    assert [worker.id] == [f"vast-{number}" for number in vast_server.alive()]


async def test_what_was_bought_although_vast_said_too_many_requests_is_not_bought_once_more(
    vast_server: VastServer, vast_provider: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        vast_server.world.market.give_back(min(vast_server.world.market.offers))
        raise refusal(429, "too_many_requests", "slow down")

    monkeypatch.setattr("doubles.vast.purchases.success", refuse)
    worker = await vast_provider().create(SPEC)
    assert [worker.id] == [f"vast-{number}" for number in vast_server.alive()]


async def test_a_purchase_that_was_refused_for_now_and_then_given_up_is_in_doubt(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    asked = 0

    async def confirm(_: Intent) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise FleetBusy("it was taken down meanwhile")

    vast_server.arm(Fault.TOO_MANY, endpoint="create")
    provider = vast_provider()
    with pytest.raises(PurchaseUnclear, match="it was taken down meanwhile"):
        await provider.create(SPEC, confirm=confirm)
    assert len(await provider.intents()) == 1


@pytest.mark.parametrize("label", ["LLMHOST/BLUE/{}", "llmhost/other/{}", "my gpu {}"])
async def test_a_label_that_was_edited_before_it_was_ever_listed_still_names_its_order(
    vast_server: VastServer, vast_provider: Providers, label: str
) -> None:
    vast_server.arm(Fault.CREATE_CUT)
    vast_server.arm(Fault.LISTED_LATE, value=600.0)
    provider = vast_provider()
    with pytest.raises(PurchaseUnclear):
        await provider.create(SPEC)
    (intent,) = await provider.intents()
    (number,) = vast_server.alive()
    vast_server.instances[number].quirks.clear()
    vast_server.instances[number].odd |= {"label": label.format(intent.id), "extra_env": []}
    assert ids(await vast_provider().list()) == [f"vast-{number}"]
    vast_server.instances[number].odd |= {"label": "nothing"}
    assert ids(await vast_provider().list()) == [f"vast-{number}"]  # it is on record by then


async def test_where_no_thread_can_be_started_vast_is_asked_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert await in_thread(lambda: "its answer") == "its answer"


async def test_what_a_newer_llmhost_writes_besides_hides_no_number(vast_provider: Providers) -> None:
    provider = vast_provider()
    worker = await provider.create(SPEC)
    (path,) = provider._intents.folder.glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "new": {"field": 1}}))
    assert vast_provider().on_record() == [worker.id]


async def test_the_fingerprint_of_a_key_is_not_a_part_of_it_and_another_for_another_key(
    vast_account: Accounts,
) -> None:
    one, same, other = (vast_account(key).fingerprint for key in ("k" * 64, "k" * 64, "l" * 64))
    assert (one == same != other, "kkk" in one, len(one)) == (True, False, 64)


async def test_all_fleets_of_the_account_are_known_by_their_labels(vast_provider: Providers) -> None:
    for fleet in ("test", "blue", "test"):
        await vast_provider(fleet=fleet).create(SPEC)
    assert list(await vast_provider(fleet="green").fleets()) == ["blue", "test"]


@pytest.mark.parametrize(
    ("row", "fleet"),
    [
        ({"label": "llmhost/blue/1"}, "blue"),
        ({"label": "llmhost/"}, "unknown"),
        ("none", "green"),
        ({}, "green"),
    ],
)
async def test_a_row_without_a_number_is_shown_for_the_fleet_of_its_label_else_for_the_one_that_asks(
    vast_provider: Providers, row: Any, fleet: str
) -> None:
    provider = vast_provider(fleet="green", account=Scripted({"instances": [row], "total_instances": 1}))
    found = {name: ids(workers) for name, workers in (await provider.fleets()).items() if workers}
    assert found == {fleet: ["vast-unknown-1"]}
    assert ids(await provider.list()) == (["vast-unknown-1"] if fleet == "green" else [])


@pytest.mark.parametrize(
    ("label", "hides_environment", "is_found"),
    [
        ("llmhost/", True, True),
        ("llmhost//1", True, True),
        ("llmhost/Blue team/1", True, True),
        ("llmhost", False, True),
        (None, False, True),
        ("llmhost", True, False),
        (None, True, False),
    ],
)
async def test_what_llmhost_bought_by_label_or_environment_and_names_no_fleet_is_of_an_unknown_one(
    vast_server: VastServer,
    vast_provider: Providers,
    tmp_path: Path,
    label: str | None,
    hides_environment: bool,
    is_found: bool,
) -> None:
    worker = await vast_provider().create(SPEC)
    bought = number_in(worker.id) or 0
    vast_server.instances[bought].label = label
    if hides_environment:
        vast_server.arm(Fault.HIDDEN_ENV, instance=bought)
    unknown = vast_provider(fleet="unknown", folder=tmp_path / "elsewhere")
    found = [worker.id] if is_found else []
    assert ids((await unknown.fleets()).get("unknown", ())) == found
    assert ids(await unknown.list()) == found


async def test_a_count_that_was_late_once_is_forgiven(vast_provider: Providers) -> None:
    assert await vast_provider(account=Scripted(page(1, total=2), page(1))).list() == ()


async def test_those_who_ask_at_once_share_one_list(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    provider = vast_provider()
    await provider.create(SPEC)
    before = vast_server.calls["list"]
    lists = await asyncio.gather(*(provider.list() for _ in range(50)))
    assert {len(workers) for workers in lists} == {1}
    assert vast_server.calls["list"] == before + 1


async def test_nobody_is_given_a_list_that_was_begun_before_they_asked(
    vast_server: VastServer, vast_account: Accounts, vast_provider: Providers
) -> None:
    provider = vast_provider(account=vast_account(timeout=30.0))
    await provider.create(SPEC)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def hold(endpoint: str, number: int) -> None:
        if endpoint == "list":
            begun.set()
            await may_end.wait()

    vast_server.after = hold
    early = asyncio.create_task(provider.list())
    await begun.wait()
    fill(vast_server, 1)
    late = asyncio.create_task(provider.list())
    await asyncio.sleep(0)
    may_end.set()
    assert (len(await early), len(await late)) == (1, 2)


async def test_a_machine_whose_host_is_silent_may_still_answer(
    vast_server: VastServer, vast_provider: Providers, manual_clock: ManualClock
) -> None:
    vast_server.arm(Fault.OFFLINE)
    worker = await rent_running(vast_provider(), manual_clock)
    assert (worker.state, worker.stage) == (WorkerState.STARTING, "offline")


async def test_a_null_start_date_does_no_harm(vast_server: VastServer, vast_provider: Providers) -> None:
    vast_server.arm(Fault.NULL_START)
    created = await vast_provider().create(SPEC)
    (seen,) = await vast_provider().list()
    assert seen.started == created.started


# Destroying


async def test_a_machine_that_lives_on_is_asked_to_end_once_more(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    provider = vast_provider()
    worker = await provider.create(SPEC)
    vast_server.arm(Fault.DESTROY_LIES, times=2)
    await provider.destroy(worker.id)
    assert vast_server.alive() == []
    assert vast_server.calls["destroy"] == 3


async def test_a_machine_that_does_not_end_is_an_error(
    vast_server: VastServer, vast_provider: Providers, manual_clock: ManualClock
) -> None:
    provider = vast_provider()
    worker = await provider.create(SPEC)
    vast_server.arm(Fault.DESTROY_LIES, times=None)
    begun = manual_clock.monotonic()
    with pytest.raises(ProviderError, match="still lists") as caught:
        await provider.destroy(worker.id)
    assert 90 <= manual_clock.monotonic() - begun <= 200
    assert worker.id in (caught.value.hint or "")


@pytest.mark.parametrize("fault", [Fault.DESTROY_CUT, Fault.SERVER_ERROR, Fault.TOO_MANY])
async def test_trouble_while_destroying_is_overcome(
    vast_server: VastServer, vast_provider: Providers, fault: Fault
) -> None:
    provider = vast_provider()
    worker = await provider.create(SPEC)
    await provider.list()
    vast_server.arm(fault, endpoint=None if fault is Fault.DESTROY_CUT else "destroy")
    await provider.destroy(worker.id)
    assert vast_server.alive() == []


async def test_a_list_that_cannot_be_read_stands_in_no_endings_way(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    provider = vast_provider()
    worker = await provider.create(SPEC)
    vast_server.arm(Fault.LIST_NULL, times=None)
    await provider.destroy(worker.id)
    assert vast_server.alive() == []


async def test_what_neither_list_nor_number_shows_to_be_gone_is_not_taken_for_gone(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    provider = vast_provider()
    worker = await provider.create(SPEC)
    vast_server.arm(Fault.LIST_NULL, times=None)
    vast_server.arm(Fault.SERVER_ERROR, times=None, endpoint="show")
    with pytest.raises(ProviderError):
        await provider.destroy(worker.id)


async def test_many_are_destroyed_at_once_with_few_lists(
    vast_server: VastServer, vast_provider: Providers, vast_account: Accounts
) -> None:
    # On a busy machine a hundred calls at once may take longer than the usual timeout, and would be repeated.
    provider = vast_provider(account=vast_account(timeout=600.0))
    await provider.create(SPEC)
    fill(vast_server, 99)
    before = vast_server.calls["list"]
    await asyncio.gather(*(provider.destroy(worker.id) for worker in await provider.list()))
    assert vast_server.alive() == []
    assert vast_server.calls["destroy"] == 100
    assert vast_server.calls["list"] - before < 400
    assert vast_server.too_early.total() == 0


async def test_nothing_is_kept_of_an_order_whose_instance_is_gone(
    vast_provider: Providers, vast_server: VastServer, fleet_folder: Path
) -> None:
    provider = vast_provider()
    ended, vanished = [await provider.create(SPEC) for _ in range(2)]
    await provider.destroy(ended.id)
    vast_server.world.destroy(vast_server.instances[number_in(vanished.id) or 0])
    assert (list(await provider.list()), list(await provider.intents())) == ([], [])
    assert list((fleet_folder / "intents").iterdir()) == []


async def test_a_name_that_is_no_instance_asks_nobody(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    for name in ("nobody", "vast-", "vast-0", "vast-1x", "local-000000"):
        await vast_provider().destroy(name)
        assert await vast_provider().logs(name) == ""
        assert await vast_provider().ssh(name) is None
    assert vast_server.calls.total() == 0


# The rest


async def test_logs_are_the_last_lines_that_a_machine_printed(
    vast_server: VastServer, vast_provider: Providers, manual_clock: ManualClock
) -> None:
    worker = await rent_running(vast_provider(), manual_clock)
    container = vast_server.machines.containers.started[number_in(worker.id)]
    container.text = "one\ntwo\nthree\n"
    assert await vast_provider().logs(worker.id, lines=2) == "two\nthree"


async def test_a_shell_is_had_at_the_machine_of_ours_alone(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    worker = await vast_provider().create(SPEC)
    target = await vast_provider().ssh(worker.id)
    assert target == SshTarget("root", f"ssh{(number_in(worker.id) or 0) % 9 + 1}.vast.ai", target.port)
    assert await vast_provider(fleet="other").ssh(worker.id) is None


async def test_the_bill_is_what_vast_ai_billed(
    vast_server: VastServer, vast_provider: Providers, manual_clock: ManualClock
) -> None:
    provider = vast_provider()
    begun = manual_clock.now()
    gone = await rent_running(provider, manual_clock)
    other = await vast_provider(fleet="other").create(SPEC)
    await manual_clock.sleep(3600)
    await provider.destroy(gone.id)
    kept = await rent_running(provider, manual_clock)
    charges = {charge.worker: charge.usd for charge in await provider.charges(begun)}
    assert charges == {
        worker.id: pytest.approx(vast_server.billed(number_in(worker.id) or 0), abs=0.001)
        for worker in (gone, kept)
    }
    assert other.id not in charges


async def test_a_bill_of_many_pages_is_complete(
    vast_server: VastServer, vast_provider: Providers, manual_clock: ManualClock
) -> None:
    await vast_provider().create(SPEC)
    fill(vast_server, 149)
    await manual_clock.sleep(3600)
    assert len(await vast_provider().charges(manual_clock.now() - 7200)) == 150


async def test_a_missing_key_is_an_error_of_the_configuration_and_no_begun_purchase(
    vast_account: Accounts, vast_provider: Providers, fleet_folder: Path
) -> None:
    provider = vast_provider(account=vast_account(None))
    offer = Offer("7000001", "RTX 4090", 0.3, 0.99, "SE")
    with pytest.raises(ConfigError):
        await provider.create(SPEC, offer)
    assert list((fleet_folder / "intents").glob("*")) == []


async def test_neither_key_nor_token_shows_in_the_provider(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    provider = vast_provider()
    worker = await provider.create(SPEC)
    shown = f"{provider!r} {vars(provider)} {worker!r}"
    assert vast_server.key not in shown
    assert str(worker.token) not in shown
