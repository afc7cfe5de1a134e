"""What a provider says of a worker is one witness: its own answers, and who pays for it, count as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from doubles.rented_fleet import RentedFleet
from doubles.vast.faults import Fault

from llmhost.config.fields import UNNAMED_FLEET
from llmhost.errors import ProviderError, StateError
from llmhost.fleet.providers.vast.create import Order, PendingPurchases
from llmhost.fleet.providers.vast.faults import CONSOLE
from llmhost.ledger.ledger import Ledger
from llmhost.store.keys import FleetKeys

# What only the provider says


@pytest.mark.parametrize("status", ["exited", "frozen"])
async def test_a_worker_that_answers_is_kept_whatever_its_provider_says(
    fleet: RentedFleet, status: str
) -> None:
    await fleet.service().up(2)
    one, _ = fleet.server.alive()
    fleet.server.become(one, status)
    fleet.misreported.add(f"vast-{one}")
    await fleet.service().up(2)
    await fleet.scaler().step()
    assert (one in fleet.server.alive(), fleet.server.created_total) == (True, 2)


async def test_a_worker_that_answers_is_kept_although_its_row_has_no_ports(fleet: RentedFleet) -> None:
    await fleet.service().up(2)
    one, _ = fleet.server.alive()
    fleet.server.instances[one].quirks[Fault.NO_PORTS] = None
    for _ in range(40):  # minutes; without an answer it would count as silent by then
        await fleet.scaler().step()
        await fleet.clock.sleep(60)
    assert (one in fleet.server.alive(), fleet.server.created_total) == (True, 2)


async def test_the_address_of_a_worker_stays_on_record_while_its_provider_does_not_say_it(
    fleet: RentedFleet,
) -> None:
    await fleet.service().up(1)
    (one,) = fleet.server.alive()
    (before,) = (await fleet.registry.workers()).workers
    fleet.server.become(one, "exited")
    await fleet.service().status()
    (after,) = (await fleet.registry.workers()).workers
    assert (after.url, after.token, after.certificate) == (before.url, before.token, before.certificate)


async def test_a_worker_whose_label_does_not_say_when_it_was_bought_is_counted_once(
    fleet: RentedFleet,
) -> None:
    await fleet.elsewhere().service().up(2)
    later = max(fleet.server.alive())  # vast.ai dates it some seconds after its order
    fleet.server.instances[later].label = ""
    await fleet.service().status()
    await fleet.clock.sleep(4000.0)
    spending = (await fleet.service().status()).spending
    assert spending.total == pytest.approx(fleet.server.billed_total(), rel=0.02)


async def test_a_row_without_its_number_is_not_counted_beside_the_worker_that_it_may_be(
    fleet: RentedFleet,
) -> None:
    await fleet.service().up(1)
    fleet.server.arm(Fault.LIST_NO_ID, times=None)
    for _ in range(3):
        status = await fleet.service().status()
        assert [worker.nameless for worker in status.workers] == [False, True]
        await fleet.clock.sleep(600)
    fleet.server.faults.armed.clear()
    status = await fleet.service().status()
    assert set(status.spending.by_worker) == fleet.ids


async def test_a_worker_bought_elsewhere_is_shown_beside_a_row_without_its_number(fleet: RentedFleet) -> None:
    (worker,) = (await fleet.elsewhere().service().up(1)).workers
    await fleet.clock.sleep(3600)
    fleet.server.arm(Fault.LIST_NO_ID, times=None)
    status = await fleet.service().status()
    assert {worker.id, "vast-unknown-1"} <= {one.id for one in status.workers}


# What only this machine says


async def test_purchases_on_record_that_cannot_be_read_keep_no_worker_from_being_ended(
    fleet: RentedFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.service().up(2)

    def refuse(_: PendingPurchases) -> Sequence[Order]:
        raise StateError("cannot read the folder intents: Input/output error")

    monkeypatch.setattr(PendingPurchases, "all", refuse)
    result = await fleet.service().down()
    assert (len(result.destroyed), fleet.server.alive()) == (2, [])
    assert any("Input/output error" in failure.message for failure in result.failed)


# Another account's key


async def test_a_machine_with_another_accounts_key_and_the_same_redis_calls_no_worker_gone(
    fleet: RentedFleet, tmp_path: Path
) -> None:
    await fleet.service().up(1)
    (one,) = fleet.server.alive()
    fleet.server.world.destroy(fleet.server.instances[one])  # as the other account sees it
    owner = fleet.server.change_account()
    fleet.folder = tmp_path / "elsewhere"
    for command in (fleet.service().down, fleet.service().status):
        with pytest.raises(ProviderError, match=f"vast-{one}: bought by user {owner} .* user 5151's"):
            await command()
    rentals = await Ledger(fleet.client, fleet.fleet).rentals()
    assert (await fleet.registry.workers()).ids == {f"vast-{one}"}
    assert [rental.ended for rental in rentals if not rental.once] == [None]


async def test_down_ends_what_the_list_shows_although_another_account_pays_for_a_worker_on_record(
    fleet: RentedFleet, tmp_path: Path
) -> None:
    await fleet.service().up(2)
    one, two = fleet.server.alive()
    fleet.server.world.destroy(fleet.server.instances[one])  # as the other account sees it
    fleet.server.change_account()
    await fleet.registry.forget(f"vast-{two}")  # bought by a machine that Redis was away from
    fleet.folder = tmp_path / "elsewhere"
    result = await fleet.service().down()
    assert (result.destroyed, fleet.server.alive()) == ((f"vast-{two}",), [])
    assert [failure.worker for failure in result.failed] == [None, f"vast-{one}"]


async def test_a_record_that_names_another_payer_keeps_no_worker_from_being_ended(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    (one,) = fleet.server.alive()
    forged = {"account": "5151", "fingerprint": "another key's"}
    await fleet.client.hset(FleetKeys(fleet.fleet).worker(f"vast-{one}"), mapping=forged)
    fleet.server.arm(Fault.LIST_NULL, times=None)
    with pytest.raises(ProviderError, match=f"known here: vast-{one}"):
        await fleet.service().down()
    assert fleet.server.alive() == []


async def test_a_worker_that_neither_label_nor_record_calls_this_fleets_is_shown_and_ended_as_of_none(
    fleet: RentedFleet,
) -> None:
    await fleet.elsewhere().service().up(1)
    (lost,) = fleet.server.alive()
    fleet.server.instances[lost].label = "mine now"
    await fleet.registry.forget(f"vast-{lost}")
    await fleet.service().up(1)
    shown = await fleet.provider().fleets()
    assert {name: len(workers) for name, workers in shown.items()} == {fleet.fleet: 1, UNNAMED_FLEET: 1}
    for name in shown:
        await replace(fleet, fleet=name).service().down()
    assert fleet.server.alive() == []


# What `down` could not confirm


@pytest.mark.parametrize("fault", [Fault.DESTROY_LIES, Fault.SERVER_ERROR, Fault.LIST_NULL])
async def test_what_down_could_not_confirm_is_named_with_how_to_end_it_by_hand(
    fleet: RentedFleet, fault: Fault
) -> None:
    await fleet.service().up(2)
    one = None if fault is Fault.LIST_NULL else min(fleet.server.alive())
    fleet.server.arm(
        fault, times=None, instance=one, endpoint="destroy" if fault is Fault.SERVER_ERROR else None
    )
    result = await fleet.service().down()
    assert [failure.worker for failure in result.failed] == [one and f"vast-{one}"]
    assert [CONSOLE in (failure.hint or "") for failure in result.failed] == [True]


async def test_where_nothing_could_be_ended_it_is_said_how_to_end_it_by_hand(fleet: RentedFleet) -> None:
    await fleet.service().up(1)
    fleet.server.arm(Fault.SERVER_ERROR, times=None)
    with pytest.raises(ProviderError) as caught:
        await fleet.service().down()
    assert CONSOLE in (caught.value.hint or "")
    assert min(fleet.ids) in caught.value.message
