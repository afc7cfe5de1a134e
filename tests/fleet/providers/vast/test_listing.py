"""What the list of vast.ai shows, hides and gets wrong, and what of it is believed."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.vast.answers import Answer, Refused, as_json, as_text, refusal
from doubles.vast.faults import LIST, Fault
from doubles.vast.renting import SPEC, Accounts, Providers, fill, ids, order_of_first, rent_running
from doubles.vast.server import VastServer

from llmhost.errors import FleetBusy, ProviderError, PurchaseUnclear
from llmhost.fleet.models import Intent, Payer, Worker, WorkerState
from llmhost.fleet.providers.vast.client import VastAccount, in_thread
from llmhost.fleet.providers.vast.rows import number_in


async def test_only_instances_of_this_fleet_are_workers(
    vast_server: VastServer, vast_provider: Providers
) -> None:
    mine = await vast_provider().create(SPEC)
    await vast_provider(fleet="other").create(SPEC)
    vast_server.world.buy(vast_server.market.add(), replace(order_of_first(vast_server), label=None))
    assert len(vast_server.alive()) == 3
    assert ids(await vast_provider().list()) == [mine.id]


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
