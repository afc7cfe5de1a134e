"""`llmhost down --all` keeps every fleet down, also those without workers and what is rented meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.vast.sdk import ORDER
from plugins.rented_commands import RentedHouse

from llmhost.config.models import RedisConfig
from llmhost.fleet.models import Intent
from llmhost.fleet.pause import PauseMarks
from llmhost.fleet.providers.vast.client import fingerprint_of
from llmhost.fleet.registry import FleetRegistry, Origin
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys

pytestmark = [pytest.mark.slow]


async def test_down_all_keeps_fleets_down_that_have_no_workers_just_then(
    blue: RentedHouse, green: str
) -> None:
    await blue.ok("down", "--all", "--yes")
    step = await blue.ok("scale", LLMHOST_CONFIG=green)
    assert ("paused since" in step["reason"], blue.alive()) == (True, [])


@pytest.mark.usefixtures("green")
async def test_down_all_tells_the_redis_of_each_fleet(blue: RentedHouse, redis_server: Any) -> None:
    await blue.ok("down", "--all", "--yes")
    async with connect(RedisConfig(), socket=redis_server.socket) as client:
        assert await client.hvals(FleetKeys("green").pauses("vast"))


async def test_down_all_keeps_down_a_fleet_that_was_renamed_and_never_used_since(blue: RentedHouse) -> None:
    blue.configure(fleet={"name": "red", "budget": {"per_hour": 10}}, scale={"min_gpus": 1})
    await blue.ok("down", "--all", "--yes", LLMHOST_CONFIG="")
    step = await blue.ok("scale")
    assert ("paused since" in step["reason"], blue.alive()) == (True, [])
    await blue.ok("up", "--gpus", "1", "--yes", "--no-wait")
    assert "paused" not in (await blue.ok("scale"))["reason"]


async def test_down_all_keeps_down_what_nothing_is_known_of_yet(rented_house: RentedHouse) -> None:
    rented_house.boot_for_ever()
    rented_house.configure(fleet={"budget": {"per_hour": 10}}, scale={"min_gpus": 1})
    await rented_house.ok("down", "--all", "--yes", LLMHOST_CONFIG="")
    step = await rented_house.ok("scale")
    assert ("paused since" in step["reason"], rented_house.alive()) == (True, [])


# Another machine that uses the same Redis


async def test_down_all_tells_the_redis_of_a_fleet_that_was_taken_down_before_and_made_again_elsewhere(
    blue: RentedHouse, tmp_path: Path
) -> None:
    await blue.ok("down")
    blue.configure(fleet={"name": "blue", "budget": {"per_hour": 10}}, scale={"min_gpus": 1})
    there = {"LLMHOST_STATE_DIR": str(tmp_path / "there")}
    await blue.ok("up", "--gpus", "1", "--yes", "--no-wait", **there)
    await blue.ok("down", "--all", "--yes", LLMHOST_CONFIG="")
    step = await blue.ok("scale", **there)
    assert ("paused since" in step["reason"], blue.alive()) == (True, [])


async def test_what_is_being_bought_elsewhere_for_a_fleet_that_is_not_known_here_is_in_doubt(
    blue: RentedHouse, redis_server: Any
) -> None:
    key = blue.environ["VAST_API_KEY"]
    async with connect(RedisConfig(), socket=redis_server.socket) as client:
        marks = PauseMarks(None, "vast", lambda: (fingerprint_of(key),))
        there = FleetRegistry(client, "green", Origin("vast", "vast", rents=True, key=key.encode()), marks)
        await there.begin(Intent("1700000000-0123abcd", "1", "2", time.time()))
    shown = await blue.run("fleets")
    assert (shown.code, "1700000000-0123abcd" in shown.err) == (3, True), shown.err
    done = await blue.run("down", "--all", "--yes")
    assert (done.code != 0, "1700000000-0123abcd" in done.err) == (True, True), done.err


# What is rented while `down --all` runs


@pytest.fixture
def renting_reds(blue: RentedHouse) -> Callable[[int], None]:
    """Has another machine rent a worker for fleet red-1, red-2 and so on, one whenever a worker is destroyed,
    so many in all."""

    def begin(most: int) -> None:
        rented = 0

        async def rent(endpoint: str, _: int) -> None:
            nonlocal rented
            if endpoint == "destroy" and rented < most:
                rented += 1
                order = {**ORDER, "label": f"llmhost/red-{rented}/1700000000-0123abcd"}
                await blue.sdk("create_instance", blue.offers[4 + rented]["id"], **order)

        blue.server.before = rent

    return begin


async def test_down_all_ends_what_is_rented_while_it_runs(
    blue: RentedHouse, renting_reds: Callable[[int], None]
) -> None:
    renting_reds(1)
    done = await blue.run("down", "--all", "--yes", "--json")
    assert (done.code, blue.alive(), len(done.json["destroyed"])) == (0, [], 3), done.err


async def test_down_all_names_what_is_rented_again_and_again_while_it_runs(
    blue: RentedHouse, renting_reds: Callable[[int], None]
) -> None:
    renting_reds(3)  # the third while the first two are ended
    done = await blue.run("down", "--all", "--yes")
    (left,) = blue.alive()
    assert (done.code, f"{left}: it was made while the others were destroyed" in done.err) == (3, True)


async def test_down_all_that_asked_ends_nothing_that_it_did_not_ask_about(
    blue: RentedHouse, renting_reds: Callable[[int], None]
) -> None:
    renting_reds(1)
    async with blue.terminal("down", "--all") as terminal:
        await terminal.until("Destroy 2 workers")
        terminal.type("y\n")
        await terminal.until("it was made while the others were destroyed")
        assert await terminal.end() == 3
    assert len(blue.alive()) == 1


@pytest.mark.parametrize("command", [["down"], ["down", "--all", "--yes"], ["--fleet", "blue", "down"]])
async def test_down_tells_the_redis_of_each_file_that_the_fleet_comes_from(
    blue: RentedHouse, redis_server: Any, command: list[str]
) -> None:
    usual = blue.configure(fleet={"name": "blue"}, redis={"url": None})
    other = usual.rename(usual.with_name("other.yaml"))
    blue.configure(fleet={"name": "blue"})
    await blue.ok("--config", str(other), "up", "--gpus", "2", "--yes", "--no-wait")
    done = await blue.run("--config", str(other), *command)
    assert (done.code, blue.alive()) == (0, []), done.err
    async with connect(RedisConfig(), socket=redis_server.socket) as client:
        assert await client.hvals(FleetKeys("blue").pauses("vast"))
    assert not list((blue.state / "fleets" / "blue").glob("fleet-*.json"))


async def test_down_of_a_fleet_whose_file_is_gone_fails_where_another_redis_was_named_in_it(
    blue: RentedHouse,
) -> None:
    blue.configure().unlink()
    done = await blue.run("--fleet", "blue", "down", LLMHOST_CONFIG="")
    assert (done.code, blue.alive()) == (3, []), done.err
    assert "llmhost.yaml, which fleet blue comes from, is gone" in done.err
