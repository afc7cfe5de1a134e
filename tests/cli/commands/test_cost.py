"""`llmhost cost`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from plugins.cli import Ran
from plugins.redis_servers import RedisServer

from llmhost.config.cost import BASELINES
from llmhost.config.models import Config, RedisConfig
from llmhost.ledger.events import Outcome, QuestionEvent
from llmhost.ledger.ledger import Ledger
from llmhost.store.client import connect

PAPER = (
    "gpus=3,hours_per_day=12,price_per_hour=0.5,redis_per_month=50,hit_usd=0.0001,miss_usd=0.01,"
    "baseline_hours_per_day=24"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_papers_inputs_give_the_papers_figures(cli: Callable[..., Ran]) -> None:
    made = cli("cost", "--what-if", PAPER, "--json").json
    row = {one["name"]: one for one in made["versus"]}
    assert made["gpu_usd"] == 540
    assert made["monthly_usd"] == 590
    assert made["per_query_usd"] == pytest.approx(0.003, abs=0.0001)
    assert row["AWS A100"]["monthly_usd"] == pytest.approx(6_600, rel=0.002)
    assert row["AWS A100"]["savings_ratio"] == pytest.approx(0.91, abs=0.005)
    assert row["a cloud, by question"]["savings_ratio"] == pytest.approx(0.80, abs=0.005)


def test_without_a_configuration_it_is_one_gpu_at_half_a_dollar(cli: Callable[..., Ran]) -> None:
    made = cli("cost", "--json").json
    assert made["monthly_usd"] == 360
    assert [row["name"] for row in made["versus"]] == [one.name for one in BASELINES]


def test_a_price_that_nothing_says_is_called_assumed(cli: Callable[..., Ran], folder: Path) -> None:
    shown = cli("cost").stdout
    assert "$0.50/h (assumed)" in shown
    assert "`cost.price_per_hour` sets yours" in shown
    assert "assumed" not in cli("cost", "--what-if", "price_per_hour=0.4").stdout
    (folder / "llmhost.yaml").write_text("cost: {price_per_hour: 0.0}\n")
    assert "assumed" not in cli("cost").stdout


def test_a_fleet_that_costs_nothing_is_always_cheaper_than_an_api(cli: Callable[..., Ran]) -> None:
    shown = cli("cost", "--what-if", "price_per_hour=0").stdout
    (row,) = (line for line in shown.splitlines() if line.startswith("Groq"))
    assert row.endswith(" always")


def test_the_prices_of_the_paper_say_which_paper(cli: Callable[..., Ran], folder: Path) -> None:
    words = "docs/cost-analysis.md"
    assert words in cli("cost").stdout
    (folder / "llmhost.yaml").write_text(
        "cost:\n  baselines:\n  - {name: mine, as_of: today, usd_per_hour: 1.0}\n"
    )
    assert words not in cli("cost").stdout


def test_what_if_goes_before_the_configuration(cli: Callable[..., Ran], folder: Path) -> None:
    (folder / "llmhost.yaml").write_text(
        "cost: {price_per_hour: 1.0, redis_per_month: 10}\nfleet: {gpus: 2}\n"
    )
    assert cli("cost", "--json").json["monthly_usd"] == 1450
    assert cli("cost", "--what-if", "gpus=1, redis_per_month=0", "--json").json["monthly_usd"] == 720


def test_own_baselines_are_compared_instead(cli: Callable[..., Ran], folder: Path) -> None:
    (folder / "llmhost.yaml").write_text(
        "cost:\n  baselines:\n  - {name: mine, as_of: today, usd_per_hour: 1.0}\n"
    )
    (row,) = cli("cost", "--json").json["versus"]
    assert (row["name"], row["savings_ratio"]) == ("mine", 0.5)


@pytest.mark.parametrize(
    ("what_if", "words"),
    [
        ("hit_rate=0.5", "did you mean hit_ratio?"),
        ("hit_ratio=1.5", "not a number from 0 to 1"),
        ("gpus=two", "not a number from 0"),
        ("gpus", "not a number from 0"),
        ("queries_per_month=nan", "not a number from 1"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(cli: Callable[..., Ran], what_if: str, words: str) -> None:
    ran = cli("cost", "--what-if", what_if)
    assert ran.code == 2
    assert words in ran.stderr


@pytest.mark.parametrize(
    "price", ["usd_per_hour: 1, usd_per_query: 1", "usd_per_million_prompt: 1", "as_of: today"]
)
def test_a_baseline_has_one_price(cli: Callable[..., Ran], folder: Path, price: str) -> None:
    (folder / "llmhost.yaml").write_text(f"cost:\n  baselines:\n  - {{name: mine, as_of: x, {price}}}\n")
    if "as_of: today" in price:
        (folder / "llmhost.yaml").write_text(f"cost:\n  baselines:\n  - {{name: mine, {price}}}\n")
    ran = cli("cost")
    assert ran.code == 2
    assert "a baseline has `usd_per_hour`" in ran.stderr


def test_workers_that_cannot_answer_so_many_questions_are_named(cli: Callable[..., Ran]) -> None:
    for what_if in ("queries_per_month=100000000", "gpus=0", "hours_per_day=0"):
        assert "cannot answer that many" in cli("cost", "--what-if", what_if).stdout
    assert "cannot answer that many" not in cli("cost", "--what-if", "gpus=0,hit_ratio=1").stdout


def test_every_built_in_price_has_a_date_or_is_the_papers() -> None:
    assert all(one.as_of == "paper" or one.as_of.startswith("2026-") for one in BASELINES)


def test_a_fleet_that_was_just_rented_is_measured_from_then_on(
    cli: Callable[..., Ran], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rent_and_ask(now: float) -> None:
        client = connect(RedisConfig(), socket=redis_server.socket)
        ledger = Ledger(client, Config().fleet.name)
        await ledger.observed("w1", 3.6, now - 2, now)
        await ledger.record(QuestionEvent(now, Outcome.MISS, 3_000.0, 10, 20, 2.5, cost_usd=0.001))
        await client.aclose()

    asyncio.run(rent_and_ask(time.time()))
    monkeypatch.setenv("LLMHOST_REDIS__URL", f"unix://{redis_server.socket}")
    made = cli("cost", "--from-stats", "--json").json
    assert made["plan"]["gpus"] == pytest.approx(1)
    assert made["gpu_usd"] == pytest.approx(2_592, rel=0.001)
