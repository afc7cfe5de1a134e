"""The key of another account than the one that pays hides nothing and ends nothing that it cannot see."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from doubles.vast.faults import Fault
from doubles.vast.server import VastServer
from plugins.rented_commands import RentedHouse

from llmhost.fleet.clock import SystemClock

pytestmark = [pytest.mark.slow]


@pytest.fixture
async def other_account() -> AsyncIterator[VastServer]:
    """Another customer's, in which nothing is rented."""
    async with VastServer(SystemClock(), pace=0) as server:
        server.change_account()
        yield server


@pytest.mark.parametrize("says_who", ["for the worker alone", "for the other key alone", "never"])
async def test_with_another_accounts_key_no_worker_is_called_gone_that_is_not_proven_to_be(
    rented_house: RentedHouse, other_account: VastServer, says_who: str
) -> None:
    rented_house.boot_for_ever()
    if says_who != "for the worker alone":
        rented_house.server.world.user = None
    if says_who != "for the other key alone":
        other_account.arm(Fault.SERVER_ERROR, endpoint="user", times=None)
    await rented_house.ok("up", "--gpus", "2", "--yes", "--no-wait")
    for command in (["fleets"], ["status"], ["down"], ["down", "--all", "--yes"]):
        done = await rented_house.run(*command, **other_account.environment())
        assert done.code != 0, command
        assert all(worker in done.out + done.err for worker in rented_house.alive()), command
        assert "is not proven to be of the account that bought it" in done.err, command
    assert len(list((rented_house.state / "fleets" / "rented" / "intents").iterdir())) == 2
    assert set(await rented_house.status()) == set(rented_house.alive())
    assert (await rented_house.run("down")).code == 0
    assert rented_house.alive() == []


async def test_fleets_names_a_worker_of_another_account_that_only_redis_knows(
    blue: RentedHouse, other_account: VastServer
) -> None:
    shutil.rmtree(blue.state)
    shown = await blue.run("fleets", "--json", **other_account.environment())
    (fleet,) = shown.json["fleets"]
    assert (shown.code, set(fleet["workers"])) == (5, set(blue.alive())), shown.err
    assert "bought by user 4242 of vast.ai, and this API key is user 5151's" in shown.err


async def test_the_key_that_bought_a_worker_sees_that_it_is_gone_although_vast_does_not_say_whose_it_is(
    blue: RentedHouse,
) -> None:
    for number in blue.server.alive():
        blue.server.world.destroy(blue.server.instances[number])
    blue.server.arm(Fault.SERVER_ERROR, endpoint="user", times=None)
    assert (await blue.status(), (await blue.run("down")).code) == ({}, 0)


@pytest.fixture
async def green_of_another(blue: RentedHouse, other_account: VastServer) -> str:
    """The configuration of a fleet that another account pays for, whose key it names. Its worker was rented
    from another machine."""
    blue.server.also_serve(other_account)
    other_account.market.add(dph_base=0.3)
    usual = blue.configure()
    blues = usual.read_text()
    blue.configure(fleet={"name": "green"}, vast={"api_key": "${GREENS_KEY}"})
    blue.environ["GREENS_KEY"] = other_account.key
    path = str(usual.rename(usual.with_name("green.yaml")))
    usual.write_text(blues)
    await blue.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=path)
    shutil.rmtree(blue.state / "fleets" / "green" / "intents")
    return path


@pytest.mark.usefixtures("green_of_another")
async def test_a_fleet_that_another_account_pays_for_is_shown_and_ended_with_the_key_that_its_file_names(
    blue: RentedHouse, other_account: VastServer
) -> None:
    assert await blue.fleets() == {"rented": 0, "blue": 2, "green": 1}
    assert "fleet green (vast): 1 worker" in (await blue.run("status")).err
    done = await blue.run("down", "--all", "--yes")
    assert (done.code, blue.alive(), other_account.alive()) == (0, [], []), done.err


