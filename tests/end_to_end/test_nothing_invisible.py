"""Nothing that bills is invisible, and stopping works whatever stands in its way."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from doubles.forked_command import ForkedCommand
from doubles.vast.faults import Fault
from doubles.vast.sdk import ORDER
from doubles.vast.server import VastServer
from doubles.waiting import until
from plugins.commands import processes_of
from plugins.rented_commands import RentedHouse, bought

from llmhost.config.models import RedisConfig
from llmhost.errors import StateError
from llmhost.fleet import service
from llmhost.fleet.clock import SystemClock
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys

pytestmark = [pytest.mark.slow]


async def fleets(house: RentedHouse, **environ: str) -> dict[str, Any]:
    """How many workers each fleet has, as `llmhost fleets` shows it."""
    shown = await house.ok("fleets", **environ)
    return {fleet["name"]: len(fleet["workers"]) for fleet in shown["fleets"]}


@pytest.fixture
async def blue(rented_house: RentedHouse) -> RentedHouse:
    """A fleet named blue, of two workers that boot for as long as the test lasts."""
    rented_house.boot_for_ever()
    rented_house.configure(fleet={"name": "blue", "budget": {"per_hour": 10}})
    await rented_house.ok("up", "--gpus", "2", "--yes", "--no-wait")
    return rented_house


async def test_a_renamed_fleet_is_shown_by_every_command_and_ended_by_down_all(blue: RentedHouse) -> None:
    blue.configure(fleet={"name": "green"})
    assert await fleets(blue) == {"green": 0, "blue": 2}
    for command in ("status", "down"):
        done = await blue.run(command)
        assert "warning: fleet blue (vast): 2 workers" in done.err, command
    assert "fleet blue (vast): 2 workers" in (await blue.run("doctor")).out
    assert len(blue.alive()) == 2
    left = await blue.run("down", "--all")
    assert (left.code, len(blue.alive())) == (3, 2)
    ended = await blue.run("down", "--all", "--yes")
    assert (ended.code, blue.alive()) == (0, [])
    assert await fleets(blue) == {"green": 0}


async def test_a_fleet_is_chosen_by_its_name(blue: RentedHouse) -> None:
    blue.configure(fleet={"name": "green"})
    assert len((await blue.ok("--fleet", "blue", "status"))["workers"]) == 2
    await blue.ok("--fleet", "blue", "down")
    assert blue.alive() == []


async def test_another_provider_in_the_configuration_hides_no_rented_worker(blue: RentedHouse) -> None:
    blue.configure(fleet={"provider": "local", "name": "blue"}, engine={"kind": "llama_cpp"})
    done = await blue.run("status")
    assert "warning: fleet blue (vast): 2 workers" in done.err
    assert (await blue.run("down", "--all", "--yes")).code == 0
    assert blue.alive() == []


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of another machine, on which nothing is known but the account's key."""
    home, state = tmp_path / "empty", tmp_path / "elsewhere"
    home.mkdir()
    yield {
        "LLMHOST_CONFIG": "",
        "LLMHOST_STATE_DIR": str(state),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
    }
    for process in processes_of(state):
        process.kill()
        process.wait()


#: a warning of `down`
TOLD_NOBODY = "workers of fleet blue were rented from another machine: an autoscaler there is not told"


async def test_another_machine_with_the_accounts_key_sees_and_ends_everything(
    blue: RentedHouse, elsewhere: dict[str, str]
) -> None:
    assert (await fleets(blue, **elsewhere))["blue"] == 2
    down = await blue.run("down", "--all", "--yes", **elsewhere)
    assert (down.code, blue.alive()) == (0, [])
    assert TOLD_NOBODY in down.err


