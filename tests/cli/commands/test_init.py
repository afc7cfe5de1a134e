"""`llmhost init`."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from doubles.terminal import shown_on_terminal
from plugins.cli import Ran

from llmhost.cli.commands import init as init_command
from llmhost.config.load import load_config
from llmhost.config.models import Config
from llmhost.config.schema import json_schema
from llmhost.fleet.known_fleets import KnownFleet, remember_fleet
from llmhost.machine.paths import state_dir

Cli = Callable[..., Ran]


def written(path: str = "llmhost.yaml") -> Config:
    return load_config(Path(path), environ={}).config


def named(folder: str) -> Config:
    """The defaults, for the fleet of a folder."""
    usual = Config()
    return usual.model_copy(update={"fleet": usual.fleet.model_copy(update={"name": folder})})


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("blue", "blue"),
        ("My Fleet_2", "my-fleet-2"),
        ("--x--", "x"),
        ("a" * 40, "a" * 32),
        ("a" * 31 + "-b", "a" * 31),
        ("Größe", "gr-e"),
        ("日本", "main"),
        ("unknown", "unknown-2"),
    ],
)
def test_init_names_the_fleet_after_its_folder(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, name: str
) -> None:
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)
    for provider in ("local", "vast"):
        assert f"for a fleet named {name}" in cli("init", "--provider", provider, "--force").stdout
        assert written().fleet.name == name


def test_init_gives_two_folders_of_one_name_two_fleets(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path / "app")
    elsewhere = KnownFleet("app", "local", "/elsewhere/app/llmhost.yaml")
    asyncio.run(remember_fleet(state_dir() / "fleets", elsewhere))
    cli("init")
    assert written().fleet.name == "app-2"
    here = KnownFleet("app-2", "local", str(Path("llmhost.yaml").absolute()))
    asyncio.run(remember_fleet(state_dir() / "fleets", here))
    cli("init", "--force")
    assert written().fleet.name == "app-2"


def test_init_writes_the_built_in_defaults_for_the_owner_alone_without_a_terminal(cli: Cli) -> None:
    ran = cli("init")
    assert (ran.code, written()) == (0, named(Path.cwd().name))
    assert stat.S_IMODE(Path("llmhost.yaml").stat().st_mode) == 0o600
    assert "llmhost up " in ran.stdout


@pytest.mark.parametrize("provider", ["local", "vast"])
def test_json_says_where_the_file_is_which_may_be_where_config_points(cli: Cli, provider: str) -> None:
    made = cli("init", "--provider", provider, "--config", "other.yaml", "--json").json
    assert made == {"path": str(Path("other.yaml").absolute()), "fleet": written("other.yaml").fleet.name}
    assert Path("other.yaml").exists()


def test_the_next_steps_name_a_file_at_another_path(cli: Cli) -> None:
    ran = cli("init", "--path", "team.yaml")
    assert f"llmhost --config {Path('team.yaml').absolute()} up" in ran.stdout
    assert written("team.yaml") == named(Path.cwd().name)
    ran = cli("init", "--path", "my team.yaml")
    assert f"llmhost --config '{Path('my team.yaml').absolute()}' up" in ran.stdout  # to be copied


def test_init_makes_a_fleet_of_servers_that_are_there(cli: Cli) -> None:
    urls = ["http://127.0.0.1:11434", "https://b.example/v1"]
    ran = cli("init", "--url", urls[0], "--url", urls[1], "--engine", "openai", "--model", "llama3.2")
    config = written()
    assert ran.code == 0
    assert (config.fleet.provider, config.engine.kind, config.engine.model) == (
        "static",
        "openai",
        "llama3.2",
    )
    assert [worker.url for worker in config.fleet.workers] == urls


def test_init_makes_a_fleet_on_vast_ai(cli: Cli) -> None:
    ran = cli("init", "--provider", "vast", "--model", "qwen2:1.5b", "--gpus", "3", "--budget", "50")
    config = written()
    assert ran.code == 0
    assert (config.fleet.provider, config.fleet.gpus, config.fleet.budget.per_day) == ("vast", 3, 50.0)
    assert config.fleet.max_gpus == 3  # a slip of the finger cannot make it grow
    assert (config.engine.kind, config.engine.model) == ("ollama", "qwen2:1.5b")
    assert config.fleet.name != Config().fleet.name


def test_init_suggests_a_model_and_one_gpu_for_vast_ai_without_a_terminal(cli: Cli) -> None:
    cli("init", "--provider", "vast")
    config = written()
    assert (config.engine.model, config.fleet.gpus) == ("qwen2:7b-instruct-q6_K", 1)
    assert config.fleet.budget.per_day is None


def test_the_next_steps_check_before_anything_is_rented(cli: Cli) -> None:
    steps = cli("init", "--provider", "vast").stdout.partition("Next:")[2]
    words = ["credit", "VAST_API_KEY", "doctor", "offers", "up --dry-run", "up ", "ask", "down"]
    places = [steps.find(word) for word in words]
    assert -1 not in places
    assert places == sorted(places)


def test_the_next_steps_of_a_file_elsewhere_are_not_broken_on_a_narrow_terminal(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a folder whose name is so long that what a command is for has no room" / "fleet.yaml"
    path.parent.mkdir()
    monkeypatch.setenv("COLUMNS", "80")
    steps = cli("init", "--path", str(path)).stdout.partition("Next:\n")[2].splitlines()
    assert [step.partition(" --config ")[0] for step in steps] == ["  llmhost"] * 3
    assert not any("#" in step for step in steps)


def test_init_never_overwrites_a_file(cli: Cli) -> None:
    Path("llmhost.yaml").write_text("mine")
    ran = cli("init")
    assert (ran.code, Path("llmhost.yaml").read_text()) == (2, "mine")
    assert "--force" in ran.stderr


def test_force_overwrites_a_file_and_closes_it_to_others(cli: Cli) -> None:
    file = Path("llmhost.yaml")
    file.write_text("mine")
    file.chmod(0o644)
    assert cli("init", "--force").code == 0
    assert (written(), stat.S_IMODE(file.stat().st_mode)) == (named(Path.cwd().name), 0o600)


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """From when the new text is known, no file may have more than a few bytes; that of the tests' own output
    neither, so it is lifted as soon as the command has ended."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    checked = init_command._checked

    def and_then_it_is_full(*arguments: Any) -> str:
        text = checked(*arguments)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        return text

    monkeypatch.setattr(init_command, "_checked", and_then_it_is_full)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("before", ["mine", None])
