"""What the command line of `llmhost stats` takes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from doubles.stats import STATS
from plugins.cli import Ran

from llmhost.cli.stats_view import Stats


@pytest.mark.parametrize(
    "arguments",
    [
        ["--watch", "--json"],
        ["--watch", "--csv"],
        ["--csv", "--json"],
        ["--csv", "--reconcile"],
        ["--watch", "--html", "x.html"],
        ["--reconcile", "--export", "x.csv"],
    ],
)
def test_options_of_which_one_would_be_ignored_are_refused(
    cli: Callable[..., Ran], arguments: list[str]
) -> None:
    ran = cli("stats", *arguments)
    assert ran.code == 2
    assert "do not go together" in ran.stdout + ran.stderr


@pytest.mark.parametrize("since", ["soon", "0", "-1h", "401d", "nan"])
def test_a_period_that_cannot_be_is_refused(cli: Callable[..., Ran], since: str) -> None:
    ran = cli("stats", "--since", since)
    assert ran.code == 2
    assert "is not a valid period" in ran.stderr


def test_a_way_to_split_that_is_none_is_named_without_the_validators_words(cli: Callable[..., Ran]) -> None:
    ran = cli("stats", "--by", "hour")
    assert ran.code == 2
    assert "'hour' is not one of 'day', 'worker', 'tenant', 'model'" in ran.stderr
    assert "Value error" not in ran.stderr


def test_nothing_is_billed_for_workers_of_ones_own(cli: Callable[..., Ran]) -> None:
    ran = cli("stats", "--reconcile")
    assert ran.code == 2
    assert "nothing is billed for provider local" in ran.stderr


def test_watching_needs_a_terminal(cli: Callable[..., Ran]) -> None:
    ran = cli("stats", "--watch")
    assert ran.code == 2
    assert "--watch needs a terminal" in ran.stderr


def test_no_text_is_a_formula_in_a_spreadsheet_and_numbers_stay_numbers(
    cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["=cmd|x", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "acme=1"]
    (one, *_) = STATS.tenants
    made = replace(STATS, tenants=[replace(one, name=name, cost_usd=-0.5) for name in names])

    async def collect(*_: object, **_known: object) -> Stats:
        return made

    monkeypatch.setattr("llmhost.cli.commands.stats._collect", collect)
    rows = list(csv.DictReader(io.StringIO(cli("stats", "--by", "tenant", "--csv").stdout, newline="")))
    assert [row["name"] for row in rows] == ["'=cmd|x", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "'=1", "acme=1"]
    assert {row["cost_usd"] for row in rows} == {"-0.5"}
