"""Whatever stands in its way, `llmhost down` ends what it can and says what it could not."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from doubles.forked_command import ForkedCommand
from doubles.vast.faults import Fault
from doubles.waiting import until
from plugins.rented_commands import RentedHouse, bought

from llmhost.errors import StateError
from llmhost.fleet import service
from llmhost.machine import files

pytestmark = [pytest.mark.slow]


def write_config(house: RentedHouse, text: str) -> None:
    Path(house.environ["LLMHOST_CONFIG"]).write_text(text)


BROKEN = {
    "a variable that is not set": "redis: {host: h, password: '${NOT_SET}'}",
    "a typing error": "scael: {min_gpus: 1}",
    "values that cannot be": "engine: {kind: nonsense}\nlimits: {max_attempts: none}",
    "a certificate that is not there": "redis: {host: h, tls: true, ca_file: /nowhere/ca.pem}",
}


@pytest.mark.parametrize("rest", BROKEN.values(), ids=BROKEN)
async def test_down_works_with_a_configuration_that_is_not_valid(
    blue: RentedHouse, redis_server: Any, rest: str
) -> None:
    redis = "" if "redis:" in rest else f"redis: {{url: 'unix://{redis_server.socket}'}}"
    write_config(blue, f"fleet: {{name: blue, provider: vast}}\n{rest}\n{redis}\n")
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


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
async def test_a_record_of_a_purchase_that_cannot_be_read_stands_in_no_commands_way(
    blue: RentedHouse, make: Callable[[Path], None]
) -> None:
    record = next((blue.state / "fleets" / "blue" / "intents").glob("*.json"))
    record.unlink()
    make(record)
    assert set(await blue.status()) == set(blue.alive())
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
    assert (await blue.fleets(**nowhere))["blue"] == 2
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


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", ["owner", "key"])
async def test_a_file_of_the_state_folder_that_cannot_be_read_stops_neither_looking_nor_ending(
    blue: RentedHouse, name: str, make: Callable[[Path], None]
) -> None:
    (blue.state / name).unlink(missing_ok=True)
    make(blue.state / name)
    assert await blue.fleets() == {"blue": 2}
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
    """Instead of twenty, or three after those."""
    files.PATIENCE = service._STEP = 1.0


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
    assert await blue.fleets() == {"blue": 2}
    assert (await blue.run("down")).code == 0
    assert blue.alive() == []


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
    for command, code in (("up", 2), ("down", 2), ("status", 2), ("ask", 2), ("fleets", 5)):
        done = await blue.run(command, *(["hello"] if command == "ask" else []))
        assert (done.code, "it is not a file" in done.err) == (code, True), command
    shown = await blue.run("fleets", "--json")
    assert {fleet["name"]: len(fleet["workers"]) for fleet in shown.json["fleets"]}["blue"] == 2
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
