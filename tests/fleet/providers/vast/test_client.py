"""The calls to vast.ai through the real SDK: what is tried again, what never is, and what is said."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.http_server import HttpServer, Reply, Request
from doubles.vast.faults import Fault
from doubles.vast.server import VastServer
from doubles.waiting import until

from llmhost.errors import ConfigError, ProviderError
from llmhost.fleet.providers.vast.client import VastAccount
from llmhost.fleet.providers.vast.faults import NoResponse, Rejected
from llmhost.fleet.providers.vast.pacer import Pacer

Accounts = Callable[..., VastAccount]

ORDER = {
    "image": "ollama/ollama:latest",
    "disk": 50.0,
    "env": {"LLMHOST_TOKEN": "a-token-that-nobody-sees", "-p 8443:8443": "1"},
    "label": "llmhost/test/1700000000-0a1b2c3d",
    "onstart_cmd": "true",
    "ssh": True,
    "direct": True,
    "cancel_unavail": True,
    "price": None,
}


def an_offer(server: VastServer) -> int:
    return int(server.market.add(dph_base=0.25)["id"])


async def buy(account: VastAccount, offer: int, sent: Callable[[], None] = lambda: None) -> Any:
    async def on_send() -> None:
        sent()

    return await account.create(offer, ORDER, on_send)


async def test_a_call_that_takes_long_says_what_is_waited_for(vast_account: Accounts) -> None:
    said: list[str] = []
    await vast_account(note=said.append, slow=0.0).instances(None)
    assert said == ["waiting for vast.ai: listing the instances"]


async def test_every_kind_of_call_is_understood(
    vast_server: VastServer, vast_account: Accounts, manual_clock: ManualClock
) -> None:
    account = vast_account()
    offers: Any = await account.search("on-demand", 50.0)
    assert offers
    await buy(account, an_offer(vast_server))
    (instance,) = vast_server.alive()
    assert await account.logs(instance, 10) == ""
    await manual_clock.sleep(3600)
    await account.destroy(instance)
    bill: Any = await account.charges(1_699_900_000, 1_700_100_000, None)
    assert [row["source"] for row in bill["results"]] == [f"instance-{instance}"]
    user: Any = await account.user()
    assert user["credit"] < 100.0
    assert vast_server.alive() == []


async def test_nothing_is_printed(
    vast_server: VastServer, vast_account: Accounts, capfd: pytest.CaptureFixture[str]
) -> None:
    account = vast_account()
    await buy(account, an_offer(vast_server))
    await account.instances(None)
    await account.user()
    assert capfd.readouterr() == ("", "")


async def test_calls_keep_the_documented_pauses(vast_server: VastServer, vast_account: Accounts) -> None:
    account, offers = vast_account(), [an_offer(vast_server) for _ in range(3)]
    for offer in offers:
        await buy(account, offer)
        await account.instances(None)
    await asyncio.gather(*(account.destroy(instance) for instance in vast_server.alive()))
    assert vast_server.alive() == []
    assert vast_server.too_early.total() == 0


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.UNAVAILABLE, Fault.CUT, Fault.TOO_MANY])
async def test_reading_is_tried_again(
    vast_server: VastServer, vast_account: Accounts, manual_clock: ManualClock, fault: Fault
) -> None:
    vast_server.arm(fault, times=3, endpoint="list")
    assert await vast_account().instances(None)
    assert vast_server.calls["list"] == 4
    assert manual_clock.monotonic() >= 2 + 6 + 18


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.TOO_MANY])
async def test_reading_is_given_up_after_four_tries(
    vast_server: VastServer, vast_account: Accounts, fault: Fault
) -> None:
    vast_server.arm(fault, times=None, endpoint="list")
    with pytest.raises(ProviderError):
        await vast_account().instances(None)
    assert vast_server.calls["list"] == 4


async def test_as_long_as_vast_ai_asks_for_is_waited_for(
    vast_server: VastServer, vast_account: Accounts, manual_clock: ManualClock
) -> None:
    vast_server.arm(Fault.TOO_MANY, endpoint="list", value=50)
    await vast_account().instances(None)
    assert manual_clock.monotonic() == pytest.approx(51, abs=1.5)


async def test_an_endpoint_that_was_called_too_often_is_left_alone_by_other_commands(
    vast_server: VastServer, vast_account: Accounts, manual_clock: ManualClock
) -> None:
    vast_server.arm(Fault.TOO_MANY, times=4, endpoint="list", value=30)
    with pytest.raises(Rejected):
        await vast_account().instances(None)
    failed = manual_clock.monotonic()
    await vast_account().instances(None)
    assert manual_clock.monotonic() >= failed + 1.0


async def test_too_long_a_wait_is_not_waited_for(vast_server: VastServer, vast_account: Accounts) -> None:
    vast_server.arm(Fault.TOO_MANY, endpoint="list", value=3600)
    with pytest.raises(Rejected, match="too frequent"):
        await vast_account().instances(None)
    assert vast_server.calls["list"] == 1


async def test_a_used_up_quota_of_searches_is_final(vast_server: VastServer, vast_account: Accounts) -> None:
    vast_server.arm(Fault.QUOTA, endpoint="search")
    with pytest.raises(Rejected, match="quota") as caught:
        await vast_account().search("on-demand", 50.0)
    assert "midnight" in (caught.value.hint or "")
    assert vast_server.calls["search"] == 1


@pytest.mark.parametrize(
    "fault",
    [Fault.CREATE_SILENT, Fault.CREATE_CUT, Fault.CREATE_GARBAGE, Fault.SERVER_ERROR, Fault.UNAVAILABLE],
)
async def test_a_purchase_of_unknown_outcome_is_never_tried_again(
    vast_server: VastServer, vast_account: Accounts, fault: Fault
) -> None:
    vast_server.arm(fault, times=None)
    with pytest.raises(NoResponse) as caught:
        await buy(vast_account(), an_offer(vast_server))
    assert caught.value.may_have_executed
    assert vast_server.calls["create"] == 1


async def test_a_purchase_that_came_too_early_was_not_made_and_is_tried_again(
    vast_server: VastServer, vast_account: Accounts
) -> None:
    vast_server.arm(Fault.TOO_MANY, times=2, endpoint="create")
    assert (await buy(vast_account(), an_offer(vast_server)))["success"] is True
    assert vast_server.created_total == 1


async def test_a_purchase_that_is_interrupted_is_heard_to_its_end(
    vast_server: VastServer, vast_account: Accounts
) -> None:
    on_its_way, may_end = asyncio.Event(), asyncio.Event()

    async def hold(endpoint: str, number: int) -> None:
        on_its_way.set()
        await may_end.wait()

    vast_server.before = hold
    buying = asyncio.create_task(buy(vast_account(timeout=30.0), an_offer(vast_server)))
    await on_its_way.wait()
    buying.cancel()
    ended, _ = await asyncio.wait([buying], timeout=0.1)
    assert not ended
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await buying
    assert vast_server.created_total == 1


async def test_a_purchase_that_is_interrupted_before_its_turn_is_not_made(
    vast_server: VastServer, vast_account: Accounts, manual_clock: ManualClock, state_folder: Path
) -> None:
    waits = asyncio.Event()

    class Standstill(ManualClock):
        async def sleep(self, seconds: float) -> None:
            waits.set()
            await asyncio.Event().wait()

    await buy(vast_account(), an_offer(vast_server))
    pacer = Pacer(state_folder / "vast" / "pace.json", Standstill(manual_clock.now()))
    sent: list[bool] = []
    buying = asyncio.create_task(
        buy(vast_account(pacer=pacer), an_offer(vast_server), lambda: sent.append(True))
    )
    await waits.wait()
    buying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await buying
    assert (sent, vast_server.created_total) == ([], 1)


async def test_an_instance_that_does_not_exist_is_destroyed_already_and_has_no_logs(
    vast_server: VastServer, vast_account: Accounts
) -> None:
    await vast_account().destroy(12345)
    assert vast_server.calls["destroy"] == 1
    assert await vast_account().logs(12345, 10) == ""
    assert await vast_account().instance(12345) is None


async def test_a_page_that_was_not_found_says_of_no_instance_that_it_is_gone(
    vast_server: VastServer, vast_account: Accounts
) -> None:
    account = vast_account(server_url=f"{vast_server.url}/elsewhere")
    for ask in (account.destroy, account.instance):
        with pytest.raises(Rejected, match="Not Found"):
            await ask(12345)


@pytest.mark.parametrize("call", ["instances", "destroy", "user", "create", "search", "logs", "charges"])
async def test_a_wrong_key_is_said_and_nothing_is_taken_for_done(vast_account: Accounts, call: str) -> None:
    account = vast_account("not-the-key-of-anybody")
    calls: dict[str, Callable[[], Any]] = {
        "instances": lambda: account.instances(None),
        "destroy": lambda: account.destroy(1),
        "user": account.user,
        "create": lambda: buy(account, 1),
        "search": lambda: account.search("bid", 50.0),
        "logs": lambda: account.logs(1, 10),
        "charges": lambda: account.charges(1, 2, None),
    }
    with pytest.raises(ProviderError, match="does not accept the API key") as caught:
        await calls[call]()
    assert "VAST_API_KEY" in (caught.value.hint or "")


async def test_a_missing_key_says_how_to_set_it(vast_server: VastServer, vast_account: Accounts) -> None:
    with pytest.raises(ConfigError, match="no API key") as caught:
        await vast_account(None).instances(None)
    assert "VAST_API_KEY" in (caught.value.hint or "")
    assert vast_server.calls.total() == 0


async def test_the_key_is_found_where_the_vastai_command_keeps_it(
    vast_server: VastServer, vast_account: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_API_KEY", vast_server.key)
    assert await vast_account(None).instances(None)


@pytest.mark.parametrize("key", ["", " ", "line\nend", "spaced key", "schlüssel", "secret-key\n"])
async def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(
    vast_server: VastServer, vast_account: Accounts, key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await vast_account(key).instances(None)
    assert not key.strip() or key.strip() not in everything_said(caught.value)
    assert vast_server.calls.total() == 0


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in {Fault.SLOW, Fault.SILENT}])
async def test_secrets_are_in_no_error(vast_server: VastServer, vast_account: Accounts, fault: Fault) -> None:
    vast_server.arm(fault, times=None)
    account = vast_account(timeout=0.05)
    for call in (account.instances(None), buy(account, an_offer(vast_server)), account.destroy(1)):
        (failure,) = await asyncio.gather(call, return_exceptions=True)
        said = everything_said(failure) if isinstance(failure, Exception) else ""  # type: ignore[has-type]
        assert vast_server.key not in said
        assert "a-token-that-nobody-sees" not in said


async def test_what_vast_ai_repeats_of_a_purchase_is_masked(
    manual_clock: ManualClock, vast_account: Accounts
) -> None:
    class Parrot(HttpServer):
        async def answer(self, request: Request, reply: Reply) -> None:
            said = f"bad env {request.body.decode()} {request.headers['authorization']}"
            await reply.json({"success": False, "error": "invalid_args", "msg": said}, 400)

    async with Parrot() as parrot:
        with pytest.raises(Rejected, match="bad env") as caught:
            await buy(vast_account("the-key-itself", server_url=parrot.url), 1)
    assert "a-token-that-nobody-sees" not in everything_said(caught.value)
    assert "the-key-itself" not in everything_said(caught.value)


async def test_a_server_that_is_not_there_was_sent_nothing(vast_account: Accounts) -> None:
    with pytest.raises(NoResponse, match="cannot be reached") as caught:
        await buy(vast_account(server_url="http://127.0.0.1:9"), 1)
    assert not caught.value.may_have_executed


async def test_a_server_that_keeps_silent_is_tried_four_times_and_then_once_a_call_until_it_answers(
    vast_server: VastServer, vast_account: Accounts
) -> None:
    vast_server.arm(Fault.SILENT, times=6)
    account = vast_account(timeout=0.2)
    for tries in (4, 1, 1):
        before = vast_server.calls["list"]
        with pytest.raises(NoResponse, match="took too long"):
            await account.instances(None)
        assert vast_server.calls["list"] - before == tries
    assert await account.instances(None)
    vast_server.arm(Fault.SILENT, times=3)
    assert await account.instances(None)


async def test_a_server_that_keeps_silent_does_not_hold_up_the_end(
    vast_server: VastServer, vast_account: Accounts
) -> None:
    vast_server.arm(Fault.SILENT, endpoint="list")
    asking = asyncio.create_task(vast_account(timeout=30.0).instances(None))
    await until(lambda: vast_server.calls["list"])
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    waiting = [thread for thread in threading.enumerate() if thread.name == "vast.ai"]
    assert all(thread.daemon for thread in waiting)


def everything_said(error: BaseException) -> str:
    """The error with all that led to it, as `--verbose` would show it."""
    said, at = "", error
    while at is not None:
        said += f" {at!r} {at} {getattr(at, 'hint', '')}"
        at = at.__cause__ or at.__context__  # type: ignore[assignment]
    return said


def test_the_sdk_is_not_imported_before_it_is_needed() -> None:
    code = "import sys; import llmhost.fleet.providers.vast.client; print('vastai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
