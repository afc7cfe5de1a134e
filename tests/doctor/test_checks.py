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

from llmhost.doctor import checks
from llmhost.doctor.checks import Check, Probe, ok, run_checks
from llmhost.engines.worker_report import LoadedModel, Metrics, WorkerReport
from llmhost.errors import ConfigError, EngineUnavailable, StoreUnavailable
from llmhost.fleet.budget import Limits, Spent
from llmhost.fleet.health import ProbeResult
from llmhost.fleet.models import Account, Intent, Market, Offer, Worker, WorkerState
from llmhost.store.cluster import ClusterNode

NOON = 1_700_049_600.0  # 2023-11-15 12:00 UTC, a Wednesday
TIMEOUT = 1200.0
GIB = 1024**3
REJECTED = "; rejected: 1,200 by reliability>0.95, 41 by num_gpus=1, 3 by verified=true"

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

    found = await run_checks([Probe("a", slow), Probe("b", quick)])
    assert [check.name for check in found] == ["slow", "slow too", "quick"]


async def test_an_error_is_a_failed_check_and_does_not_hide_the_others() -> None:
    async def broken() -> Sequence[Check]:
        raise StoreUnavailable("Redis is away", hint="start it")

    async def sound() -> Sequence[Check]:
        return [ok("sound", "good")]

    found = await run_checks([Probe("redis", broken), Probe("sound", sound)])
    assert found == [
        Check("redis", ok=False, detail="Redis is away", fix="start it", level="fail"),
        Check("sound", ok=True, detail="good", fix=None, level="ok"),
    ]


async def test_one_error_that_several_probes_meet_is_reported_once() -> None:
    async def keyless() -> Sequence[Check]:
        raise ConfigError("a key is needed")

    async def away() -> Sequence[Check]:
        raise StoreUnavailable("Redis is away")

    found = await run_checks([Probe("account", keyless), Probe("redis", away), Probe("offers", keyless)])
    assert [check.name for check in found] == ["account", "redis"]


async def test_a_probe_that_hangs_is_a_failed_check() -> None:
    async def hang() -> Sequence[Check]:
        await asyncio.Event().wait()
        return []

    (check,) = await run_checks([Probe("worker", hang)], timeout=0.01)
    assert (check.ok, check.detail) == (False, "no answer within 0.01 s")


FULL = {"maxmemory": 1 << 30}


@pytest.mark.parametrize(
    ("info", "name", "level", "words"),
    [
        ({"redis_version": "6.2.14"}, "redis", "ok", "answers, Redis 6.2.14"),
        ({"redis_version": "6.0.16"}, "redis", "fail", "Redis 6.0.16"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "redis", "ok", "answers, Valkey 9.1.2"),
        ({}, "redis", "ok", "unknown"),
        ({"maxmemory_policy": "volatile-lru", **FULL}, "redis eviction", "ok", "at most 1,024 MiB"),
        ({"maxmemory_policy": "noeviction", "maxmemory": 0}, "redis eviction", "ok", "no memory limit"),
        ({"maxmemory_policy": "noeviction", **FULL}, "redis eviction", "fail", "when it is full"),
        ({"maxmemory_policy": "allkeys-lru", **FULL}, "redis eviction", "fail", "the ledger"),
        ({"aof_enabled": 1}, "redis persistence", "ok", "append-only"),
        ({"aof_enabled": 0}, "redis persistence", "warn", "since the last snapshot"),
        ({"aof_last_write_status": "err"}, "redis persistence", "fail", "aof_last_write_status"),
        ({"rdb_last_bgsave_status": "err"}, "redis persistence", "fail", "rdb_last_bgsave_status"),
        ({"role": "slave"}, "redis role", "fail", "a read-only replica"),
    ],
)
def test_a_redis_is_judged_by_its_info(info: dict[str, Any], name: str, level: str, words: str) -> None:
    check = next(check for check in checks.check_redis(info) if check.name == name)
    assert (check.level, words in check.detail, check.fix is None) == (level, True, level == "ok")


ALL, PLAIN = ["vector_set", "query_engine", "flat"], ["flat"]


