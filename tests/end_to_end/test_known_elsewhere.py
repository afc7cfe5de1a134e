"""What was bought on another machine, for another fleet or with another account's key, is seen from here."""

from __future__ import annotations

import resource
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
from doubles.vast.faults import Fault
from doubles.vast.server import VastServer
from plugins.redis_servers import RedisServer
from plugins.rented_commands import RentedHouse

from llmhost.fleet.clock import SystemClock

pytestmark = [pytest.mark.slow]


@pytest.fixture
def market(rented_house: RentedHouse) -> RentedHouse:
    """What is bought there never gets further than booting."""
    rented_house.boot_for_ever()
    return rented_house


@pytest.fixture
async def other_account(market: RentedHouse) -> AsyncIterator[VastServer]:
    """Another customer's, which the same address serves and in which nothing is rented."""
    async with VastServer(SystemClock(), pace=0) as server:
        server.change_account()
        server.market.add(dph_base=0.3)
        market.server.also_serve(server)
        yield server


def apart(market: RentedHouse, name: str, **sections: object) -> str:
    """A configuration beside the usual one, which stays as it is."""
    usual = market.configure()
    text = usual.read_text()
    market.configure(**sections)  # type: ignore[arg-type]
    path = usual.rename(usual.with_name(name))
    usual.write_text(text)
    return str(path)


def elsewhere(market: RentedHouse, tmp_path: Path) -> dict[str, str]:
    """Another machine, which has the same configuration and Redis and a state folder of its own."""
    return {"LLMHOST_STATE_DIR": str(tmp_path / "other machine"), "HOME": str(tmp_path)}


def remove(file: Path) -> None:
    file.unlink()


def move(file: Path, folder: Path) -> str:
    return str(file.rename(folder / file.name))


async def test_one_name_in_two_files_with_two_accounts_is_two_fleets(
    market: RentedHouse, other_account: VastServer, redis_server: RedisServer
) -> None:
    market.environ["OTHERS_KEY"] = other_account.key
    redis = {"url": f"unix://{redis_server.socket}?db=1"}
    other = apart(market, "other.yaml", vast={"api_key": "${OTHERS_KEY}"}, redis=redis)
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=other)
    shutil.rmtree(market.state / "fleets" / "rented" / "intents")  # it was bought on another machine
    shown = await market.run("fleets", "--json")
    workers = [worker for fleet in shown.json["fleets"] for worker in fleet["workers"]]
    assert workers == [f"vast-{number}" for number in other_account.alive()], shown.err
    done = await market.run("down", "--all", "--yes")
    assert (done.code, other_account.alive()) == (0, []), done.err


async def test_fleets_names_a_worker_that_another_fleets_records_alone_know(market: RentedHouse) -> None:
    green = apart(market, "green.yaml", fleet={"name": "green"})
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=green)
    shutil.rmtree(market.state / "fleets" / "green" / "intents")  # it was bought on another machine
    (one,) = market.server.alive()
    market.server.instances[one].odd |= {"label": "my gpu", "extra_env": []}
    shown = await market.ok("fleets")
    assert {fleet["name"]: fleet["workers"] for fleet in shown["fleets"]}["green"] == [f"vast-{one}"]


async def test_a_purchase_in_doubt_is_in_doubt_on_every_machine_of_its_redis_whatever_it_is_asked(
    market: RentedHouse, tmp_path: Path
) -> None:
    market.server.arm(Fault.CREATE_CUT)
    market.server.arm(Fault.SHOWN_LATE, value=3600.0)
    assert (await market.run("up", "--yes", "--no-wait")).code != 0
    for command in (["fleets"], ["status"], ["down"], ["down", "--all", "--yes"]):
        done = await market.run(*command, **elsewhere(market, tmp_path / command[-1]))
        assert (done.code != 0, "it is not known yet whether the purchase" in done.err) == (True, True), (
            done.err
        )