@pytest.mark.parametrize("command", [["down"], ["down", "--all", "--yes"], ["--fleet", "blue", "down"]])
async def test_down_says_that_it_tells_no_autoscaler_of_another_machine_which_has_a_redis_of_its_own(
    blue: RentedHouse, elsewhere: dict[str, str], command: list[str]
) -> None:
    if "--fleet" not in command:
        blue.configure(fleet={"name": "blue"}, redis={"url": None})
        elsewhere["LLMHOST_CONFIG"] = blue.environ["LLMHOST_CONFIG"]
    await blue.ok("status", "--fleet", "blue", **elsewhere)  # which puts the workers on record there
    down = await blue.run(*command, **elsewhere)
    assert (down.code, blue.alive()) == (0, [])
    assert TOLD_NOBODY in down.err


async def test_down_tells_the_autoscaler_of_another_machine_that_uses_the_same_redis(
    blue: RentedHouse, elsewhere: dict[str, str]
) -> None:
    elsewhere["LLMHOST_CONFIG"] = blue.environ["LLMHOST_CONFIG"]
    down = await blue.run("down", **elsewhere)
    assert (down.code, TOLD_NOBODY in down.err) == (0, False)


async def test_the_key_that_the_vastai_cli_wrote_into_a_file_suffices_to_see_and_end_everything(
    blue: RentedHouse, elsewhere: dict[str, str]
) -> None:
    (Path(elsewhere["HOME"]) / ".vast_api_key").write_text(blue.environ["VAST_API_KEY"])
    elsewhere["VAST_API_KEY"] = ""
    assert (await fleets(blue, **elsewhere))["blue"] == 2
    assert (await blue.run("down", "--all", "--yes", **elsewhere)).code == 0
    assert blue.alive() == []


async def test_a_fleet_that_was_rented_from_another_machine_is_chosen_by_its_name(
    blue: RentedHouse, elsewhere: dict[str, str]
) -> None:
    assert len((await blue.ok("--fleet", "blue", "status", **elsewhere))["workers"]) == 2
    await blue.ok("--fleet", "blue", "down", **elsewhere)
    assert blue.alive() == []


@pytest.mark.parametrize(
    "label", ["llmhost/blue", "llmhost/", "llmhost//x", "llmhost/../../x", "llmhost/a\x00b/x"]
)
async def test_an_edited_label_that_is_still_ours_is_seen_and_ended_from_another_machine(
    blue: RentedHouse, elsewhere: dict[str, str], label: str
) -> None:
    blue.server.instances[bought(1)].label = label
    assert sum((await fleets(blue, **elsewhere)).values()) == 2
    assert (await blue.run("down", "--all", "--yes", **elsewhere)).code == 0
    assert blue.alive() == []


@pytest.mark.parametrize("label", [None, "", "my gpu", "LLMHOST/blue/1"])
async def test_a_worker_whose_label_is_no_longer_ours_is_seen_and_ended_from_another_machine(
    blue: RentedHouse, elsewhere: dict[str, str], label: str | None
) -> None:
    blue.server.instances[bought(1)].label = label
    assert await fleets(blue, **elsewhere) == {"local": 0, "blue": 1, "unknown": 1}
    assert (await blue.run("down", "--all", "--yes", **elsewhere)).code == 0
    assert blue.alive() == []


@pytest.mark.parametrize("odd", [1, None])
async def test_an_odd_variable_hides_no_worker_whose_label_is_no_longer_ours_from_another_machine(
    blue: RentedHouse, elsewhere: dict[str, str], odd: Any
) -> None:
    worker = blue.server.instances[bought(1)]
    env = [[name, odd if name == "-p 8443:8443" else value] for name, value in worker.order.env.items()]
    worker.label, worker.odd = "my gpu", {"extra_env": env}
    assert await fleets(blue, **elsewhere) == {"local": 0, "blue": 1, "unknown": 1}
    assert (await blue.run("down", "--all", "--yes", **elsewhere)).code == 0
    assert blue.alive() == []


async def test_a_worker_whose_label_is_no_longer_ours_is_shown_once_where_it_is_on_record(
    blue: RentedHouse,
) -> None:
    blue.server.instances[bought(1)].label = "my gpu"
    assert await fleets(blue) == {"blue": 2}
    blue.configure(fleet={"name": "green"})
    assert await fleets(blue) == {"green": 0, "blue": 2}
    blue.configure(fleet={"name": "blue", "provider": "local"}, engine={"kind": "llama_cpp"})
    assert sum((await fleets(blue)).values()) == 2