def test_where_there_is_no_room_the_file_stays_as_it_was(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    file = Path("llmhost.yaml")
    if before is not None:
        file.write_text(before)
    with full_disk(monkeypatch):
        ran = cli("init", "--force")
    assert (ran.code, "cannot write llmhost.yaml" in ran.stderr) == (2, True)
    assert list(Path.cwd().iterdir()) == ([file.absolute()] if before else [])
    assert before is None or file.read_text() == before


def test_a_link_to_the_file_that_is_overwritten_stays_a_link(cli: Cli) -> None:
    Path("elsewhere").mkdir()
    target = Path("elsewhere/mine.yaml")
    target.write_text("mine")
    Path("llmhost.yaml").symlink_to(target)
    assert cli("init", "--force").code == 0
    assert (Path("llmhost.yaml").is_symlink(), written(str(target))) == (True, named(Path.cwd().name))


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--provider", "static"], "--url"),
        (["--provider", "static", "--url", "http://127.0.0.1"], "--model"),
        (["--provider", "local", "--url", "http://127.0.0.1"], "--url"),
        (["--provider", "local", "--engine", "ollama"], "--engine"),
        (["--provider", "vast", "--url", "http://127.0.0.1"], "--url"),
        (["--provider", "vast", "--engine", "openai"], "--engine"),
        (["--provider", "vast", "--gpus", "0"], "--gpus"),
        (["--provider", "vast", "--budget", "-5"], "fleet.budget.per_day"),
        (["--provider", "local", "--budget", "5"], "--budget"),
        (["--provider", "moon"], "moon"),
        (["--url", "ftp://x", "--model", "m"], "error: the new llmhost.yaml:"),
        (["--model", ""], "engine.model"),
        (["--path", "no/such/folder.yaml"], "no/such/folder.yaml"),
        (["--path", "."], "exists"),
    ],
)
def test_init_refuses_what_makes_no_sense_and_writes_nothing(cli: Cli, args: list[str], word: str) -> None:
    ran = cli("init", *args)
    assert (ran.code, word in ran.stderr, list(Path().glob("*.yaml"))) == (2, True, [])


def answer_on_terminal(*answers: str, args: tuple[str, ...] = ()) -> str:
    """Runs `llmhost init` on a terminal and types `answers`; returns what was shown."""
    typed = "".join(f"{answer}\n" for answer in answers)
    return shown_on_terminal([sys.executable, "-m", "llmhost", "init", *args], typed=typed)