async def test_what_was_sold_and_is_not_shown_yet_is_shown_as_a_worker_and_not_bought_again_elsewhere(
    market: RentedHouse, tmp_path: Path
) -> None:
    market.server.arm(Fault.SHOWN_LATE, value=3600.0)
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    there = elsewhere(market, tmp_path)
    again = await market.ok("up", "--gpus", "1", "--yes", "--no-wait", **there)
    shown = await market.ok("status", **there)
    assert [worker["id"] for worker in shown["workers"]] == [worker["id"] for worker in again["workers"]]
    assert market.server.created_total == 1


async def test_fleets_fails_where_it_cannot_be_read_what_other_machines_rented(market: RentedHouse) -> None:
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    shown = await market.run("fleets", "--json", LLMHOST_REDIS__URL="redis://127.0.0.1:1")
    assert (shown.code, len(shown.json["fleets"][0]["workers"])) == (5, 1)
    assert "what other machines have rented may not be shown" in shown.err


async def test_fleets_fails_where_this_shell_does_not_name_the_redis_of_a_fleet(
    market: RentedHouse, redis_server: RedisServer
) -> None:
    green = apart(market, "green.yaml", fleet={"name": "green"}, redis={"url": "${GREENS_REDIS}"})
    redis = f"unix://{redis_server.socket}?db=1"
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=green, GREENS_REDIS=redis)
    shown = await market.run("fleets", "--json")
    named = {fleet["name"]: fleet["workers"] for fleet in shown.json["fleets"]}
    assert (shown.code, named["green"]) == (5, market.alive()), shown.err
    assert "the Redis of fleet green is not known" in shown.error


@pytest.mark.parametrize("command", [["fleets"], ["down", "--all", "--yes"]], ids=" ".join)
async def test_a_fleet_whose_file_is_gone_and_whose_redis_was_another_one_is_not_passed_over(
    market: RentedHouse, redis_server: RedisServer, command: list[str]
) -> None:
    redis = {"url": f"unix://{redis_server.socket}?db=1"}
    green = apart(market, "green.yaml", fleet={"name": "green"}, redis=redis)
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=green)
    shutil.rmtree(market.state / "fleets" / "green" / "intents")  # it was bought on another machine
    (one,) = market.server.alive()
    market.server.instances[one].odd |= {"label": "my gpu", "extra_env": []}
    remove(Path(green))
    done = await market.run(*command)
    assert done.code != 0, done.out
    assert "the Redis in use is not the one that it was last used with" in done.err
    assert f"remove {market.state / 'fleets' / 'green' / 'fleet-vast.json'}" in done.err


async def test_a_down_says_that_another_fleet_of_this_machine_has_a_purchase_in_doubt(
    market: RentedHouse,
) -> None:
    market.server.arm(Fault.CREATE_CUT)
    market.server.arm(Fault.SHOWN_LATE, value=3600.0)
    assert (await market.run("up", "--yes", "--no-wait")).code != 0
    market.configure(fleet={"name": "renamed"})
    done = await market.run("down", "--yes")
    assert (done.code, "it is not known yet whether the purchase" in done.err) == (3, True), done.err


@pytest.mark.parametrize("command", [["fleets"], ["down", "--yes"], ["down", "--all", "--yes"]], ids=" ".join)
@pytest.mark.parametrize("where", ["in its folder", "elsewhere"])
async def test_a_fleet_whose_redis_in_use_is_not_the_one_it_was_last_used_with_is_not_taken_for_seen(
    market: RentedHouse, command: list[str], where: str
) -> None:
    market.configure(fleet={"budget": {"per_hour": 10}})
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    market.configure(redis={"url": None})
    named = ["--fleet", "rented", *command] if command == ["down", "--yes"] else command
    done = await (market.run(*named, LLMHOST_CONFIG="") if where == "elsewhere" else market.run(*command))
    assert (done.code, market.alive() == []) == ((1, False) if command == ["fleets"] else (3, True)), done.err
    assert "fleet rented was last used with another Redis" in done.err
    assert (await market.run("fleets")).code == 1  # it is not forgotten


