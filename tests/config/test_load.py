"""Where the configuration comes from, and who wins."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.config.load import load_config
from llmhost.config.models import Config
from llmhost.errors import ConfigError

Load = Callable[..., Config]
Refused = Callable[..., ConfigError]


def write(path: Path, gpus: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"fleet: {{gpus: {gpus}}}\n")
    return path


def test_without_a_file_the_built_in_local_fleet_is_used() -> None:
    loaded = load_config(environ={})
    assert (loaded.config, loaded.source) == (Config(), None)


def test_each_file_is_found_before_the_next(tmp_path: Path) -> None:
    at_home = write(Path("config/llmhost/llmhost.yaml").absolute(), 2)
    assert load_config(environ={}).source == at_home
    write(Path("llmhost.yaml"), 3)
    assert load_config(environ={}).source == Path("llmhost.yaml")
    named = write(tmp_path / "named.yaml", 4)
    assert load_config(environ={"LLMHOST_CONFIG": str(named)}).source == named
    given_path = write(tmp_path / "given.yaml", 5)
    loaded = load_config(given_path, environ={"LLMHOST_CONFIG": str(named)})
    assert (loaded.source, loaded.config.fleet.gpus) == (given_path, 5)


def test_an_empty_llmhost_config_names_no_file() -> None:
    assert load_config(environ={"LLMHOST_CONFIG": ""}).source is None


@pytest.mark.parametrize("environ", [{}, {"LLMHOST_CONFIG": "other.yaml"}])
def test_a_named_file_must_exist(environ: dict[str, str]) -> None:
    path = None if environ else Path("other.yaml")
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ=environ)
    assert caught.value.message == "cannot read the configuration other.yaml: there is no such file"


def test_a_link_to_nowhere_is_not_passed_over() -> None:
    Path("llmhost.yaml").symlink_to("gone.yaml")
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(environ={})


def test_file_environment_and_flag_win_in_this_order(load: Load) -> None:
    text = "fleet: {gpus: 2, max_gpus: 7, first_port: 9000}\n"
    environ = {"LLMHOST_FLEET__GPUS": "3", "LLMHOST_FLEET__MAX_GPUS": "6"}
    fleet = load(text, environ, {"fleet.gpus": 4}).fleet
    assert (fleet.name, fleet.first_port, fleet.max_gpus, fleet.gpus) == ("local", 9000, 6, 4)


def test_a_key_of_a_section_in_a_section_is_set_in_the_same_ways(load: Load) -> None:
    text = "fleet:\n  gpus: 2\n  budget: {per_hour: 1, per_day: 10, per_month: 100}\n"
    environ = {"LLMHOST_FLEET__BUDGET__PER_DAY": "20", "LLMHOST_FLEET__BUDGET__PER_MONTH": "200"}
    fleet = load(text, environ, {"fleet.budget.per_month": 300}).fleet
    budget = fleet.budget
    assert (fleet.gpus, budget.per_hour, budget.per_day, budget.per_month) == (2, 1.0, 20.0, 300.0)


@pytest.mark.parametrize("text", ["", "fleet:\n", "fleet:\n  budget:\n", "fleet:\n  budget: {}\n"])
def test_a_section_in_a_section_may_be_empty_or_missing(load: Load, text: str) -> None:
    assert load(text) == Config()
    assert load(text, {"LLMHOST_FLEET__BUDGET__PER_HOUR": "2"}).fleet.budget.per_hour == 2


def test_a_flag_that_was_not_given_changes_nothing(load: Load) -> None:
    assert load("fleet: {gpus: 2}\n", {}, {"fleet.gpus": None}).fleet.gpus == 2


def test_an_environment_variable_can_unset_what_the_file_sets(load: Load) -> None:
    environ = {"LLMHOST_REDIS__HOST": "null", "LLMHOST_REDIS__URL": "redis://elsewhere"}
    assert load("redis: {host: here}\n", environ).redis.host is None


@given(value=st.text())
def test_an_environment_variable_gives_its_text_and_nothing_else(load: Load, value: str) -> None:
    config = load("", {"LLMHOST_ENGINE__SYSTEM": value})
    unset = value.strip() in {"", "~", "null", "Null", "NULL"}
    assert config == Config.model_validate({"engine": {"system": None if unset else value}})


@pytest.mark.parametrize(
    "name", ["LLMHOST_STATE_DIR", "LLMHOST_CACHE_DIR", "LLMHOST_TEST_REDIS_URL", "REDIS__X"]
)
def test_other_variables_are_left_alone(load: Load, name: str) -> None:
    assert load("", {name: "x"}) == Config()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LLMHOST_FLEET__GPU", "sets no known key; did you mean LLMHOST_FLEET__GPUS?"),
        ("LLMHOST_FLET__GPUS", "sets no known key; did you mean LLMHOST_FLEET__GPUS?"),
        ("LLMHOST_REDIS_URL", "sets nothing; did you mean LLMHOST_REDIS__URL?"),
        (
            "LLMHOST_FLEET__BUDGET__PER_DAYS",
            "sets no known key; did you mean LLMHOST_FLEET__BUDGET__PER_DAY?",
        ),
        ("LLMHOST_FLEET__PER_DAY", "sets no known key; did you mean LLMHOST_FLEET__BUDGET__PER_DAY?"),
        ("LLMHOST_FLEET__BUDGET_PER_HOUR", "sets nothing; did you mean LLMHOST_FLEET__BUDGET__PER_HOUR?"),
        ("LLMHOST_FLEET__BUDGET", "sets no known key; did you mean LLMHOST_FLEET__BUDGET__PER_HOUR?"),
        ("LLMHOST_XXX__QQQ", "sets no known key"),
        ("LLMHOST_FLEET__WORKERS__0__URL", "sets no known key"),
    ],
)
def test_a_mistyped_variable_is_an_error(refused: Refused, name: str, message: str) -> None:
    assert refused("", {name: "1"}).message == f"the environment variable {name} {message}"


def test_a_mistyped_flag_key_is_an_error(refused: Refused) -> None:
    error = refused("", {}, {"fleet.gpu": 1})
    assert error.message == "unknown key `fleet.gpu`; did you mean `fleet.gpus`?"


@pytest.mark.parametrize(
    ("environ", "overrides", "place"),
    [({"LLMHOST_FLEET__GPUS": "-2"}, {}, "LLMHOST_FLEET__GPUS"), ({}, {"fleet.gpus": -2}, "command line")],
)
def test_a_wrong_value_is_blamed_on_where_it_was_set(
    refused: Refused, environ: dict[str, str], overrides: dict[str, object], place: str
) -> None:
    error = refused("fleet: {gpus: 1}\n", environ, overrides)
    assert error.message == f"{place}: `fleet.gpus` cannot be `-2`; allowed: whole number, 0 or more"


@pytest.mark.parametrize(
    ("text", "name", "section"),
    [
        ("fleet: 3\n", "LLMHOST_FLEET__GPUS", "fleet"),
        ("fleet: 3\n", "LLMHOST_FLEET__BUDGET__PER_HOUR", "fleet"),
        ("fleet: {budget: 3}\n", "LLMHOST_FLEET__BUDGET__PER_HOUR", "fleet.budget"),
    ],
)
def test_a_setting_over_a_broken_section_reports_the_section(
    refused: Refused, text: str, name: str, section: str
) -> None:
    error = refused(text, {name: "2"})
    assert error.message == f"llmhost.yaml:1: `{section}` cannot be text; allowed: mapping of keys"


def test_importing_the_loader_brings_pydantic_and_yaml_but_nothing_heavier() -> None:
    heavy = ["redis", "httpx", "numpy", "typer", "rich", "psutil", "platformdirs", "onnxruntime", "torch"]
    code = f"import sys, llmhost.config.load; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_redis_url_may_leave_the_password_to_its_own_key(load: Load) -> None:
    redis = load("redis: {url: 'rediss://h', password: '${P}'}\n", {"P": "hunter2"}).redis
    assert redis.password is not None
    assert "hunter2" not in repr(redis)
    assert redis.password.get_secret_value() == "hunter2"
