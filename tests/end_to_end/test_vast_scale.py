"""Rented workers, scaled as a user's cron scales them: real commands, TLS, nginx; a double of vast.ai."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from doubles.fleet_time import FleetTime, ScaledFleet, change, frozen
from doubles.vast.faults import Fault
from doubles.waiting import until
from plugins.redis_servers import RedisServer
from plugins.rented_commands import RentedHouse, bought

from llmhost.config.models import RedisConfig
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys

pytestmark = pytest.mark.slow

#: USD an hour; far over what three of the double's machines cost
BUDGET = {"per_hour": 5.0}

#: questions at once: more wait than chance would have wait before one worker
JAM = 8


class Fleet(ScaledFleet):
    """A rented fleet."""

    house: RentedHouse

    @property
    def alive(self) -> list[str]:
        return self.house.alive()

    def engines(self, workers: Iterable[str]) -> list[psutil.Process]:
        containers = [self.house.container(worker) for worker in workers]
        return [one for container in containers for one in container.processes("ollama", "serve")]


@pytest.fixture
async def fleet(rented_house: RentedHouse, redis_server: RedisServer) -> AsyncIterator[Fleet]:
    """Nothing is rented yet. Nobody may wait for longer than a second."""
    assert redis_server.socket is not None
    configure(rented_house)
    client = connect(RedisConfig(), socket=redis_server.socket)
    yield Fleet(rented_house, FleetTime(client, redis_server.socket, "rented"))
    await client.aclose()


def configure(
    house: RentedHouse,
    *,
    fleet: Mapping[str, Any] | None = None,
    vast: Mapping[str, Any] | None = None,
    scale: Mapping[str, Any] | None = None,
) -> None:
    house.configure(
        fleet={"max_gpus": 3, "budget": BUDGET, "ready_timeout": "20m", **(fleet or {})},
        vast=dict(vast or {}),
        scale={"queue_time": "1s", "boot_time": "1s", **(scale or {})},
        engine={"first_token_timeout": "60s"},
    )


def done(step: Any) -> list[tuple[str, str | None]]:
    assert all(action["done"] for action in step["actions"])
    return [(action["kind"], action["worker"]) for action in step["actions"]]


# Following the load


async def test_a_fleet_grows_to_three_under_load_and_shrinks_to_one_without_breaking_an_answer(
    fleet: Fleet,
) -> None:
    house = fleet.house
    assert change(await fleet.scale()) == ("up", 0, 1)
    await fleet.ready(1)
    assert change(await fleet.scale()) == ("hold", 1, 1)

    first = fleet.alive
    with frozen(fleet.engines(first)):
        jam = [await house.start("ask", "--json", "--no-cache", "What is Redis?") for _ in range(JAM)]
        await fleet.waiting(JAM, first)
        grown = await fleet.scale()
    assert change(grown) == ("up", 1, 3)
    assert [kind for kind, _ in done(grown)] == ["buy", "buy"]
    assert await answers(jam) == [("Hello, Wörld!", first[0])] * JAM
    await fleet.ready(3)
    assert change(await fleet.scale()) == ("hold", 3, 3)

    workers = fleet.alive
    with frozen(fleet.engines(workers)):
        last = [await house.start("ask", "--json", "--no-cache", "What is nginx?") for _ in workers]
        await fleet.waiting(len(workers), workers)
        await fleet.time.pass_time(600)
        shrinking = await house.start("scale", "--json")
        await until(fleet.time.draining)
        assert fleet.alive == workers
    assert sorted(worker for _, worker in await answers(last)) == workers
    shrunk = (await shrinking.end()).json
    assert change(shrunk) == ("down", 3, 1)
    assert sorted(kind for kind, _ in done(shrunk)) == ["drain", "drain", "end", "end"]
    assert len(fleet.alive) == 1

    status = await house.ok("status")
    prices = sum(one.price for one in house.server.instances.values())
    assert status["spent_usd"] == pytest.approx(house.server.billed_total(), abs=prices / 60)
    await house.ok("down", "--all")
    assert (fleet.alive, house.in_containers(), house.server.burn) == ([], [], 0)


async def answers(asked: Iterable[Any]) -> list[tuple[str, str]]:
    """The answers and their workers, all of them whole."""
    ended = await asyncio.gather(*(one.end() for one in asked))
    assert [one.code for one in ended] == [0] * len(ended), [one.err for one in ended]
    return [(one.json["answer"], one.json["worker"]) for one in ended]


# Workers that break


async def test_what_is_outbid_has_ended_or_hangs_is_replaced_and_nothing_else(fleet: Fleet) -> None:
    configure(fleet.house, vast={"interruptible": True, "max_bid": 0.5}, scale={"min_gpus": 3})
    outbid, ended, hanging = await fleet.settled(3)
    fleet.house.server.outbid(bought(1))
    fleet.house.server.become(bought(2), "exited", "Error: the GPU has fallen off the bus")
    fleet.house.container(hanging).engine(wedged=True)
    first, second = await fleet.scale(), await fleet.scale()  # a third of the fleet each
    assert done(first) == [("repair", outbid), ("buy", f"vast-{bought(4)}")]
    assert done(second) == [("repair", ended), ("buy", f"vast-{bought(5)}")]
    details = [step["actions"][0]["detail"] for step in (first, second)]
    assert ["outbid" in details[0], "ended" in details[1]] == [True] * 2
    assert fleet.alive == [hanging, f"vast-{bought(4)}", f"vast-{bought(5)}"]
    await fleet.time.pass_time(600)
    assert done(await fleet.scale()) == [("repair", hanging), ("buy", f"vast-{bought(6)}")]
    machines = [one.offer["machine_id"] for one in fleet.house.server.instances.values()]
    assert len(machines) == 6
    # What broke is not rented again. A machine at which another customer paid more may be.
    assert [machines.count(machines[place]) for place in (1, 2)] == [1, 1]
    await fleet.ready(3)
    assert change(await fleet.scale()) == ("hold", 3, 3)


# What stands in the way


@pytest.fixture
def market(fleet: Fleet) -> Fleet:
    """What is bought there never gets further than booting."""
    fleet.house.boot_for_ever()
    return fleet


async def test_without_any_limit_nothing_is_bought_and_the_keys_are_named(market: Fleet) -> None:
    configure(market.house, fleet={"budget": {}})
    refused = await market.house.run("scale")
    assert (refused.code, refused.out, market.house.server.created_total) == (2, "", 0)
    assert "nothing limits what it may pay" in refused.error
    assert "`fleet.budget.per_hour`" in refused.err
    assert (await market.house.run("scale", LLMHOST_VAST__MAX_PRICE="0.5")).code == 0
    assert len(market.alive) == 1


async def test_over_the_budget_it_buys_what_it_may_and_says_by_what_arithmetic(market: Fleet) -> None:
    wanted = {"LLMHOST_SCALE__MIN_GPUS": "3", "LLMHOST_FLEET__BUDGET__PER_HOUR": "0.7"}
    first = await market.house.run("scale", **wanted)
    again = await market.house.run("scale", **wanted)
    assert (first.code, again.code, len(market.alive)) == (4, 4, 2)
    assert re.search(r"over the \$0\.70* of fleet\.budget\.per_hour", again.error)


async def test_with_credit_for_less_than_an_hour_it_buys_nothing(market: Fleet) -> None:
    market.house.server.credit = 0.2
    refused = await market.house.run("scale")
    assert (refused.code, market.alive) == (4, [])
    assert "the account's credit of $0.20, less $0.01 for traffic, would last" in refused.error


async def test_purchases_that_keep_failing_end_for_an_hour_and_that_is_told(market: Fleet) -> None:
    market.house.server.arm(Fault.BOOT_ERROR, times=None)
    for _ in range(3):
        await market.scale()
        await until(lambda: market.house.server.world.alive[0].status_msg)
    stopped = await market.house.run("scale")
    assert (stopped.code, market.alive, market.house.server.created_total) == (4, [], 3)
    assert "3 purchases failed within an hour" in stopped.error


# Several at once


async def test_two_machines_at_the_same_moment_buy_what_is_wanted_once(market: Fleet, tmp_path: Path) -> None:
    elsewhere = {"LLMHOST_STATE_DIR": str(tmp_path / "elsewhere")}
    wanted = {"LLMHOST_SCALE__MIN_GPUS": "3"}
    steps = await asyncio.gather(market.scale(**wanted), market.scale(**wanted, **elsewhere))
    assert sorted(len(step["actions"]) for step in steps) in ([0, 3], [3, 0])
    assert (len(market.alive), market.house.server.created_total) == (3, 3)
    assert market.house.server.double_paid() == []


# Secrets


async def test_no_secret_shows_in_what_is_said_or_remembered(fleet: Fleet) -> None:
    house, server = fleet.house, fleet.house.server
    house.boot_for_ever()
    assert (await house.run("scale", "--verbose")).code == 0
    token = server.instances[bought(1)].order.env["LLMHOST_TOKEN"]
    server.become(bought(1), "created", f"OCI runtime create failed: docker run -e LLMHOST_TOKEN={token}")
    assert (await house.run("scale", "--verbose", "--dry-run")).code == 0
    assert (await house.run("scale", "--verbose", "--json")).code == 0
    server.arm(Fault.SERVER_ERROR, endpoint="list", times=None)
    assert (await house.run("scale", "--verbose")).code == 5
    server.faults.armed.clear()
    assert (await house.run("scale", "--verbose", VAST_API_KEY=f"{server.key}x")).code == 5
    assert (await house.run("scale", "history", "--verbose")).code == 0
    kept = await fleet.time.client.hgetall(FleetKeys("rented").scale)
    traffic = await fleet.time.client.hgetall(FleetKeys("rented").traffic)
    places = [*(one.out + one.err for one in house.said), repr(kept), repr(traffic)]
    assert ["OCI runtime create failed" in place for place in places].count(True) >= 3
    secrets = [server.key, *(one.key for one in server.instances.values())]
    secrets += [
        one.order.env[name][:64]
        for one in server.instances.values()
        for name in ("LLMHOST_TOKEN", "LLMHOST_KEY")
    ]
    assert [place for place in places if any(secret in place for secret in secrets)] == []