async def test_an_up_with_the_new_redis_is_all_that_a_fleet_needs_which_changes_it(
    market: RentedHouse,
) -> None:
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    market.configure(redis={"url": None})
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    assert (await market.run("fleets")).code == 0
    done = await market.run("down", "--yes")
    assert (done.code, market.alive()) == (0, []), done.err


async def test_an_up_that_did_not_come_to_its_end_settles_nothing(market: RentedHouse) -> None:
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    market.configure(redis={"url": None})
    assert (await market.run("up", "--yes", "--no-wait", VAST_API_KEY="a typing error")).code != 0
    assert (await market.run("fleets")).code == 1


@pytest.mark.parametrize("command", [["fleets"], ["down", "--yes"], ["down", "--all", "--yes"]], ids=" ".join)
async def test_a_configuration_that_was_moved_and_names_another_redis_is_not_taken_for_the_fleet_s_own(
    market: RentedHouse, tmp_path: Path, command: list[str]
) -> None:
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    moved = tmp_path / "moved.yaml"
    market.configure(redis={"url": None}).rename(moved)
    done = await market.run(*command, LLMHOST_CONFIG=str(moved))
    assert done.code == (1 if command == ["fleets"] else 3), done.err
    assert "fleet rented was last used with another Redis" in done.err


async def test_steps_of_scale_with_another_redis_do_not_settle_where_the_records_are(
    market: RentedHouse,
) -> None:
    market.configure(fleet={"budget": {"per_hour": 10}})
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    market.configure(fleet={"budget": {"per_hour": 10}}, redis={"url": None})
    await market.run("scale")
    done = await market.run("down", "--yes")
    assert (done.code, market.alive()) == (3, []), done.err
    assert "fleet rented was last used with another Redis" in done.err


async def test_a_fleet_that_was_taken_down_here_and_whose_redis_is_away_now_is_warned_of(
    market: RentedHouse, redis_server: RedisServer
) -> None:
    redis = {"url": f"unix://{redis_server.socket}?db=1"}
    green = apart(market, "green.yaml", fleet={"name": "green"}, redis=redis)
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=green)
    await market.ok("down", "--yes", LLMHOST_CONFIG=green)
    apart(market, "green.yaml", fleet={"name": "green"}, redis={"url": "redis://127.0.0.1:1"})
    done = await market.run("down", "--all", "--yes")
    assert (done.code, "green" in done.err) == (0, True), done.err


async def test_one_file_that_is_used_for_two_fleets_by_the_environment_ends_either(
    market: RentedHouse,
) -> None:
    for name in ("blue", "green"):
        await market.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_FLEET__NAME=name)
    done = await market.run("down", "--yes", LLMHOST_FLEET__NAME="blue")
    assert (done.code, len(market.alive())) == (0, 1), done.err


@pytest.mark.parametrize("command", [["up", "--gpus", "2", "--yes", "--no-wait"], ["scale"]], ids=" ".join)
async def test_what_cannot_be_written_down_as_used_rents_nothing(
    market: RentedHouse, command: list[str]
) -> None:
    market.configure(fleet={"budget": {"per_hour": 10}})
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    lock = market.state / "fleets" / "rented" / "known.lock"
    lock.unlink()
    lock.mkdir()
    assert (await market.run("scale")).code == 0  # as it was used before
    market.configure(fleet={"budget": {"per_hour": 10}}, redis={"url": None})
    done = await market.run(*command)
    assert (done.code, len(market.alive())) == (1, 1), done.err
    assert "known.lock" in done.err


@pytest.mark.parametrize("command", [["fleets"], ["down", "--all", "--yes"]], ids=" ".join)
async def test_a_purchase_in_doubt_of_a_fleet_that_only_the_redis_of_another_one_knows_is_seen_from_anywhere(
    market: RentedHouse, tmp_path: Path, command: list[str]
) -> None:
    green = apart(market, "green.yaml", fleet={"name": "green"})
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    market.server.arm(Fault.CREATE_CUT)
    market.server.arm(Fault.SHOWN_LATE, value=3600.0)
    there = elsewhere(market, tmp_path) | {"LLMHOST_CONFIG": green}
    assert (await market.run("up", "--gpus", "1", "--yes", "--no-wait", **there)).code != 0
    done = await market.run(*command, LLMHOST_CONFIG="")
    assert (done.code != 0, "it is not known yet whether the purchase" in done.err) == (True, True), done.err


