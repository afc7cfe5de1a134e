"""Renting at the double of vast.ai: what is on offer, what is given back, and what it costs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.vast.faults import Fault
from doubles.vast.renting import SPEC, Accounts, Providers, best, fill, rent_running, tell
from doubles.vast.server import VastServer

from llmhost.config.fleet import VastConfig
from llmhost.errors import ConfigError, ProviderError
from llmhost.fleet.models import Offer, SshTarget, WorkerState
from llmhost.fleet.providers.vast.rows import number_in

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
