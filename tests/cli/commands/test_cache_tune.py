"""`llmhost cache tune`: the threshold for an accepted error, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.cli import Ran
from plugins.redis_servers import RedisServer

Cli = Callable[..., Ran]

pytestmark = pytest.mark.usefixtures("scripted")


def test_tune_suggests_the_lowest_threshold_and_says_what_to_write(cli: Cli, pairs: Path) -> None:
    ran = cli("cache", "tune", str(pairs), "--max-error", "0.01")
    assert ran.code == 0
    assert "at most 1 % of what is served wrong" in ran.stdout
    assert ran.stdout.endswith("cache:\n  confidence: 0.921\n")
    assert "warning: too few pairs to be sure" in ran.stderr


def test_tune_says_so_as_json(cli: Cli, pairs: Path) -> None:
    made = cli("cache", "tune", str(pairs), "--max-error", "0.4", "--max-false-accept", "0.3", "--json").json
    suggested = made["suggested"]
    assert (suggested["confidence"], suggested["hits"], suggested["wrong"]) == (0.89, 2, 1)
    assert (suggested["precision"], suggested["recall"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert suggested["false_accept_rate"] == 0.25
    assert made["wanted"] == {"error": 0.4, "false_accept": 0.3}
    assert (made["present"], made["supported"], len(made["warnings"])) == (0.9, False, 1)
    assert 0.9 in [row["confidence"] for row in made["rows"]]


def test_tune_says_where_no_threshold_achieves_it(cli: Cli, pairs: Path) -> None:
    pairs.write_text(json.dumps({"a": "red fish one", "b": "red fish six", "same": 0}))
    ran = cli("cache", "tune", str(pairs), "--max-error", "0.01")
    assert "No threshold achieves this: at most 1 % of what is served wrong" in ran.stdout
    assert (ran.code, "no pair of the file is labelled the same" in ran.stderr) == (0, True)


def test_tune_suggests_the_verified_policy_where_another_is_configured(
    cli: Cli, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMHOST_CACHE__POLICY", "threshold")
    shown = cli("cache", "tune", str(pairs), "--max-error", "0.01").stdout
    assert "cache:\n  policy: verified\n  confidence: 0.921" in shown
    assert "present" not in shown


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "no pairs to tune with"),
        (("--judge",), "missing argument 'FILE'"),
        (("--show", "--reset"), "no such option --reset"),
        (("pairs.jsonl", "--judge", "--limit", "1"), "'--limit'"),
        (("judge", "pairs.jsonl", "--max-error", "0.1"), "no such option --max-error"),
        (("show", "--yes"), "no such option --yes"),
    ],
)
def test_tune_refuses_options_that_do_not_go_together(cli: Cli, args: tuple[str, ...], words: str) -> None:
    ran = cli("cache", "tune", *args)
    assert ran.code == 2
    assert words in ran.stderr


def test_the_help_of_tune_lists_the_commands_below_it(cli: Cli) -> None:
    shown = cli("cache", "tune", "--help").stdout
    assert shown.startswith("Usage: llmhost cache tune [OPTIONS] [FILE]")
    assert [
        line.split()[0] for line in shown.splitlines() if line.startswith("  ") and " what the fleet" in line
    ] == [
        "show",
        "reset",
    ]


@pytest.fixture
def running_redis(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands use this test's server; the embedded one would outlive the test."""
    monkeypatch.setenv("LLMHOST_REDIS__URL", f"unix://{redis_server.socket}")


@pytest.mark.usefixtures("running_redis")
def test_global_options_may_stand_before_the_command(cli: Cli, pairs: Path) -> None:
    assert cli("cache", "tune", "--json", str(pairs)).json["policy"] == "verified"
    assert cli("cache", "tune", "--json", "show").json["used"] is True


@pytest.mark.usefixtures("running_redis")
@pytest.mark.parametrize(("flag", "command"), [("--show", "show"), ("--reset", "reset")])
def test_an_old_flag_still_works_and_names_the_command(cli: Cli, flag: str, command: str) -> None:
    options = ("--yes", "--json") if command == "reset" else ("--json",)
    ran = cli("cache", "tune", flag, *options)
    assert (ran.code, ran.json) == (0, cli("cache", "tune", command, *options).json)
    assert f"{flag} is deprecated: run `llmhost cache tune {command}`" in ran.stderr