@pytest.mark.parametrize(
    ("facts", "level", "detail", "fix"),
    [
        (("vector_set", "best", ALL, []), "ok", "vector_set, the best that this server has", None),
        (("flat", "best", PLAIN, []), "ok", "flat, the best that this server has", None),
        (("flat", "configured", ALL, []), "ok", "flat, as configured", None),
        (
            ("flat", "data", ALL, []),
            "warn",
            "as the entries that are stored; this server has vector_set",
            "cache",
        ),
        (("flat", "recorded", ALL, []), "warn", "on record in Redis; this server has vector_set", "cache"),
        (("query_engine", "recorded", ALL, []), "warn", "this server has vector_set", "cache"),
        (("flat", "best", PLAIN, ["vector_set"]), "warn", "vector_set finds faster", "+vadd +vsim"),
        (("flat", "best", PLAIN, ["query_engine"]), "warn", "query_engine finds faster", "+ft.create"),
        (
            ("vector_set", "configured", PLAIN, []),
            "fail",
            "this server does not have it",
            "cache.index: auto",
        ),
        (("vector_set", "configured", PLAIN, ["vector_set"]), "fail", "this user may not use it", "+vadd"),
        (("flat", "refused", PLAIN, []), "ok", "since this server does not tell which is on record", None),
    ],
)
def test_an_index_is_judged_by_why_it_is_in_force_and_what_the_server_has(
    facts: tuple[str, str, list[str], list[str]], level: str, detail: str, fix: str | None
) -> None:
    check = checks.check_index(*facts)
    assert check.level == level
    assert detail in check.detail
    assert check.fix is None if fix is None else fix in check.fix


def test_what_warns_has_a_fix_and_has_not_failed() -> None:
    check = checks.warn("disk", "nearly full", "free some")
    assert (check.ok, check.level, check.fix) == (True, "warn", "free some")


@pytest.mark.parametrize(
    ("model", "held", "ok", "words"),
    [
        ("tiny", {}, True, "answers (version 0.12.3); tiny "),
        ("huge", {}, False, "has no model huge"),
        ("tiny", {"tiny:latest": Running(size=100, size_vram=40)}, False, "spilled to the CPU"),
    ],
)
async def test_a_server_must_have_the_model_on_its_gpu(
    ollama_side: Side, ollama_server: OllamaServer, model: str, held: Any, ok: bool, words: str
) -> None:
    ollama_server.running.update(held)
    check = await checks.check_server("worker", ollama_side.engine(), model, answered)
    assert (check.ok, words in check.detail, check.fix is None) == (ok, True, ok)


async def answered() -> ProbeResult:
    return ProbeResult(answered=True)


async def refused() -> ProbeResult:
    return ProbeResult(answered=False, error=EngineUnavailable("no free slot", hint="wait"))


async def silent() -> ProbeResult:
    return ProbeResult(answered=False)


@pytest.mark.parametrize(
    ("probe", "ok", "words"),
    [(answered, True, "answers; tiny"), (refused, False, "no free slot"), (silent, False, "no token")],
)
async def test_what_counts_is_whether_a_server_answers_a_question(
    openai_side: Side, refusing_port: int, probe: Any, ok: bool, words: str
) -> None:
    lists_nothing = openai_side.engine(url=f"http://127.0.0.1:{refusing_port}")
    for engine in (openai_side.engine(), lists_nothing):
        check = await checks.check_server("worker", engine, "tiny", probe)
        assert (check.ok, words in check.detail, check.fix is None) == (ok, True, ok)


def test_a_state_folder_must_have_room_and_the_machine_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "of memory free" in checks.check_machine().detail
    assert checks.check_state(tmp_path).ok
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1024**3))
    check = checks.check_state(tmp_path)
    assert (check.level, "1.0 GiB free" in check.detail) == ("warn", True)


def rented(**changes: Any) -> Worker:
    return make_worker("vast-1", **{"provider": "vast", "started": NOON, **changes})


def offer(price: float) -> Offer:
    return Offer("1", "RTX 4090", price, 0.99, "US")


def report(stage: Any, fraction: float | None = None, detail: str = "") -> WorkerReport:
    return WorkerReport(stage, NOON, fraction, detail)


@pytest.mark.parametrize(
    ("credit", "prices", "level", "words"),
    [
        (20.0, [], "ok", "$20.00 of credit"),
        (0.0, [], "fail", "$0.00 of credit"),
        (-3.5, [0.5], "fail", "-$3.50 of credit, 0.0 h at $0.50/h"),
        (24.0, [0.5, 0.5], "ok", "24.0 h at $1.00/h"),
        (23.9, [0.5, 0.5], "warn", "23.9 h at $1.00/h"),
        (11.0, [0.5], "warn", "22.0 h at $0.50/h"),
    ],
)
def test_credit_should_last_for_a_day(credit: float, prices: list[float], level: str, words: str) -> None:
    check = checks.check_account(Account(credit), [rented(price_per_hour=price) for price in prices])
    assert (check.level, words in check.detail, check.fix is None) == (level, True, level == "ok")


def test_of_a_stopped_worker_only_the_disk_counts() -> None:
    stopped = rented(state=WorkerState.FAILED, price_per_hour=0.5, billing=0.02)
    assert "100.0 h at $0.02/h" in checks.check_account(Account(2.0), [stopped]).detail
    check = checks.check_starting(stopped, TIMEOUT, NOON)
    assert check.fix == "`llmhost up` replaces it; until then it costs $0.02/h"


