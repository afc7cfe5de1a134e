"""What is bought on vast.ai, and above all what is not: asking first, budgets, interruptions, odd answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from doubles.vast.faults import Fault
from doubles.vast.sdk import ORDER
from doubles.vast.server import Drop
from doubles.waiting import until
from plugins.redis_servers import RedisServer
from plugins.rented_commands import RentedHouse, bought
from redis import Redis

from llmhost.store.keys import FleetKeys

pytestmark = pytest.mark.slow

CTRL_C = "\x03"


@pytest.fixture
def market(rented_house: RentedHouse) -> RentedHouse:
    """What is bought there never gets further than booting."""
    rented_house.boot_for_ever()
    return rented_house


async def test_without_a_terminal_and_yes_nothing_is_bought(market: RentedHouse) -> None:
    done = await market.run("up", "--gpus", "2")
    assert (done.code, market.server.created_total) == (2, 0)
    assert "this would buy 2 workers, $0.63/h in all" in done.error
    assert "--yes" in done.err


@pytest.mark.parametrize(
    ("answer", "code", "workers"),
    [("n\n", 1, 0), ("y\n", 0, 2), (CTRL_C, 130, 0)],
    ids=["no", "yes", "Ctrl-C"],
)
async def test_on_a_terminal_it_shows_what_that_costs_and_asks(
    market: RentedHouse, answer: str, code: int, workers: int
) -> None:
    async with market.terminal("up", "--gpus", "2", "--no-wait") as terminal:
        await terminal.until("Buy? [y/N]: ")
        assert market.server.created_total == 0
        assert "Cost: $0.63/h, $15.14/day" in terminal.shown
        assert all(str(offer["id"]) in terminal.shown for offer in market.offers[:2])
        terminal.type(answer)
        assert await terminal.end() == code
    assert len(market.alive()) == market.server.created_total == workers


async def test_an_error_that_ends_it_does_not_hide_that_a_purchase_is_in_doubt(market: RentedHouse) -> None:
    market.server.arm(Fault.SPEND_RATE)
    done = await market.run("up", "--gpus", "1", "--yes", "--no-wait")
    assert (done.code, "error: vast.ai refused buying an offer" in done.err) == (5, True)
    assert done.err.count("was refused a moment ago, and may be listed all the same until") == 1


async def test_while_it_asks_another_command_may_change_the_fleet(market: RentedHouse) -> None:
    async with market.terminal("up", "--gpus", "2", "--no-wait") as terminal:
        await terminal.until("Buy? [y/N]: ")
        await market.ok("down")  # it would wait for a quarter of an hour, were the fleet locked
        terminal.type("n\n")
        assert await terminal.end() == 1
        assert "Cancelled. Nothing was bought." in terminal.shown


async def test_a_dry_run_shows_what_it_costs_and_buys_nothing(market: RentedHouse) -> None:
    done = await market.run("up", "--gpus", "2", "--dry-run")
    assert (done.code, market.server.created_total) == (0, 0)
    assert "Cost: $0.63/h, $15.14/day" in done.out
    assert "/month" in done.out


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["really", "dry run"])
async def test_over_the_budget_it_says_by_what_arithmetic_and_buys_nothing(
    market: RentedHouse, dry: tuple[str, ...]
) -> None:
    market.configure(fleet={"budget": {"per_hour": 0.5}})
    done = await market.run("up", "--gpus", "2", "--yes", *dry)
    assert (done.code, market.server.created_total) == (4, 0)
    assert re.search(r"\$0\.63\d*\b.* over the \$0\.50* of fleet\.budget\.per_hour", done.error)


async def test_interrupted_while_it_waits_it_lists_what_is_paid_for(market: RentedHouse) -> None:
    up = await market.start("up", "--gpus", "2", "--yes")
    await up.until("err", f"vast-{bought(2)}: booting")
    up.interrupt()
    done = await up.end()
    assert done.code == 130
    assert f"still running: vast-{bought(1)}, vast-{bought(2)} ($0.63/h)" in done.err
    assert list(await market.status()) == market.alive() == [f"vast-{bought(1)}", f"vast-{bought(2)}"]


async def test_when_vast_ai_falls_silent_it_lists_what_it_has_bought(market: RentedHouse) -> None:
    up = await market.start("up", "--gpus", "2", "--yes")
    await up.until("err", f"vast-{bought(2)}: booting")
    market.server.arm(Fault.SERVER_ERROR, endpoint="list", times=None)
    done = await up.end()
    assert done.code == 5
    assert f"the running workers cannot be listed: vast-{bought(1)}, vast-{bought(2)}; " in done.err


def signal_pending(pid: int) -> bool:
    """Whether the system has not yet delivered a signal that was sent: `proc_pid_status(5)`."""
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["SigPnd"], 16) | int(status["ShdPnd"], 16) > 0


async def test_interrupted_while_it_buys_it_lists_what_came_of_that(market: RentedHouse) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def hold(endpoint: str, _: int) -> None:
        if endpoint == "create":
            asked.set()
            await answered.wait()

    market.server.after = hold
    up = await market.start("up", "--gpus", "2", "--yes")
    await asked.wait()
    up.interrupt()
    await until(lambda: not signal_pending(up.process.pid))
    answered.set()
    done = await up.end()
    assert (done.code, market.server.created_total) == (130, 1)
    assert f"still running: vast-{bought(1)} " in done.err
    assert list(await market.status()) == [f"vast-{bought(1)}"]


async def test_an_interrupted_down_names_what_is_still_paid_for(market: RentedHouse) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def hold(endpoint: str, _: int) -> None:
        if endpoint == "destroy":
            asked.set()
            await answered.wait()

    await market.ok("up", "--gpus", "2", "--yes", "--no-wait")
    market.server.before = hold
    down = await market.start("down", "--yes")
    await asked.wait()
    down.interrupt()
    done = await down.end()
    answered.set()
    assert done.code == 130
    assert f"still running: vast-{bought(1)}, vast-{bought(2)} ($0.63/h); `llmhost down` again" in done.err


async def test_an_interrupted_down_of_all_fleets_does_not_say_that_nothing_runs(market: RentedHouse) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def hold(endpoint: str, _: int) -> None:
        if endpoint == "destroy":
            asked.set()
            await answered.wait()

    await market.ok("--fleet", "blue", "up", "--yes", "--no-wait")
    market.server.before = hold
    down = await market.start("down", "--all", "--yes")
    await asked.wait()
    down.interrupt()
    done = await down.end()
    answered.set()
    assert done.code == 130
    assert "no workers are running in the configured fleet, and `llmhost fleets` shows those of" in done.err


async def test_orphans_are_ended_and_nothing_else_is(market: RentedHouse) -> None:
    await market.ok("up", "--yes", "--no-wait")
    known = market.alive()
    ours, others, nobodys = [
        (await market.sdk("create_instance", offer["id"], **{**ORDER, "label": label}))["new_contract"]
        for offer, label in zip(
            market.offers[5:], ("llmhost/rented/1700000000-0123abcd", "llmhost/other/x", None), strict=False
        )
    ]
    down = await market.ok("down", "--orphans")
    assert (down["destroyed"], down["remaining"]) == ([f"vast-{ours}"], known)
    assert market.alive() == [*known, f"vast-{others}", f"vast-{nobodys}"]


async def purchase_in_doubt(market: RentedHouse) -> Path:
    """The file of one that vast.ai was not even asked for, which nobody knows."""

    async def kill(endpoint: str, _: int) -> None:
        if endpoint == "create":
            up.process.kill()
            raise Drop

    market.server.before = kill
    up = await market.start("up", "--yes")
    await up.end()
    market.server.before = None
    (order,) = (market.state / "fleets" / "rented" / "intents").iterdir()
    return order


def add(order: Path, **seconds: float) -> None:
    """To fields of the order."""
    values = json.loads(order.read_text())
    order.write_text(json.dumps({**values, **{name: values[name] + more for name, more in seconds.items()}}))


Older = Callable[[Path], None]


@pytest.fixture
def make_older(redis_server: RedisServer) -> Older:
    """As if a quarter of an hour had passed since a purchase, for this machine and for Redis."""

    def make(order: Path) -> None:
        add(order, written=-901.0, uptime=-901.0)
        with Redis(unix_socket_path=str(redis_server.socket)) as client:
            client.delete(FleetKeys("rented").purchases)

    return make


async def test_a_purchase_that_came_to_nothing_is_forgotten_with_the_orphans(
    market: RentedHouse, make_older: Older
) -> None:
    order = await purchase_in_doubt(market)
    make_older(order)
    assert (await market.ok("down", "--orphans"))["intents"] == [order.stem]
    assert (await market.ok("down", "--orphans"))["intents"] == []
    assert market.server.created_total == 0


@pytest.mark.parametrize(
    "command", [["fleets"], ["down"], ["down", "--orphans"], ["down", "--all", "--yes"]], ids=" ".join
)
async def test_a_purchase_that_may_still_have_bought_something_is_not_forgotten(
    market: RentedHouse, command: list[str]
) -> None:
    order = await purchase_in_doubt(market)
    done = await market.run(*command)
    assert (done.code != 0, order.exists()) == (True, True), done.out
    assert f"it is not known yet whether the purchase {order.stem} bought a worker" in done.err


@pytest.mark.parametrize("date", [-1200.0, 1200.0, 1e6], ids=["ahead", "back", "far back"])
async def test_no_purchase_is_older_because_the_date_was_put_ahead_or_back(
    market: RentedHouse, date: float
) -> None:
    order = await purchase_in_doubt(market)
    add(order, written=date)
    done = await market.run("down")
    assert (done.code != 0, order.exists()) == (True, True)
    assert f"it is not known yet whether the purchase {order.stem} bought a worker" in done.err


async def test_down_does_not_call_a_machine_gone_that_was_sold_a_moment_ago_and_is_not_shown_yet(
    market: RentedHouse,
) -> None:
    market.server.arm(Fault.SHOWN_LATE, value=3600.0)
    await market.run("up", "--yes", "--no-wait")
    for command in (["status"], ["down"], ["down", "--all", "--yes"]):
        done = await market.run(*command)
    assert (done.code != 0, "it is not known yet whether vast-" in done.err) == (True, True), done.err
    (sold,) = market.server.alive()
    market.server.instances[sold].quirks.clear()
    assert (await market.run("down")).code == 0
    assert market.alive() == []


@pytest.mark.parametrize("fleet", ["rented", "another"])
async def test_fleets_names_purchases_in_doubt_whatever_fleet_is_configured(
    market: RentedHouse, make_older: Older, fleet: str
) -> None:
    order = await purchase_in_doubt(market)
    market.configure(fleet={"name": fleet})
    shown = await market.run("fleets", "--json")
    assert (shown.code, shown.json["hourly_cost_usd"]) == (3, 0.0)
    assert f"whether the purchase {order.stem} bought a worker" in shown.err
    make_older(order)
    await market.ok("fleets")


@pytest.mark.parametrize(
    "command", [["fleets"], ["down"], ["down", "--orphans"], ["down", "--all", "--yes"]], ids=" ".join
)
async def test_an_order_that_cannot_be_read_in_full_is_in_doubt_until_its_file_is_removed(
    market: RentedHouse, make_older: Older, command: list[str]
) -> None:
    order = await purchase_in_doubt(market)
    make_older(order)
    order.write_text(order.read_text()[:-40])
    done = await market.run(*command)
    assert (done.code != 0, order.exists()) == (True, True), done.out
    assert f"whether the purchase {order.stem} bought a worker cannot be seen in its record" in done.err
    order.unlink()
    await market.ok(*command)


@pytest.mark.parametrize(
    "command", [["fleets"], ["down"], ["down", "--orphans"], ["down", "--all", "--yes"]], ids=" ".join
)
async def test_another_accounts_key_does_not_see_that_a_purchase_bought_nothing(
    market: RentedHouse, make_older: Older, command: list[str]
) -> None:
    order = await purchase_in_doubt(market)
    make_older(order)
    market.environ["VAST_API_KEY"] = market.server.key = "0" * 64
    market.server.arm(Fault.SERVER_ERROR, endpoint="user", times=None)
    done = await market.run(*command)
    assert (done.code != 0, order.exists()) == (True, True), done.out
    assert f"whether the purchase {order.stem} bought a worker cannot be seen with this API key" in done.err
    assert f"remove {order.name}" in done.err


@pytest.mark.parametrize(
    ("environ", "code", "says"),
    [
        ({"VAST_API_KEY": "0" * 64}, 5, "vast.ai does not accept the API key"),
        ({"VAST_API_KEY": ""}, 2, "no API key for vast.ai is set"),
        ({"VAST_URL": "http://127.0.0.1:9"}, 5, "vast.ai cannot be reached for listing the instances"),
    ],
    ids=["wrong key", "no key", "away"],
)
async def test_without_an_account_that_answers_nothing_is_bought(
    market: RentedHouse, environ: dict[str, str], code: int, says: str
) -> None:
    done = await market.run("up", "--yes", **environ)
    assert (done.code, market.server.created_total) == (code, 0)
    assert says in done.error
    assert "hint: " in done.err


@pytest.mark.parametrize("command", ["up --yes", "status", "down"])
async def test_a_list_that_cannot_be_read_is_never_taken_for_an_empty_one(
    market: RentedHouse, command: str
) -> None:
    # A machine of this fleet that only vast.ai knows of.
    order = {**ORDER, "label": "llmhost/rented/1700000000-0123abcd"}
    made = await market.sdk("create_instance", market.offers[0]["id"], **order)
    market.server.arm(Fault.LIST_SHORT, times=None)
    done = await market.run(*command.split())
    assert (done.code, done.out, market.alive()) == (5, "", [f"vast-{made['new_contract']}"])
    assert "vast.ai's list of instances is not complete" in done.error
