"""The rules of `llmhost doctor`: what it makes of the values it is given."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doubles.fleet_values import make_worker
from doubles.ollama_server import OllamaServer, Running
from hypothesis import given
from hypothesis import strategies as st
from plugins.engines import Side

from llmhost.doctor.checks import (
    Check,
    Probe,
    check_account,
    check_budget,
    check_costs,
    check_machine,
    check_memory,
    check_offers,
    check_orphans,
    check_redis,
    check_report,
    check_server,
    check_starting,
    check_state,
    ok,
    run_checks,
)
from llmhost.engines.worker_report import LoadedModel, Metrics, WorkerReport
from llmhost.errors import ConfigError, EngineUnavailable, StoreUnavailable
from llmhost.fleet.budget import Limits, Spent
from llmhost.fleet.models import Account, Intent, Market, Offer, Worker, WorkerState

NOON = 1_700_049_600.0  # 2023-11-15 12:00 UTC, a Wednesday
TIMEOUT = 1200.0
GIB = 1024**3

#: USD that a limit, a sum or/h may have
_AMOUNTS = st.floats(0.01, 1e5)


async def test_checks_come_in_the_order_of_the_probes() -> None:
    slow_started, quick_ended = asyncio.Event(), asyncio.Event()

    async def slow() -> Sequence[Check]:
        slow_started.set()
        await quick_ended.wait()
        return [ok("slow", ""), ok("slow too", "")]

    async def quick() -> Sequence[Check]:
        await slow_started.wait()
        quick_ended.set()
        return [ok("quick", "")]

    checks = await run_checks([Probe("a", slow), Probe("b", quick)])
    assert [check.name for check in checks] == ["slow", "slow too", "quick"]


async def test_an_error_is_a_failed_check_and_does_not_hide_the_others() -> None:
    async def broken() -> Sequence[Check]:
        raise StoreUnavailable("Redis is away", hint="start it")

    async def sound() -> Sequence[Check]:
        return [ok("sound", "good")]

    checks = await run_checks([Probe("redis", broken), Probe("sound", sound)])
    assert checks == [
        Check("redis", ok=False, detail="Redis is away", fix="start it"),
        Check("sound", ok=True, detail="good", fix=None),
    ]


async def test_one_error_that_several_probes_meet_is_reported_once() -> None:
    async def keyless() -> Sequence[Check]:
        raise ConfigError("a key is needed")

    async def away() -> Sequence[Check]:
        raise StoreUnavailable("Redis is away")

    checks = await run_checks([Probe("account", keyless), Probe("redis", away), Probe("offers", keyless)])
    assert [check.name for check in checks] == ["account", "redis"]


async def test_a_probe_that_hangs_is_a_failed_check() -> None:
    async def hang() -> Sequence[Check]:
        await asyncio.Event().wait()
        return []

    (check,) = await run_checks([Probe("worker", hang)], timeout=0.01)
    assert (check.ok, check.detail) == (False, "no answer within 0.01 s")


@pytest.mark.parametrize(
    ("info", "name", "ok", "words"),
    [
        ({"redis_version": "6.2.14"}, "redis", True, "version 6.2.14"),
        ({"redis_version": "8.0.2"}, "redis", True, "version 8.0.2"),
        ({"redis_version": "6.0.16"}, "redis", False, "version 6.0.16"),
        ({}, "redis", True, "unknown"),
        (
            {"maxmemory_policy": "volatile-lru", "maxmemory": 1 << 30},
            "redis eviction",
            True,
            "at most 1,024 MiB",
        ),
        ({"maxmemory_policy": "noeviction", "maxmemory": 0}, "redis eviction", True, "no memory limit"),
        (
            {"maxmemory_policy": "noeviction", "maxmemory": 1 << 30},
            "redis eviction",
            False,
            "when it is full",
        ),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 1 << 30}, "redis eviction", False, "the ledger"),
        ({"aof_enabled": 1}, "redis persistence", True, "append-only"),
        ({"aof_enabled": 0}, "redis persistence", True, "since the last snapshot"),
        (
            {"aof_enabled": 1, "aof_last_write_status": "err"},
            "redis persistence",
            False,
            "aof_last_write_status",
        ),
        ({"rdb_last_bgsave_status": "err"}, "redis persistence", False, "rdb_last_bgsave_status"),
    ],
)
def test_a_redis_is_judged_by_its_info(info: dict[str, Any], name: str, ok: bool, words: str) -> None:
    check = next(check for check in check_redis(info) if check.name == name)
    assert (check.ok, words in check.detail, check.fix is None) == (ok, True, ok)


async def test_a_server_that_has_the_model_is_ok(ollama_side: Side) -> None:
    check = await check_server("worker", ollama_side.engine(), "tiny")
    assert (check.ok, check.detail.split(";")[0]) == (True, "answers (version 0.12.3)")


async def test_a_server_without_the_model_is_not(ollama_side: Side) -> None:
    check = await check_server("worker", ollama_side.engine(), "huge")
    assert (check.ok, "has no model huge" in check.detail, check.fix is None) == (False, True, False)


async def test_a_server_whose_model_spilled_to_the_cpu_is_not(
    ollama_side: Side, ollama_server: OllamaServer
) -> None:
    ollama_server.running["tiny:latest"] = Running(size=100, size_vram=40)
    check = await check_server("worker", ollama_side.engine(), "tiny")
    assert (check.ok, "spilled to the CPU" in check.detail, check.fix is None) == (False, True, False)


async def test_a_server_that_is_away_is_an_error(ollama_side: Side, refusing_port: int) -> None:
    engine = ollama_side.engine(url=f"http://127.0.0.1:{refusing_port}")
    with pytest.raises(EngineUnavailable):
        await check_server("worker", engine, "tiny")


def test_a_state_folder_with_room_is_ok(tmp_path: Path) -> None:
    assert check_state(tmp_path) == ok("state", check_state(tmp_path).detail)


def test_a_state_folder_on_a_full_disk_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1024**3))
    assert (check_state(tmp_path).ok, "1.0 GiB free" in check_state(tmp_path).detail) == (False, True)


def test_the_machine_is_described() -> None:
    assert "of memory free" in check_machine().detail


def rented(**changes: Any) -> Worker:
    return make_worker("vast-1", **{"provider": "vast", "started": NOON, **changes})


def offer(price: float) -> Offer:
    return Offer("1", "RTX 4090", price, 0.99, "US")


def report(stage: Any, fraction: float | None = None, detail: str = "") -> WorkerReport:
    return WorkerReport(stage, NOON, fraction, detail)


@pytest.mark.parametrize(
    ("credit", "prices", "ok", "words"),
    [
        (20.0, [], True, "$20.00 of credit"),
        (0.0, [], False, "$0.00 of credit"),
        (-3.5, [0.5], False, "-$3.50 of credit, 0.0 h at $0.50/h"),
        (24.0, [0.5, 0.5], True, "24.0 h at $1.00/h"),
        (23.9, [0.5, 0.5], False, "23.9 h at $1.00/h"),
        (11.0, [0.5], False, "22.0 h at $0.50/h"),
    ],
)
def test_credit_must_last_for_a_day(credit: float, prices: list[float], ok: bool, words: str) -> None:
    check = check_account(Account(credit), [rented(price_per_hour=price) for price in prices])
    assert (check.ok, words in check.detail, check.fix is None) == (ok, True, ok)


@pytest.mark.parametrize(
    ("state", "words"),
    [(WorkerState.STARTING, "4.0 h at $0.50/h"), (WorkerState.FAILED, "100.0 h at $0.02/h")],
)
def test_the_runway_counts_all_of_what_boots_and_the_disk_of_what_was_stopped(
    state: WorkerState, words: str
) -> None:
    worker = rented(state=state, price_per_hour=0.5, billing=0.02)
    assert words in check_account(Account(2.0), [worker]).detail


def test_enough_offers_are_fine_and_the_cheapest_is_named() -> None:
    check = check_offers(Market((offer(0.5), offer(0.35)), {"price": 7}), missing=2)
    assert (check.ok, check.detail) == (True, "2 fit now, from $0.35/h")


def test_where_too_few_fit_the_terms_that_reject_the_most_are_named() -> None:
    rejected = {"verified=true": 3, "reliability>0.95": 1200, "inet_down>=100": 0, "num_gpus=1": 41}
    check = check_offers(Market((offer(0.5),), rejected), missing=2)
    assert check.ok is False
    assert check.detail == (
        "1 fits now, from $0.50/h, 2 needed"
        "; rejected: 1,200 by reliability>0.95, 41 by num_gpus=1, 3 by verified=true"
    )


def test_a_fleet_that_is_complete_needs_no_offers() -> None:
    assert check_offers(Market((), {"price": 4}), missing=0).ok


@pytest.mark.parametrize(
    ("changes", "ok", "words"),
    [
        ({"state": WorkerState.FAILED, "detail": "outbid"}, False, "outbid"),
        ({"state": WorkerState.STARTING, "stage": "booting"}, True, "booting"),
        ({"state": WorkerState.STARTING, "stage": "rented", "detail": "pulling"}, True, "rented: pulling"),
        (
            {"state": WorkerState.STARTING, "stage": "booting", "started": NOON - 2400},
            False,
            "booting for 40 min",
        ),
        (
            {"state": WorkerState.STARTING, "stage": "booting", "detail": "pulling", "started": NOON - 2400},
            False,
            "booting for 40 min: pulling",
        ),
    ],
)
def test_a_worker_that_cannot_be_asked_is_on_its_way_until_it_takes_too_long(
    changes: dict[str, Any], ok: bool, words: str
) -> None:
    check = check_starting(rented(url=None, **changes), TIMEOUT, NOON)
    assert (check.name, check.ok, check.detail) == ("worker vast-1", ok, words)


def test_a_failed_worker_is_reported_with_what_it_still_costs() -> None:
    check = check_starting(rented(state=WorkerState.FAILED, billing=0.02), TIMEOUT, NOON)
    assert check.fix == "`llmhost up` replaces it; until then it costs $0.02/h"


@pytest.mark.parametrize(
    ("said", "minutes", "ok", "words"),
    [
        (report("pulling", 0.43), 5, True, "pulling 43%"),
        (report("pulling", 0.43), 16, False, "pulling 43%, 16 min after it was rented"),
        (report("loading"), 16, True, "loading"),
        (report("installing", None, "nginx"), 21, False, "installing: nginx, 21 min after it was rented"),
        (report("failed", None, "no space left"), 1, False, "failed: no space left"),
        (report("ready"), 600, True, "ready"),
    ],
)
def test_a_worker_reports_its_progress(said: WorkerReport, minutes: int, ok: bool, words: str) -> None:
    check = check_report(rented(), said, TIMEOUT, NOON + minutes * 60)
    assert (check.ok, check.detail, check.fix is None) == (ok, words, ok)


def test_a_slow_pull_is_fixed_by_a_smaller_model_or_a_faster_connection() -> None:
    fix = check_report(rented(), report("pulling", 0.1), TIMEOUT, NOON + 1000).fix
    assert fix is not None
    assert "engine.model" in fix
    assert "inet_down" in fix


def metrics(*models: LoadedModel) -> Metrics:
    return Metrics(NOON, engine_version="0.12.3", models=models)


def test_a_model_that_fits_on_the_gpu_is_no_finding() -> None:
    assert check_memory(rented(), metrics(LoadedModel("m", GIB, GIB))) == []


def test_a_model_that_spilled_is_reported_with_how_much_of_it() -> None:
    (check,) = check_memory(rented(), metrics(LoadedModel("m", 6 * GIB, 4 * GIB), LoadedModel("n", 1, 1)))
    assert (check.ok, check.detail.startswith("2.0 of the 6.0 GiB of m do not fit")) == (False, True)


def test_a_fleet_without_a_budget_fails_and_the_key_is_named() -> None:
    check = check_budget(Limits(), Spent(), [], NOON)
    assert (check.ok, "`fleet.budget.per_day`" in (check.fix or "")) == (False, True)


def test_a_budget_that_holds_is_shown_by_period() -> None:
    limits = Limits(per_hour=2, per_day=50)
    check = check_budget(limits, Spent(day=5), [rented(price_per_hour=1.5)], NOON)
    assert (check.ok, check.detail) == (
        True,
        "if nothing changes: $1.50 of $2.00 this hour, $23.00 of $50.00 today",
    )


def test_a_budget_that_will_break_is_reported_before_it_does_with_the_sum() -> None:
    limits = Limits(per_hour=2, per_day=20)
    check = check_budget(limits, Spent(day=5), [rented(price_per_hour=1.5)], NOON)
    assert (check.ok, check.detail) == (
        False,
        "per_day: $5.00 spent today + $1.50/h x 12 h = $23.00, over the limit of $20.00",
    )
    assert "`fleet.budget.per_day`" in (check.fix or "")


def test_a_budget_that_will_break_tomorrow_is_reported_today() -> None:
    check = check_budget(Limits(per_day=30), Spent(), [rented(price_per_hour=1.5)], NOON)
    assert (check.ok, check.detail) == (
        False,
        "per_day: a whole day at $1.50/h costs $36.00, over the limit of $30.00",
    )


@given(limit=_AMOUNTS, spent=_AMOUNTS, price=_AMOUNTS)
def test_a_budget_is_fine_exactly_where_this_day_and_the_next_end_within_it(
    limit: float, spent: float, price: float
) -> None:
    check = check_budget(Limits(per_day=limit), Spent(day=spent), [rented(price_per_hour=price)], NOON)
    most = limit * (1 + 1e-9)
    assert check.ok == (spent + 12 * price <= most and 24 * price <= most)


def test_costs_are_shown_by_hour_day_and_month() -> None:
    workers = [rented(price_per_hour=0.5)] * 3
    assert check_costs(workers, interruptible=True).detail == (
        "3 workers cost $1.50/h, $36.00 a day, $1,095.00 a month"
    )


@pytest.mark.parametrize(("interruptible", "suggested"), [(True, False), (False, True)])
def test_bidding_is_suggested_where_the_price_is_fixed(interruptible: bool, suggested: bool) -> None:
    check = check_costs([rented()], interruptible=interruptible)
    assert (check.ok, "`vast.interruptible`" in check.detail) == (True, suggested)


def test_nothing_rented_costs_nothing() -> None:
    assert check_costs([], interruptible=False).detail == "nothing is rented"


def test_a_worker_that_is_not_on_record_is_an_orphan() -> None:
    workers = [rented(), make_worker("vast-2", provider="vast")]
    check = check_orphans(workers, frozenset({"vast-2"}), [])
    assert (check.ok, check.detail) == (
        False,
        "vast-1: rented for this fleet but not on record, $0.50/h",
    )
    assert "`llmhost down --orphans`" in (check.fix or "")


def test_a_pending_purchase_without_an_instance_is_reported() -> None:
    check = check_orphans([], frozenset(), [Intent("i", "1", "m", NOON)])
    assert (check.ok, "1 purchase pending" in check.detail) == (False, True)
    assert check.fix == "`llmhost down --orphans` cleans up"


def test_a_worker_on_record_is_no_orphan() -> None:
    assert check_orphans([rented()], frozenset({"vast-1"}), []).detail == "none"


def test_without_redis_orphans_are_not_known() -> None:
    check = check_orphans([rented()], None, [])
    assert (check.ok, check.detail) == (True, "not known without Redis")