@pytest.mark.parametrize(
    ("prices", "missing", "ok", "detail"),
    [
        ((0.5, 0.35), 2, True, "2 fit now, from $0.35/h"),
        ((), 0, True, f"0 fit now{REJECTED}"),
        ((0.5,), 2, False, f"1 fits now, from $0.50/h, 2 needed{REJECTED}"),
    ],
    ids=["enough fit", "the fleet is complete", "too few fit"],
)
def test_offers_are_counted_and_the_terms_that_reject_the_most_are_named(
    prices: tuple[float, ...], missing: int, ok: bool, detail: str
) -> None:
    rejected = {"verified=true": 3, "reliability>0.95": 1200, "inet_down>=100": 0, "num_gpus=1": 41}
    check = checks.check_offers(Market(tuple(map(offer, prices)), rejected), missing)
    assert (check.ok, check.detail) == (ok, detail)


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
    check = checks.check_starting(rented(url=None, **changes), TIMEOUT, NOON)
    assert (check.name, check.ok, check.detail) == ("worker vast-1", ok, words)


@pytest.mark.parametrize(
    ("said", "minutes", "level", "words"),
    [
        (report("pulling", 0.43), 5, "ok", "pulling 43%"),
        (report("pulling", 0.43), 16, "warn", "pulling 43%, 16 min after it was rented"),
        (report("pulling", 0.43), 21, "fail", "pulling 43%, 21 min after it was rented"),
        (report("loading"), 16, "ok", "loading"),
        (report("installing", None, "nginx"), 21, "fail", "installing: nginx, 21 min after it was rented"),
        (report("failed", None, "no space left"), 1, "fail", "failed: no space left"),
        (report("ready"), 600, "ok", "ready"),
    ],
)
def test_a_worker_reports_its_progress(said: WorkerReport, minutes: int, level: str, words: str) -> None:
    check = checks.check_report(rented(), said, TIMEOUT, NOON + minutes * 60)
    assert (check.level, check.detail, check.fix is None) == (level, words, level == "ok")


def test_a_slow_pull_is_fixed_by_a_smaller_model_or_a_faster_connection() -> None:
    fix = checks.check_report(rented(), report("pulling", 0.1), TIMEOUT, NOON + 1000).fix
    assert fix is not None
    assert "engine.model" in fix
    assert "inet_down" in fix


def metrics(*models: LoadedModel) -> Metrics:
    return Metrics(NOON, engine_version="0.12.3", models=models)


def test_a_model_that_spilled_is_reported_with_how_much_of_it() -> None:
    assert checks.check_memory(rented(), metrics(LoadedModel("m", GIB, GIB))) == []
    (check,) = checks.check_memory(
        rented(), metrics(LoadedModel("m", 6 * GIB, 4 * GIB), LoadedModel("n", 1, 1))
    )
    assert (check.ok, check.detail.startswith("2.0 of the 6.0 GiB of m do not fit")) == (False, True)


def test_a_gpu_that_is_not_used_at_all_fails_and_says_so() -> None:
    (check,) = checks.check_memory(rented(), metrics(LoadedModel("m", 6 * GIB, 0)))
    assert (check.ok, check.detail) == (False, "its engine does not use the GPU: the model runs on the CPU")


@pytest.mark.parametrize(
    ("limits", "spent", "level", "detail", "key"),
    [
        (Limits(), 0, "fail", "nothing limits what this fleet may cost", "`fleet.budget.per_day`"),
        (
            Limits(per_hour=2, per_day=50),
            5,
            "ok",
            "if nothing changes: $1.50 of $2.00 this hour, $23.00 of $50.00 today",
            "",
        ),
        (
            Limits(per_hour=2, per_day=20),
            5,
            "warn",
            "per_day: $5.00 spent today + $1.50/h x 12 h = $23.00, over the limit of $20.00",
            "`fleet.budget.per_day`",
        ),
        (
            Limits(per_day=30),
            0,
            "warn",
            "per_day: a whole day at $1.50/h costs $36.00, over the limit of $30.00",
            "`fleet.budget.per_day`",
        ),
    ],
    ids=["there is no limit", "it holds", "it will break today", "it will break tomorrow"],
)
def test_a_budget_is_reported_with_its_sum_before_it_breaks(
    limits: Limits, spent: float, level: str, detail: str, key: str
) -> None:
    check = checks.check_budget(limits, Spent(day=spent), [rented(price_per_hour=1.5)], NOON)
    assert (check.level, check.detail, key in (check.fix or "")) == (level, detail, True)