async def test_where_a_fleet_was_only_taken_down_its_redis_is_known_when_another_machine_makes_it_again(
    market: RentedHouse, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis = {"url": f"unix://{redis_server.socket}?db=1"}
    fleet = {"name": "green", "budget": {"per_hour": 10}}
    there = elsewhere(market, tmp_path)
    green = {"LLMHOST_CONFIG": apart(market, "green.yaml", fleet=fleet, redis=redis, scale={"min_gpus": 1})}
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait", **there, **green)
    await market.ok("down", "--yes", **green)
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait", **there, **green)
    await market.ok("down", "--all", "--yes", LLMHOST_CONFIG="")
    step = await market.ok("scale", **there, **green)
    assert ("paused since" in step["reason"], market.alive()) == (True, [])


async def test_a_fleet_that_was_taken_down_here_and_is_rented_again_needs_its_file_to_be_taken_for_seen(
    market: RentedHouse, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis = {"url": f"unix://{redis_server.socket}?db=1"}
    green = apart(market, "green.yaml", fleet={"name": "green"}, redis=redis)
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=green)
    await market.ok("down", "--yes", LLMHOST_CONFIG=green)
    moved = move(Path(green), tmp_path)
    there = elsewhere(market, tmp_path)
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait", **there | {"LLMHOST_CONFIG": moved})
    done = await market.run("down", "--all", "--yes")
    assert (done.code, market.alive()) == (3, []), done.err
    assert "fleet green was last used with another Redis" in done.err


async def test_a_worker_whose_fleets_file_has_a_wrong_key_is_shown_once(market: RentedHouse) -> None:
    market.configure(redis={"url": None})
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    market.configure(redis={"url": None}, vast={"api_key": "a typing error"})
    shown = await market.run("fleets", "--json", LLMHOST_CONFIG="")
    assert [name for fleet in shown.json["fleets"] for name in fleet["workers"]] == market.alive()


async def test_one_down_with_each_redis_is_enough_where_two_were_used(market: RentedHouse) -> None:
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    market.configure(redis={"url": None})
    assert (await market.run("down", "--yes")).code == 3
    market.configure()
    done = await market.run("down", "--yes")
    assert done.code == 0, done.err
    assert (await market.run("fleets")).code == 0


async def test_a_fleet_that_is_down_is_not_taken_for_used_by_what_ends_some_of_its_workers(
    market: RentedHouse,
) -> None:
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    await market.ok("down", "--yes")
    await market.ok("down", "--orphans", "--yes")
    market.configure(redis={"url": None})
    assert (await market.run("down", "--yes")).code == 0


async def test_of_fleets_that_were_taken_down_and_of_which_nothing_is_on_record_the_account_is_listed_once(
    market: RentedHouse,
) -> None:
    for name in ("blue", "green"):
        config = apart(market, f"{name}.yaml", fleet={"name": name})
        await market.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=config)
        await market.ok("down", "--yes", LLMHOST_CONFIG=config)
    before = market.server.calls["list"]
    await market.ok("fleets")
    asked_once = market.server.calls["list"] - before
    config = apart(market, "red.yaml", fleet={"name": "red"})
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=config)
    await market.ok("down", "--yes", LLMHOST_CONFIG=config)
    before = market.server.calls["list"]
    await market.ok("fleets")
    assert market.server.calls["list"] - before == asked_once > 0


async def test_hundreds_of_names_in_redis_stop_no_ending(
    market: RentedHouse, redis_server: RedisServer
) -> None:
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        for names in client.keys("llmhost:fleets:vast:*"):
            client.sadd(names, *(f"ci-{number}" for number in range(300)))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        done = await market.run("down", "--all", "--yes", LLMHOST_CONFIG="")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (done.code, market.alive()) == (0, []), done.err