async def test_a_configuration_that_cannot_be_read_hides_no_fleet(blue: RentedHouse) -> None:
    blue.configure().write_text("fleet: [1, 2")
    assert (await fleets(blue))["blue"] == 2
    assert "fleet blue (vast): 2 workers" in (await blue.run("doctor")).out


async def test_rows_without_a_number_are_shown_by_another_machine_which_cannot_end_them(
    blue: RentedHouse, elsewhere: dict[str, str]
) -> None:
    blue.server.arm(Fault.LIST_NO_ID, times=None)
    assert sum((await fleets(blue, **elsewhere)).values()) == 2
    done = await blue.run("down", "--all", "--yes", **elsewhere)
    assert (done.code != 0, "has no number by which it could be ended" in done.err) == (True, True)


async def test_ending_a_local_fleet_forgets_no_rented_one_of_the_same_name(blue: RentedHouse) -> None:
    shutil.rmtree(blue.state / "fleets" / "blue" / "intents")  # its workers were bought on another machine
    blue.configure(fleet={"provider": "local", "name": "blue"}, engine={"kind": "llama_cpp"})
    for command in ("down", "status"):
        done = await blue.run(command)
        assert "warning: fleet blue (vast): 2 workers" in done.err, command


async def test_without_the_key_down_says_what_it_cannot_see_and_does_not_exit_with_0(
    blue: RentedHouse,
) -> None:
    for args in (["down"], ["down", "--all", "--yes"]):
        done = await blue.run(*args, VAST_API_KEY="")
        assert done.code != 0, args
        assert "API key" in done.err
    assert len(blue.alive()) == 2


# The key of another account


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
    assert await fleets(blue) == {"rented": 0, "blue": 2, "green": 1}
    assert "fleet green (vast): 1 worker" in (await blue.run("status")).err
    done = await blue.run("down", "--all", "--yes")
    assert (done.code, blue.alive(), other_account.alive()) == (0, [], []), done.err


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


def write_config(house: RentedHouse, text: str) -> None:
    Path(house.environ["LLMHOST_CONFIG"]).write_text(text)


BROKEN = {
    "a variable that is not set": "redis: {host: h, password: '${NOT_SET}'}",
    "a typing error": "scael: {min_gpus: 1}",
    "values that cannot be": "engine: {kind: nonsense}\nlimits: {max_attempts: none}",
    "a certificate that is not there": "redis: {host: h, tls: true, ca_file: /nowhere/ca.pem}",
}


@pytest.mark.parametrize("rest", BROKEN.values(), ids=BROKEN)
async def test_down_works_with_a_configuration_that_is_not_valid(blue: RentedHouse, rest: str) -> None:
    write_config(blue, f"fleet: {{name: blue, provider: vast}}\n{rest}\n")
    assert (await blue.run("up", "--dry-run")).code == 2
    shown = await blue.run("status", "--json")
    assert (shown.code, len(shown.json["workers"])) == (0, 2)
    assert "left out" in shown.err or "Redis is not used" in shown.err
    assert "workers, $" in (await blue.run("doctor")).out
    down = await blue.run("down")
    untold = "Redis could not be told that the fleet is to stay down" in down.err
    assert (down.code, untold) == ((3, True) if "redis:" in rest else (0, False))
    assert blue.alive() == []


async def test_down_all_works_with_a_file_that_is_no_yaml(blue: RentedHouse) -> None:
    write_config(blue, "fleet: [\n")
    refused = await blue.run("down")
    assert (refused.code, "llmhost down --all" in refused.err) == (2, True)
    down = await blue.run("down", "--all", "--yes")
    assert (down.code, blue.alive()) == (3, [])
    assert "Redis could not be told that the fleet is to stay down" in down.err