async def test_what_is_rented_beside_a_fleet_of_another_account_is_shown_and_ended_with_the_key_of_that_fleet(
    blue: RentedHouse, green_of_another: str, other_account: VastServer, tmp_path: Path
) -> None:
    red = {"LLMHOST_CONFIG": green_of_another, "LLMHOST_STATE_DIR": str(tmp_path / "other machine")}
    await blue.ok("--fleet", "red", "up", "--gpus", "1", "--yes", "--no-wait", **red)
    assert await blue.fleets() == {"rented": 0, "blue": 2, "green": 1, "red": 1}
    done = await blue.run("down", "--all", "--yes", LLMHOST_CONFIG="")
    assert (done.code, blue.alive(), other_account.alive()) == (0, [], []), done.err


@pytest.mark.usefixtures("green_of_another")
async def test_down_all_ends_both_fleets_whose_files_have_each_others_key(
    blue: RentedHouse, other_account: VastServer
) -> None:
    blue.configure(fleet={"name": "blue"}, vast={"api_key": other_account.key})
    blue.environ["GREENS_KEY"] = blue.server.key
    done = await blue.run("down", "--all", "--yes", LLMHOST_CONFIG="")
    assert (blue.alive(), other_account.alive()) == ([], []), done.err


async def test_a_key_of_another_account_that_is_not_known_is_reported_and_hides_no_other_fleet(
    blue: RentedHouse, green_of_another: str
) -> None:
    del blue.environ["GREENS_KEY"]
    shown = await blue.run("fleets", "--json")
    named = {fleet["name"]: len(fleet["workers"]) for fleet in shown.json["fleets"]}
    assert (shown.code != 0, named["blue"]) == (True, 2)
    assert f"the section `vast` of {green_of_another} is not valid" in shown.err
    done = await blue.run("down", "--all", "--yes")
    assert (done.code, blue.alive()) == (3, []), done.err


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("lost", ["the file", "where it was"])
async def test_a_fleet_of_which_nothing_says_any_more_which_account_pays_is_not_taken_for_ended(
    blue: RentedHouse, green_of_another: str, lost: str
) -> None:
    if lost == "the file":
        remove(Path(green_of_another))
    else:
        (blue.state / "fleets" / "green" / "fleet-vast.json").write_text('{"config": null}')
    del blue.environ["GREENS_KEY"]
    shown = await blue.run("fleets")
    assert shown.code != 0
    assert "it is not known what fleet green has rented" in shown.err
    for code in (3, 1):  # it is not forgotten either
        done = await blue.run("down", "--all", "--yes")
        assert (done.code, blue.alive()) == (code, []), done.err
        assert "it is not known what fleet green has rented" in done.err


async def test_an_order_that_cannot_be_read_in_full_hides_no_worker_from_another_accounts_key(
    blue: RentedHouse, other_account: VastServer
) -> None:
    for order in (blue.state / "fleets" / "blue" / "intents").iterdir():
        order.write_text(order.read_text().replace('"model"', '"newer": {}, "model"').replace('"tiny"', "5"))
    for command in (["fleets"], ["down"], ["down", "--all", "--yes"]):
        done = await blue.run(*command, **other_account.environment())
        assert done.code != 0, command
        assert all(worker in done.out + done.err for worker in blue.alive()), command


@pytest.mark.parametrize("file_key", ["revoked", "another account's"])
async def test_down_all_ends_with_the_key_in_use_what_a_wrong_key_in_the_fleets_file_cannot(
    blue: RentedHouse, other_account: VastServer, file_key: str
) -> None:
    blue.server.also_serve(other_account)
    key = "0" * 64 if file_key == "revoked" else other_account.key
    file = blue.configure(fleet={"name": "blue"}, vast={"api_key": key})
    done = await blue.run("down", "--all", "--yes", LLMHOST_CONFIG="")
    assert (blue.alive(), done.out.count("Destroyed"), "still running" in done.out) == ([], 2, False)
    if file_key == "revoked":  # that account may have more
        assert (done.code, f"correct `vast.api_key` in {file}" in done.err) == (3, True), done.err


async def test_down_all_that_asked_ends_what_it_asked_about_with_the_key_in_use(
    blue: RentedHouse,
) -> None:
    blue.configure(fleet={"name": "blue"}, vast={"api_key": "0" * 64})
    blue.environ["LLMHOST_CONFIG"] = ""
    async with blue.terminal("down", "--all") as terminal:
        await terminal.until("Destroy ")
        terminal.type("y\n")
        assert await terminal.end() == 3
    assert blue.alive() == []
