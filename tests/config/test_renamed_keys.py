"""Keys that were renamed: the old name works for a release, and warns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from plugins.cli import Ran

from llmhost.config.load import LoadedConfig, load_config
from llmhost.config.models import RENAMED
from llmhost.config.schema import is_known
from llmhost.errors import ConfigError

Refused = Callable[..., ConfigError]

VALUES = {
    "scale.late": ("0.2", 0.2),
    "scale.busy_above": ("0.95", 0.95),
    "scale.busy_below": ("0.6", 0.6),
    "scale.catch_up": ("40s", 40.0),
    "scale.wedged_after": ("20m", 1200.0),
    "scale.idle_after": ("15m", 900.0),
    "engine.parallel": ("3", 3),
}


def load(text: str, environ: Mapping[str, str] = {}) -> LoadedConfig:
    Path("llmhost.yaml").write_text(text)
    return load_config(environ=environ)


def value_of(loaded: LoadedConfig, key: str) -> object:
    section, name = key.split(".")
    return getattr(getattr(loaded.config, section), name)


def variable(key: str) -> str:
    return "LLMHOST_" + key.replace(".", "__").upper()


def test_every_new_name_is_a_key_and_no_old_name_is() -> None:
    assert all(is_known(new) for new in RENAMED.values())
    assert not any(is_known(old) for old in RENAMED)


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_in_the_file_sets_the_new_key_and_warns(old: str) -> None:
    new, (text, value) = RENAMED[old], VALUES[old]
    section, name = old.split(".")
    loaded = load(f"{section}:\n  {name}: {text}\n")
    assert value_of(loaded, new) == value
    assert loaded.warnings == (f"llmhost.yaml:2: `{old}` is now `{new}`; the old name will stop working",)


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_in_the_environment_sets_the_new_key_and_warns(old: str) -> None:
    new, (text, value) = RENAMED[old], VALUES[old]
    loaded = load("", {variable(old): text})
    assert value_of(loaded, new) == value
    assert loaded.warnings == (
        f"the environment variable {variable(old)} is now {variable(new)}; the old name will stop working",
    )


def test_the_environment_wins_under_either_name() -> None:
    assert (
        load("scale: {max_late_ratio: 0.1}", {"LLMHOST_SCALE__LATE": "0.2"}).config.scale.max_late_ratio
        == 0.2
    )
    assert (
        load("scale: {late: 0.1}", {"LLMHOST_SCALE__MAX_LATE_RATIO": "0.2"}).config.scale.max_late_ratio
        == 0.2
    )


def test_both_names_in_one_place_are_an_error(refused: Refused) -> None:
    error = refused("scale:\n  max_late_ratio: 0.1\n  late: 0.2\n")
    assert (
        error.message
        == "llmhost.yaml:3: `scale.late` is the old name of `scale.max_late_ratio`, which is set too"
    )
    assert error.hint == "remove `late`"
    error = refused("", {"LLMHOST_ENGINE__PARALLEL": "2", "LLMHOST_ENGINE__SLOTS": "2"})
    assert (
        error.message == "LLMHOST_ENGINE__PARALLEL is the old name of LLMHOST_ENGINE__SLOTS, which is set too"
    )


def test_a_wrong_value_under_an_old_name_is_found_on_its_line(refused: Refused) -> None:
    error = refused("engine:\n  parallel: 0\n")
    assert error.message.startswith("llmhost.yaml:2: `engine.slots` cannot be `0`")


def test_a_variable_with_one_underscore_suggests_the_new_name(refused: Refused) -> None:
    error = refused("", {"LLMHOST_SCALE_LATE": "0.2"})
    assert error.message.endswith(
        "LLMHOST_SCALE_LATE sets nothing; did you mean LLMHOST_SCALE__MAX_LATE_RATIO?"
    )


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_a_command_warns_on_stderr_once(cli: Callable[..., Ran], command: str) -> None:
    fleet = "fleet: {provider: static, workers: [{url: 'http://127.0.0.1:9'}]}"
    Path("llmhost.yaml").write_text(f"{fleet}\nengine: {{kind: openai, parallel: 2}}\n")
    ran = cli(command, "--json")
    warning = "llmhost.yaml:2: `engine.parallel` is now `engine.slots`; the old name will stop working"
    assert ran.stderr.count(warning) == 1
    assert "engine.slots" not in ran.stdout