async def test_down_ends_what_is_on_record_although_the_list_cannot_be_read(blue: RentedHouse) -> None:
    blue.server.arm(Fault.LIST_NULL, times=None)
    done = await blue.run("down")
    assert (done.code, blue.alive()) == (3, [])
    assert "not all workers could be looked for" in done.err


async def test_down_all_ends_what_is_on_record_of_every_fleet_although_the_list_cannot_be_read(
    blue: RentedHouse,
) -> None:
    blue.configure(fleet={"name": "green"})
    blue.server.arm(Fault.LIST_NULL, times=None)
    shown = await blue.run("fleets", "--json")
    named = {worker for fleet in shown.json["fleets"] for worker in fleet["workers"]}
    assert (shown.code != 0, named) == (True, set(blue.alive()))
    done = await blue.run("down", "--all", "--yes")
    assert (done.code != 0, blue.alive()) == (True, [])


async def test_a_record_of_a_purchase_that_cannot_be_read_stands_in_no_commands_way(
    blue: RentedHouse,
) -> None:
    record = next((blue.state / "fleets" / "blue" / "intents").glob("*.json"))
    record.unlink()
    record.mkdir()
    assert set(await blue.status()) == set(blue.alive())
    assert (await blue.run("down")).code == 0
    assert blue.alive() == []


@pytest.mark.parametrize("fault", [Fault.LIST_ODD_ROWS, Fault.LIST_NO_ID])
async def test_rows_that_say_nothing_are_shown_and_stand_in_no_others_way(
    blue: RentedHouse, fault: Fault
) -> None:
    blue.server.arm(fault, times=None)
    assert {worker for worker in await blue.status() if "unknown" not in worker} == set(blue.alive())
    done = await blue.run("down")
    assert (done.code, blue.alive()) == (3, [])
    assert "has no number by which it could be ended" in done.err


async def test_rows_without_a_number_are_shown_and_reported_whatever_fleet_is_configured(
    blue: RentedHouse,
) -> None:
    blue.configure(fleet={"provider": "local", "name": "green"}, engine={"kind": "llama_cpp"})
    blue.server.arm(Fault.LIST_NO_ID, times=None)
    shown = [worker for fleet in (await blue.ok("fleets"))["fleets"] for worker in fleet["workers"]]
    assert [worker for worker in shown if "unknown" in worker] == ["vast-unknown-1", "vast-unknown-2"]
    done = await blue.run("down", "--all", "--yes")
    assert (done.code, blue.alive()) == (3, [])
    assert "vast-unknown-1" in done.err


async def test_nothing_is_bought_while_a_row_cannot_be_read(blue: RentedHouse) -> None:
    blue.server.arm(Fault.LIST_NO_ID, times=None)
    for command in (["up", "--gpus", "3", "--yes"], ["scale"]):
        done = await blue.run(*command)
        assert (done.code, "nothing is bought or replaced" in done.err) == (5, True), command
    assert len(blue.alive()) == 2


async def test_a_changed_label_is_shown_as_failed_and_ended(blue: RentedHouse) -> None:
    blue.server.instances[bought(1)].label = "mine now"
    seen = await blue.status()
    assert seen[f"vast-{bought(1)}"]["state"] == "failed"
    assert "its label was changed" in seen[f"vast-{bought(1)}"]["detail"]
    assert (await blue.run("down")).code == 0
    assert blue.alive() == []


async def test_status_says_since_when_autoscaling_is_paused_and_up_resumes_it(blue: RentedHouse) -> None:
    assert (await blue.ok("status"))["autoscaling"] == {"paused_since": None}
    await blue.ok("down")
    paused = (await blue.ok("status"))["autoscaling"]["paused_since"]
    assert time.time() - 120 < paused <= time.time()
    assert "Autoscaling paused since" in (await blue.run("status")).out
    await blue.ok("up", "--gpus", "1", "--yes", "--no-wait")
    assert (await blue.ok("status"))["autoscaling"] == {"paused_since": None}


