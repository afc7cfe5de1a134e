"""What the command line of `llmhost stats` takes."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from doubles.stats import STATS
from plugins.cli import Ran
from plugins.redis_servers import RedisServer

from llmhost.cli.stats_view import Stats
from llmhost.config.models import Config, RedisConfig
from llmhost.ledger.ledger import Ledger
from llmhost.store.client import connect


@pytest.mark.parametrize(
    "arguments",
    [
        ["--watch", "--json"],
        ["--watch", "--csv"],
        ["--csv", "--json"],
        ["--csv", "--reconcile"],
        ["--watch", "--html", "x.html"],
        ["--reconcile", "--export", "x.csv"],
        ["--reconcile", "--by", "day"],
        ["--all", "--by", "day"],
        ["--all", "--csv"],
    ],
)
def test_options_of_which_one_would_be_ignored_are_refused(
    cli: Callable[..., Ran], arguments: list[str]
) -> None:
    ran = cli("stats", *arguments)
    assert ran.code == 2
    assert "do not go together" in ran.stdout + ran.stderr


@pytest.mark.parametrize("since", ["soon", "0", "-1h", "1s", "59s", "401d", "nan"])
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


def test_what_is_spent_begins_with_a_minute_as_what_is_counted(
    cli: Callable[..., Ran], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rent(started: float) -> None:
        client = connect(RedisConfig(), socket=redis_server.socket)
        await Ledger(client, Config().fleet.name).observed("w1", 3.6, started, time.time())
        await client.aclose()

    asyncio.run(rent(time.time() - 3_600))
    monkeypatch.setenv("LLMHOST_REDIS__URL", f"unix://{redis_server.socket}")
    before = time.time()
    worked = cli("stats", "--since", "1m", "--json").json["cost"]["worker_hours"] * 3_600
    assert 60 <= worked < 121
    begun = (moment - worked for moment in (before - 0.001, time.time()))
    assert len({begin // 60 for begin in begun}) == 2  # a minute begins in between