def test_init_asks_for_servers_until_there_are_no_more() -> None:
    shown = answer_on_terminal("moon", "static", "", "http://b.example:8000", "", "openai", "llama3.2")
    config = written()
    assert [w.url for w in config.fleet.workers] == ["http://127.0.0.1:11434", "http://b.example:8000"]
    assert (config.engine.kind, config.engine.model) == ("openai", "llama3.2")
    assert "Provider (local, vast, static) [local]:" in shown
    assert "enter one of local, vast, static" in shown


def test_init_asks_what_a_rented_fleet_may_cost() -> None:
    shown = answer_on_terminal("vast", "", "0", "2", "free", "")
    config = written()
    assert (config.engine.model, config.fleet.gpus) == ("qwen2:7b-instruct-q6_K", 2)
    assert config.fleet.budget.per_day == 30.0
    assert ("enter a whole number" in shown, "enter a number over 0" in shown) == (True, True)


def test_init_asks_only_what_was_not_given() -> None:
    shown = answer_on_terminal("llama3.2", args=("--url", "http://127.0.0.1:11434", "--engine", "ollama"))
    assert ("Model:" in shown, "Provider" in shown, "Engine" in shown) == (True, False, False)


@pytest.mark.parametrize("token", ["sk-secret", "a secret", ""])
def test_a_token_itself_is_refused_and_not_shown(cli: Cli, token: str) -> None:
    ran = cli("init", "--url", "http://h", "--model", "m", "--token", token)
    assert (ran.code, "is the name of an environment variable" in ran.stderr) == (2, True)
    assert "secret" not in ran.stderr


def test_the_token_of_servers_is_written_as_a_variable(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TOKEN", "opensesame")
    assert cli("init", "--url", "http://h", "--model", "m", "--token", "LLM_TOKEN").code == 0
    assert "opensesame" not in Path("llmhost.yaml").read_text()
    token = load_config(environ={"LLM_TOKEN": "opensesame"}).config.fleet.workers[0].token
    assert token is not None
    assert token.get_secret_value() == "opensesame"


@pytest.mark.parametrize("args", [[], ["--provider", "vast", "--budget", "50"], ["--all"]])
def test_the_schema_that_the_first_line_names_is_beside_the_file_which_is_valid_by_it(
    cli: Cli, args: list[str]
) -> None:
    assert cli("init", *args).code == 0
    text = Path("llmhost.yaml").read_text()
    name = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    schema = json.loads(Path(name).read_text())
    assert schema == json_schema()
    assert jsonschema_rs.Draft202012Validator(schema).is_valid(yaml.safe_load(text))


def test_the_file_is_short_unless_every_key_is_wanted(cli: Cli) -> None:
    cli("init")
    assert len(Path("llmhost.yaml").read_text().splitlines()) < 25
    cli("init", "--force", "--provider", "vast")
    text = Path("llmhost.yaml").read_text()
    assert len(text.splitlines()) < 40
    assert "#per_day: " in text  # what it may cost is always there to be seen
    cli("init", "--force", "--all")
    assert text.count(":") < Path("llmhost.yaml").read_text().count(":") / 5
    assert "connect_timeout: 5s" in Path("llmhost.yaml").read_text()


def test_a_schema_of_another_version_is_replaced_and_no_other_file(cli: Cli) -> None:
    schema = Path("llmhost.schema.json")
    schema.write_text('{"title": "llmhost.yaml", "properties": {}}')
    cli("init")
    assert json.loads(schema.read_text()) == json_schema()
    schema.write_text("mine")
    cli("init", "--force")
    assert schema.read_text() == "mine"


@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.write_text("mine"),
        lambda path: path.symlink_to("/no/such"),
    ],
    ids=["a folder", "a pipe", "another file", "a link that leads nowhere"],
)
def test_without_its_schema_the_file_is_written_all_the_same_and_names_none(
    cli: Cli, put: Callable[[Path], object]
) -> None:
    put(Path("llmhost.schema.json"))
    ran = cli("init")
    assert (ran.code, written().fleet.provider) == (0, "local")
    assert "warning: cannot write llmhost.schema.json" in ran.stderr
    assert "llmhost.schema.json" not in Path("llmhost.yaml").read_text() + ran.stdout


def test_a_pipe_in_the_place_of_the_file_is_no_place_to_write_to(cli: Cli) -> None:
    os.mkfifo("llmhost.yaml")
    ran = cli("init", "--force")
    assert (ran.code, "cannot write" in ran.stderr) == (2, True)
