"""Nothing that bills is invisible, from whichever machine, folder and configuration one looks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.vast.faults import Fault
from plugins.commands import processes_of
from plugins.rented_commands import RentedHouse, bought

pytestmark = [pytest.mark.slow]


async def test_a_renamed_fleet_is_shown_by_every_command_and_ended_by_down_all(blue: RentedHouse) -> None:
    blue.configure(fleet={"name": "green"})
    assert await blue.fleets() == {"green": 0, "blue": 2}
    for command in ("status", "down"):
        done = await blue.run(command)
        assert "warning: fleet blue (vast): 2 workers" in done.err, command
    assert "fleet blue (vast): 2 workers" in (await blue.run("doctor")).out
    assert len(blue.alive()) == 2
    left = await blue.run("down", "--all")
    assert (left.code, len(blue.alive())) == (3, 2)
    ended = await blue.run("down", "--all", "--yes")
    assert (ended.code, blue.alive()) == (0, [])
    assert await blue.fleets() == {"green": 0}


@pytest.mark.parametrize("changed", [{"name": "green"}, {"name": "blue", "provider": "local"}])
async def test_a_down_that_leaves_what_was_rented_with_the_same_file_fails(
    blue: RentedHouse, changed: dict[str, str]
) -> None:
    file = blue.configure(fleet=changed, engine={"kind": "llama_cpp" if "provider" in changed else "ollama"})
    done = await blue.run("down")
    assert (done.code, len(blue.alive())) == (3, 2), done.err
    assert f"made from {file} too, and not destroyed: blue" in done.error
    assert "llmhost down --all" in done.err


async def test_a_down_leaves_what_was_rented_with_another_file_and_says_so(
    blue: RentedHouse, tmp_path: Path
) -> None:
    other = blue.configure(fleet={"name": "green"}).rename(tmp_path / "green.yaml")
    blue.configure(fleet={"name": "blue"})
    done = await blue.run("--config", str(other), "down")
    assert (done.code, len(blue.alive())) == (0, 2), done.err
    assert "warning: fleet blue (vast): 2 workers" in done.err


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
    assert (await blue.fleets(**elsewhere))["blue"] == 2
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
    assert (await blue.fleets(**elsewhere))["blue"] == 2
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
    assert sum((await blue.fleets(**elsewhere)).values()) == 2
    assert (await blue.run("down", "--all", "--yes", **elsewhere)).code == 0
    assert blue.alive() == []


@pytest.mark.parametrize("label", [None, "", "my gpu", "LLMHOST/blue/1"])
async def test_a_worker_whose_label_is_no_longer_ours_is_seen_and_ended_from_another_machine(
    blue: RentedHouse, elsewhere: dict[str, str], label: str | None
) -> None:
    blue.server.instances[bought(1)].label = label
    assert await blue.fleets(**elsewhere) == {"local": 0, "blue": 1, "unknown": 1}
    assert (await blue.run("down", "--all", "--yes", **elsewhere)).code == 0
    assert blue.alive() == []


@pytest.mark.parametrize("odd", [1, None])
async def test_an_odd_variable_hides_no_worker_whose_label_is_no_longer_ours_from_another_machine(
    blue: RentedHouse, elsewhere: dict[str, str], odd: Any
) -> None:
    worker = blue.server.instances[bought(1)]
    env = [[name, odd if name == "-p 8443:8443" else value] for name, value in worker.order.env.items()]
    worker.label, worker.odd = "my gpu", {"extra_env": env}
    assert await blue.fleets(**elsewhere) == {"local": 0, "blue": 1, "unknown": 1}
    assert (await blue.run("down", "--all", "--yes", **elsewhere)).code == 0
    assert blue.alive() == []


async def test_a_worker_whose_label_is_no_longer_ours_is_shown_once_where_it_is_on_record(
    blue: RentedHouse,
) -> None:
    blue.server.instances[bought(1)].label = "my gpu"
    assert await blue.fleets() == {"blue": 2}
    blue.configure(fleet={"name": "green"})
    assert await blue.fleets() == {"green": 0, "blue": 2}
    blue.configure(fleet={"name": "blue", "provider": "local"}, engine={"kind": "llama_cpp"})
    assert sum((await blue.fleets()).values()) == 2


async def test_a_configuration_that_cannot_be_read_hides_no_fleet(blue: RentedHouse) -> None:
    blue.configure().write_text("fleet: [1, 2")
    shown = await blue.run("fleets", "--json")
    assert {fleet["name"]: len(fleet["workers"]) for fleet in shown.json["fleets"]}["blue"] == 2
    assert (shown.code, "the Redis of fleet blue is not known" in shown.error) == (5, True)
    assert "fleet blue (vast): 2 workers" in (await blue.run("doctor")).out


async def test_rows_without_a_number_are_shown_by_another_machine_which_cannot_end_them(
    blue: RentedHouse, elsewhere: dict[str, str]
) -> None:
    blue.server.arm(Fault.LIST_NO_ID, times=None)
    assert sum((await blue.fleets(**elsewhere)).values()) == 2
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