async def test_a_down_without_the_key_pauses_no_autoscaling(blue: RentedHouse) -> None:
    assert (await blue.run("down", VAST_API_KEY="")).code != 0
    assert (await blue.ok("status"))["autoscaling"] == {"paused_since": None}


async def test_on_a_terminal_down_asks_and_no_means_no(blue: RentedHouse) -> None:
    async with blue.terminal("down") as terminal:
        await terminal.until("Destroy 2 workers")
        terminal.type("n\n")
        assert await terminal.end() == 1
    assert len(blue.alive()) == 2
    async with blue.terminal("down", "--yes") as terminal:
        assert await terminal.end() == 0
    assert blue.alive() == []


def fill_the_disk() -> None:
    """Every write to a file fails from now on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize("command", [["status"], ["fleets"], ["down"]], ids=["status", "fleets", "down"])
async def test_a_full_disk_stops_neither_looking_nor_ending(blue: RentedHouse, command: list[str]) -> None:
    process = ForkedCommand(command, {**os.environ, **blue.environ}, first=fill_the_disk)
    await process.connect()
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert blue.alive() == [] if command == ["down"] else b"vast" in out


def fill_the_logs_disk(stream: int) -> None:
    """What is printed there finds no room."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), stream)


@pytest.mark.parametrize("stream", [1, 2], ids=["stdout", "stderr"])
async def test_a_full_disk_on_which_the_output_is_logged_stops_no_ending(
    blue: RentedHouse, stream: int
) -> None:
    environ = {**os.environ, **blue.environ}
    process = ForkedCommand(["down", "--verbose"], environ, first=partial(fill_the_logs_disk, stream))
    await process.connect()
    await process.communicate()
    assert blue.alive() == []


