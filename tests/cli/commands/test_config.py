"""`llmhost config`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.cli import Ran

from llmhost.config.schema import fields


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLMHOST_GATEWAY__AUTOSTART")  # of all tests
    return tmp_path


def test_what_is_set_is_shown_with_where_it_was_set(
    cli: Callable[..., Ran], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "llmhost.yaml").write_text("fleet:\n  name: blue\n  gpus: 2\ncache: {response_ttl: 2h}\n")
    monkeypatch.setenv("LLMHOST_FLEET__GPUS", "3")
    shown = cli("config", "show", "--json").json
    assert {one["key"]: (one["value"], one["from"]) for one in shown["settings"]} == {
        "fleet.name": ("blue", "llmhost.yaml:2"),
        "fleet.gpus": ("3", "LLMHOST_FLEET__GPUS"),
        "cache.response_ttl": ("2h", "llmhost.yaml:4"),
    }


def test_with_all_every_key_is_shown(cli: Callable[..., Ran]) -> None:
    shown = cli("config", "show", "--all", "--json").json
    assert [one["key"] for one in shown["settings"]] == [key for key, _ in fields()]
    assert {one["from"] for one in shown["settings"]} == {"default"}
    assert "Every key has its default." in cli("config", "show").stdout


def test_a_list_and_a_mapping_are_shown_on_one_line(cli: Callable[..., Ran], folder: Path) -> None:
    (folder / "llmhost.yaml").write_text(
        "fleet:\n  provider: static\n  workers:\n  - url: http://one\n    name: a\n  - url: http://two\n"
        "engine: {kind: openai, model: m}\ngateway: {aliases: {gpt-4: m, o1: m}}\n"
    )
    shown = cli("config", "show", "--json").json
    values = {one["key"]: one["value"] for one in shown["settings"]}
    assert values["fleet.workers"] == "[{url: 'http://one', name: a}, {url: 'http://two'}]"
    assert values["gateway.aliases"] == "{gpt-4: m, o1: m}"


def test_no_secret_is_shown(cli: Callable[..., Ran], folder: Path) -> None:
    (folder / "llmhost.yaml").write_text(
        "fleet: {provider: static, workers: [{url: 'http://127.0.0.1:1', token: hush-1}]}\n"
        "engine: {kind: openai, model: m}\n"
        "redis: {host: localhost, password: hush-2}\n"
        "notify: {slack: 'https://example.com/hush-3', command: 'curl -H hush-4 https://example.com'}\n"
    )
    for arguments in (["--json"], [], ["--all"]):
        ran = cli("--config", "llmhost.yaml", "config", "show", *arguments)
        assert ran.code == 0
        assert "hush" not in ran.stdout + ran.stderr
        assert ran.stdout.count("(secret)") == 4


def test_a_file_that_is_valid_is_said_to_be(cli: Callable[..., Ran], folder: Path) -> None:
    (folder / "other.yaml").write_text("engine: {parallel: 2}\n")
    ran = cli("config", "validate", "other.yaml")
    assert (ran.code, ran.stdout) == (0, "other.yaml is valid.\n")
    assert "engine.slots" in ran.stderr  # the new name


def test_what_is_wrong_with_a_file_is_named_with_its_line(cli: Callable[..., Ran], folder: Path) -> None:
    (folder / "llmhost.yaml").write_text("fleet:\n  gpus: two\n")
    ran = cli("config", "validate")
    assert ran.code == 2
    assert "llmhost.yaml:2: `fleet.gpus` cannot be `two`" in ran.stderr


def test_the_schema_is_one_json_object(cli: Callable[..., Ran]) -> None:
    assert cli("config", "schema").json["properties"]["fleet"]["properties"]["gpus"]["default"] == 1
