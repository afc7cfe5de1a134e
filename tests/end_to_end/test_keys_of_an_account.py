"""Two API keys of one account, and a key that was replaced, are one account to `down --all` and `fleets`."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles.vast.faults import Fault
from doubles.vast.server import Drop, VastServer
from plugins.redis_servers import RedisServer
from plugins.rented_commands import RentedHouse

from llmhost.fleet.clock import SystemClock

pytestmark = [pytest.mark.slow]

SECOND_KEY = "b" * 64


@pytest.fixture
def market(rented_house: RentedHouse) -> RentedHouse:
    """An account with two keys; what is bought there never gets further than booting."""
    rented_house.boot_for_ever()
    rented_house.server.more_keys.add(SECOND_KEY)
    rented_house.configure(fleet={"budget": {"per_hour": 10}}, scale={"min_gpus": 1})
    return rented_house


def elsewhere(tmp_path: Path, key: str = SECOND_KEY) -> dict[str, str]:
    """Another machine that uses this Redis for a fleet of its own, with this key."""
    return {
        "LLMHOST_STATE_DIR": str(tmp_path / "other machine"),
        "LLMHOST_FLEET__NAME": "green",
        "VAST_API_KEY": key,
    }


async def without_workers(market: RentedHouse) -> None:
    """A fleet that was rented, that was never taken down, and that nothing shows elsewhere."""
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    await market.ok("down", *market.alive())


async def test_down_all_with_one_key_keeps_down_a_fleet_that_is_rented_with_another_key_of_the_account(
    market: RentedHouse, tmp_path: Path
) -> None:
    await without_workers(market)
    await market.ok("down", "--all", "--yes", **elsewhere(tmp_path))
    step = await market.ok("scale")
    assert ("paused since" in step["reason"], market.alive()) == (True, [])
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    assert "paused" not in (await market.ok("scale"))["reason"]


async def test_down_all_keeps_down_a_fleet_whose_machine_learns_only_then_whose_its_key_is(
    market: RentedHouse, tmp_path: Path
) -> None:
    await market.ok("down", "--all", "--yes", **elsewhere(tmp_path))
    step = await market.run("scale", "--json")  # it asks for the credit before it buys
    assert (step.code != 0, market.alive()) == (True, []), step.err
    assert "paused since" in (await market.ok("scale"))["reason"]


async def test_down_all_with_the_key_of_another_account_pauses_nothing_of_this_one(
    market: RentedHouse, tmp_path: Path
) -> None:
    await without_workers(market)
    async with VastServer(SystemClock(), pace=0) as other:
        other.change_account()
        market.server.also_serve(other)
        await market.ok("down", "--all", "--yes", **elsewhere(tmp_path, other.key))
    await market.ok("scale")
    assert len(market.alive()) == 1


async def test_down_all_works_while_vast_does_not_say_whose_key_it_is(
    market: RentedHouse, tmp_path: Path
) -> None:
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")

    async def cut(endpoint: str, _: int) -> None:
        if endpoint == "user":
            raise Drop

    market.server.before = cut
    done = await market.run("down", "--all", "--yes", **elsewhere(tmp_path, market.server.key))
    assert market.alive() == [], done.err
    market.server.before = None
    assert "paused since" in (await market.ok("scale"))["reason"]  # the key is the same


async def test_fleets_shows_what_is_being_bought_for_an_unknown_fleet_with_another_key_of_the_account(
    market: RentedHouse, tmp_path: Path
) -> None:
    market.server.arm(Fault.CREATE_CUT)
    market.server.arm(Fault.SHOWN_LATE, value=3600.0)
    await market.run("up", "--yes", "--no-wait")
    (purchase,) = (market.state / "fleets" / "rented" / "intents").glob("*.json")
    shown = await market.run("fleets", **elsewhere(tmp_path))
    assert (shown.code, purchase.stem in shown.err) == (3, True), shown.err


async def test_a_fleet_whose_file_is_gone_is_seen_with_the_key_that_replaced_its_own(
    market: RentedHouse, redis_server: RedisServer
) -> None:
    await market.ok("up", "--gpus", "1", "--yes", "--no-wait")
    market.configure().unlink()
    there = {"LLMHOST_CONFIG": "", "LLMHOST_REDIS__URL": f"unix://{redis_server.socket}"}
    assert (await market.fleets(VAST_API_KEY=SECOND_KEY, **there))["rented"] == 1


async def test_no_command_asks_twice_whose_key_it_is(market: RentedHouse, tmp_path: Path) -> None:
    await market.ok("fleets", **elsewhere(tmp_path))
    asked = market.server.calls["user"]
    await market.ok("fleets", **elsewhere(tmp_path))
    assert (asked, market.server.calls["user"]) == (1, 1)