async def test_a_full_disk_of_a_machine_on_which_llmhost_never_ran_stops_no_ending(
    blue: RentedHouse, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir(mode=0o700)
    environ = {**os.environ, **blue.environ, "LLMHOST_STATE_DIR": str(tmp_path / "new")}
    process = ForkedCommand(["down"], environ, first=fill_the_disk)
    await process.connect()
    _, err = await process.communicate()
    assert (process.returncode, blue.alive()) == (0, []), err.decode()


async def test_a_disk_that_is_full_when_the_purchase_is_answered_hides_no_worker(blue: RentedHouse) -> None:
    async def fill(endpoint: str, number: int) -> None:
        if endpoint == "create":
            resource.prlimit(up.process.pid, resource.RLIMIT_FSIZE, (0, 0))

    blue.server.after = fill
    up = await blue.start("up", "--gpus", "3", "--yes", "--no-wait")
    assert (await up.end()).code == 0
    blue.server.after = None
    assert len(blue.alive()) == 3
    assert set(await blue.status()) == set(blue.alive())


async def test_without_a_state_folder_everything_is_seen_and_ended(blue: RentedHouse, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    nowhere = {"LLMHOST_STATE_DIR": "/proc/1/llmhost", "TMPDIR": str(tmp_path / "temporary")}
    assert (await fleets(blue, **nowhere))["blue"] == 2
    done = await blue.run("down", **nowhere)
    assert (done.code, blue.alive()) == (0, [])
    assert "warning: cannot make the folder /proc/1/llmhost" in done.err
    assert list((tmp_path / "temporary").iterdir()) == []


async def test_a_state_folder_that_cannot_be_read_is_reported_by_what_shows_and_ends_all_that_it_can(
    blue: RentedHouse,
) -> None:
    blue.state.rename(blue.state.with_name("state.yaml"))
    blue.state.write_text("not a folder")
    shown = await blue.run("fleets", "--json")
    assert (shown.code, sum(len(fleet["workers"]) for fleet in shown.json["fleets"])) == (1, 2)
    assert str(blue.state) in shown.error
    for command in (["down"], ["down", "--all", "--yes"]):
        done = await blue.run(*command)
        assert (done.code, blue.alive()) == (3, []), command
        assert f"there may be more {'fleets' if '--all' in command else 'workers'}: " in done.err


@pytest.mark.parametrize("name", ["owner", "key"])
async def test_a_file_of_the_state_folder_that_cannot_be_read_stops_neither_looking_nor_ending(
    blue: RentedHouse, name: str
) -> None:
    (blue.state / name).unlink(missing_ok=True)
    (blue.state / name).mkdir()
    assert await fleets(blue) == {"blue": 2}
    assert set(await blue.status()) == set(blue.alive())
    done = await blue.run("down", "--all", "--yes")
    assert (done.code, blue.alive()) == (0, []), done.err
    assert f"warning: cannot use {blue.state / name}" in done.err


async def test_what_a_killed_command_left_in_place_of_a_state_folder_is_removed_by_the_next(
    rented_house: RentedHouse, tmp_path: Path
) -> None:
    def stand_ins() -> int:
        return len([*tmp_path.glob("llmhost-for-*")])

    rented_house.environ |= {"LLMHOST_STATE_DIR": "/proc/1/llmhost", "TMPDIR": str(tmp_path)}
    rented_house.server.arm(Fault.SLOW, endpoint="list", value=60.0)
    running = await rented_house.start("status")
    await until(lambda: rented_house.server.calls["list"] > 0)
    await rented_house.ok("status")
    assert stand_ins() == 1  # it is in use
    running.process.kill()
    await running.end()
    await rented_house.ok("status")
    assert stand_ins() == 0


def wait_a_second_for_the_lock() -> None:
    """Instead of a minute."""
    service._LOCK_PATIENCE = 1.0


async def test_an_up_that_was_suspended_stops_no_down_and_buys_nothing_when_it_goes_on(
    blue: RentedHouse,
) -> None:
    plans = 0

    async def suspend(endpoint: str, number: int) -> None:
        nonlocal plans
        plans += endpoint == "search"
        if (endpoint, plans) == ("search", 2):  # which is made under the lock
            up.process.send_signal(signal.SIGSTOP)

    blue.server.before = suspend
    up = await blue.start("up", "--gpus", "3", "--yes", "--no-wait")
    await until(lambda: plans == 2)
    down = ForkedCommand(["down"], {**os.environ, **blue.environ}, first=wait_a_second_for_the_lock)
    await down.connect()
    _, err = await down.communicate()
    assert (down.returncode, blue.alive()) == (0, []), err.decode()
    assert b"workers are destroyed without the fleet's lock" in err
    up.process.send_signal(signal.SIGCONT)
    resumed = await up.end()
    assert (resumed.code != 0, "has ended this fleet meanwhile" in resumed.err) == (True, True), resumed.err
    assert blue.alive() == []


async def test_state_files_that_are_nested_too_deeply_stand_in_no_commands_way(blue: RentedHouse) -> None:
    files = list(blue.state.rglob("*.json"))
    assert {file.name for file in files} >= {"pace.json", "fleet-vast.json"}
    for file in files:
        file.write_text("[" * 100_000)
    assert set(await blue.status()) == set(blue.alive())
    assert await fleets(blue) == {"blue": 2}
    assert (await blue.run("down")).code == 0
    assert blue.alive() == []


# A fleet without workers, which an autoscaler could give new ones


@pytest.fixture
async def green(blue: RentedHouse, redis_server: Any, tmp_path: Path) -> str:
    """The configuration of another fleet of this machine, which has a Redis of its own, and whose only worker
    was ended by name."""
    usual = blue.configure()
    blues = usual.read_text()
    blue.configure(
        fleet={"name": "green", "budget": {"per_hour": 10}},
        scale={"min_gpus": 1},
        redis={"url": f"unix://{redis_server.socket}"},
    )
    path = str(usual.rename(tmp_path / "green.yaml"))
    usual.write_text(blues)
    await blue.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=path)
    status = await blue.ok("status", LLMHOST_CONFIG=path)
    await blue.ok("down", *(worker["id"] for worker in status["workers"]), LLMHOST_CONFIG=path)
    return path


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


async def test_down_of_a_fleet_whose_file_is_gone_says_that_another_redis_may_be_named_in_it(
    blue: RentedHouse,
) -> None:
    remove(blue.configure())
    done = await blue.run("--fleet", "blue", "down", LLMHOST_CONFIG="")
    assert (done.code, blue.alive()) == (0, []), done.err
    assert "llmhost.yaml, which fleet blue comes from, is gone" in done.err


# Other fleets must not keep down --all from ending this one


@pytest.fixture(params=["a file", "a link that leads nowhere"])
def unreadable(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Makes a folder one that cannot be read."""

    def spoil(folder: Path) -> None:
        folder.rename(folder.with_name(f".{folder.name}"))
        if request.param == "a file":
            folder.write_text("not a folder")
        else:
            folder.symlink_to(folder.with_name("away"))

    return spoil


@pytest.mark.parametrize("place", ["fleets/blue/intents", "fleets/blue", "fleets"])
@pytest.mark.parametrize("fleet", ["blue", "green"])
async def test_what_was_bought_and_cannot_be_read_is_reported_and_stops_no_ending(
    blue: RentedHouse, unreadable: Callable[[Path], None], place: str, fleet: str
) -> None:
    blue.configure(fleet={"name": fleet})
    blue.server.instances[bought(1)].label = "my gpu"
    unreadable(blue.state / place)
    shown = await blue.run("fleets", "--json")
    named = {worker for fleet in shown.json["fleets"] for worker in fleet["workers"]}
    assert (shown.code != 0, named) == (True, set(blue.alive())), shown.err
    assert f"cannot read the folder {blue.state / place}" in shown.err
    done = await blue.run("down", "--all", "--yes")
    assert (done.code != 0, blue.alive()) == (True, []), done.err
    assert f"cannot read the folder {blue.state / place}" in done.err


async def test_down_fails_where_it_cannot_be_read_what_was_being_bought(
    blue: RentedHouse, unreadable: Callable[[Path], None]
) -> None:
    unreadable(blue.state / "fleets" / "blue" / "intents")
    done = await blue.run("down", "--json")
    assert (done.code, blue.alive(), len(done.json["destroyed"])) == (3, [], 2), done.err


async def test_an_order_that_cannot_be_read_in_full_hides_no_worker_from_another_accounts_key(
    blue: RentedHouse, other_account: VastServer
) -> None:
    for order in (blue.state / "fleets" / "blue" / "intents").iterdir():
        order.write_text(order.read_text().replace('"model"', '"newer": {}, "model"').replace('"tiny"', "5"))
    for command in (["fleets"], ["down"], ["down", "--all", "--yes"]):
        done = await blue.run(*command, **other_account.environment())
        assert done.code != 0, command
        assert all(worker in done.out + done.err for worker in blue.alive()), command


def know_no_fleets() -> None:
    """The folder of the fleets cannot be read."""

    def refuse(_: Path) -> None:
        raise StateError("cannot read the folder of fleets: Input/output error")

    pytest.MonkeyPatch().setattr("llmhost.wiring.other_fleets.known_fleets", refuse)


async def test_down_all_ends_what_the_account_rents_although_this_machines_fleets_cannot_be_read(
    blue: RentedHouse,
) -> None:
    down = ForkedCommand(["down", "--all", "--yes"], {**os.environ, **blue.environ}, first=know_no_fleets)
    await down.connect()
    _, err = await down.communicate()
    assert (down.returncode, blue.alive()) == (3, []), err.decode()
    assert b"Input/output error" in err


def make_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


async def test_down_all_does_not_wait_for_a_configuration_that_is_no_file(
    blue: RentedHouse, green: str
) -> None:
    make_a_pipe(Path(green))
    done = await blue.run("down", "--all", "--yes")
    assert (done.code, blue.alive()) == (3, []), done.err
    assert f"{green}: it is not a file" in done.err


async def test_no_command_waits_for_its_own_configuration_that_is_no_file(blue: RentedHouse) -> None:
    make_a_pipe(Path(blue.environ["LLMHOST_CONFIG"]))
    for command, code in (("up", 2), ("down", 2), ("status", 2), ("ask", 2), ("fleets", 0)):
        done = await blue.run(command, *(["hello"] if command == "ask" else []))
        assert (done.code, "it is not a file" in done.err) == (code, True), command
    assert (await fleets(blue))["blue"] == 2
    done = await blue.run("down", "--all", "--yes")
    assert (done.code, blue.alive()) == (3, []), done.err


def forget_how_to_wire_others() -> None:
    """What can end another fleet cannot be made."""

    async def refuse(*_: Any) -> None:
        raise StateError("cannot use the state folder's key: Input/output error")

    pytest.MonkeyPatch().setattr("llmhost.wiring.Wiring.service_of", refuse)


async def test_down_all_ends_the_configured_fleet_although_what_ends_another_cannot_be_made(
    blue: RentedHouse, green: str
) -> None:
    await blue.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=green)
    environ = {**os.environ, **blue.environ, "LLMHOST_CONFIG": green}
    down = ForkedCommand(["down", "--all", "--yes"], environ, first=forget_how_to_wire_others)
    await down.connect()
    _, err = await down.communicate()
    assert (down.returncode, len(blue.alive())) == (3, 2), err.decode()


def remove(path: Path) -> None:
    path.unlink()


def stumble_over_green() -> None:
    """A fault of ours that shows with that fleet alone."""
    whole = service.FleetService.down

    async def stumble(fleet: Any, *args: Any, **options: Any) -> Any:
        if fleet.spec.name == "green":
            raise RuntimeError("green")
        return await whole(fleet, *args, **options)

    pytest.MonkeyPatch().setattr(service.FleetService, "down", stumble)


async def test_down_all_ends_the_other_fleets_although_an_error_of_ours_shows_with_the_first(
    blue: RentedHouse, green: str
) -> None:
    environ = {**os.environ, **blue.environ, "LLMHOST_CONFIG": green}
    down = ForkedCommand(["down", "--all", "--yes"], environ, first=stumble_over_green)
    await down.connect()
    _, err = await down.communicate()
    assert (down.returncode, blue.alive()) == (3, []), err.decode()
    assert b"unexpected RuntimeError: green" in err


async def test_down_all_says_which_configuration_is_gone_as_another_redis_may_be_named_in_it(
    blue: RentedHouse, green: str
) -> None:
    remove(Path(green))
    done = await blue.run("down", "--all", "--yes")
    assert (done.code, blue.alive()) == (0, []), done.err
    assert f"{green}, which fleet green comes from, is gone" in done.err


async def test_down_all_ends_a_worker_on_record_that_the_list_hides_of_a_fleet_that_seems_to_have_none(
    blue: RentedHouse, green: str
) -> None:
    await blue.ok("up", "--gpus", "1", "--yes", "--no-wait", LLMHOST_CONFIG=green)
    shutil.rmtree(blue.state / "fleets" / "green" / "intents")  # it was bought on another machine
    blue.server.arm(Fault.LISTED_LATE, instance=max(blue.server.alive()), value=3600.0, times=None)
    shown = await blue.run("fleets", "--json")  # the list is not believed to be all
    assert (shown.code, {fleet["name"]: len(fleet["workers"]) for fleet in shown.json["fleets"]}) == (
        5,
        {"rented": 0, "blue": 2, "green": 1},
    )
    done = await blue.run("down", "--all", "--yes")
    assert (blue.alive(), done.code) == ([], 3), done.err


@pytest.mark.parametrize("answer", [b"+OK\r\n", b":1\r\n"])
async def test_answers_that_no_redis_gives_stop_no_ending(blue: RentedHouse, answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await reader.read(65536):
            writer.write(b"+OK\r\n" if b"CLIENT" in command else answer)
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        blue.configure(fleet={"name": "blue"}, redis={"url": f"redis://127.0.0.1:{port}"})
        done = await blue.run("down", "--now")
    assert blue.alive() == [], done.err
    assert "were not brought up to date" in done.err