@given(limit=_AMOUNTS, spent=_AMOUNTS, price=_AMOUNTS)
def test_a_budget_is_fine_exactly_where_this_day_and_the_next_end_within_it(
    limit: float, spent: float, price: float
) -> None:
    check = checks.check_budget(Limits(per_day=limit), Spent(day=spent), [rented(price_per_hour=price)], NOON)
    most = limit * (1 + 1e-9)
    assert (check.level == "ok") == (spent + 12 * price <= most and 24 * price <= most)


@pytest.mark.parametrize(
    ("workers", "interruptible", "detail"),
    [
        (3, True, "3 workers cost $1.50/h, $36.00 a day, $1,095.00 a month"),
        (
            1,
            False,
            "1 worker costs $0.50/h, $12.00 a day, $365.00 a month; `vast.interruptible` bids for less",
        ),
        (0, False, "nothing is rented"),
    ],
)
def test_costs_are_shown_by_hour_day_and_month(workers: int, interruptible: bool, detail: str) -> None:
    check = checks.check_costs([rented(price_per_hour=0.5)] * workers, interruptible=interruptible)
    assert (check.ok, check.detail) == (True, detail)


@pytest.mark.parametrize(
    ("known", "intents", "ok", "detail"),
    [
        ({"vast-2"}, 0, False, "vast-1: rented for this fleet but not on record, $0.50/h"),
        ({"vast-1", "vast-2"}, 1, False, "1 purchase pending for which vast.ai lists no instance"),
        ({"vast-1", "vast-2"}, 0, True, "none"),
        (None, 0, True, "not known without Redis"),
    ],
)
def test_what_may_be_paid_for_without_being_used_is_reported(
    known: set[str] | None, intents: int, ok: bool, detail: str
) -> None:
    workers = [rented(), make_worker("vast-2", provider="vast")]
    pending = [Intent("i", "1", "m", NOON)] * intents
    check = checks.check_orphans(workers, None if known is None else frozenset(known), pending)
    assert (check.ok, check.detail) == (ok, detail)
    assert ok or "`llmhost down --orphans` cleans up" in (check.fix or "")


@pytest.mark.parametrize(("workers", "level"), [(0, "warn"), (2, "fail")])
def test_a_pause_warns_and_with_workers_that_cost_money_it_is_a_failure(workers: int, level: str) -> None:
    check = checks.check_pause(NOON, [make_worker(f"w-{number}") for number in range(workers)])
    assert (check.name, check.level, check.detail[:15]) == ("autoscaling", level, "paused since 20")


@pytest.mark.parametrize(
    ("keys", "proxy", "level", "words"),
    [
        (None, None, "warn", "not known while the embedded Redis does not run"),
        (0, None, "fail", "no API key"),
        (1, None, "ok", "1 API key, a certificate of its own"),
        (2, "10.0.0.5", "ok", "2 API keys, TLS of the proxy at 10.0.0.5"),
    ],
)
def test_a_gateway_that_other_machines_reach_needs_a_key(
    keys: int | None, proxy: str | None, level: str, words: str
) -> None:
    check = checks.check_gateway(keys, proxy)
    assert (check.level, words in check.detail) == (level, True)


def nodes(*failed: int, replicas: int = 3) -> list[ClusterNode]:
    """Three masters and some replicas of them in turn; those of these numbers do not answer."""
    masters = [ClusterNode(str(n), f"h:{n}", "", 5461 + (n == 2), n in failed) for n in range(3)]
    return masters + [
        ClusterNode(str(n), f"h:{n}", str(n - 3), 0, n in failed) for n in range(3, 3 + replicas)
    ]


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        (nodes(), "ok", "3 masters, 3 other nodes, all slots are served"),
        (nodes(4), "warn", "h:4 does not answer; all slots are served"),
        (nodes(0, 3), "fail", "h:0, h:3 do not answer; 5,461 of 16,384 slots are served by no node"),
        (nodes()[1:], "fail", "5,461 of 16,384 slots"),
        (nodes(replicas=2), "warn", "h:2 has no replica"),
    ],
)
def test_a_cluster_is_judged_by_its_nodes(found: list[ClusterNode], level: str, words: str) -> None:
    check = checks.check_cluster(found)
    assert (check.level, check.fix is None) == (level, level == "ok")
    assert words in check.detail


def test_of_several_masters_the_worst_is_shown_with_its_address() -> None:
    well = {"redis_version": "8.2.3", "maxmemory_policy": "volatile-lru", "aof_enabled": 1}
    ill = well | {"maxmemory_policy": "allkeys-lru"}
    found = {check.name: check for check in checks.check_masters({"h:0": well, "h:1": ill, "h:2": well})}
    assert found["redis"].level == "ok"
    assert found["redis eviction"].level == "fail"
    assert found["redis eviction"].detail.startswith("h:1: allkeys-lru")
