"""One step of the autoscaler: what it reads, in which order it acts, and what it leaves alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.memory_provider import MemoryCloud, RentingProvider
from doubles.memory_traffic import MemoryTraffic
from doubles.scale_bench import SPEED, ScaleBench, exit_code, kinds
from redis.asyncio import Redis

from llmhost.autoscale.checkup import SilenceLimits
from llmhost.autoscale.state import ScaleStateStore
from llmhost.config.models import RedisConfig
from llmhost.engines.traffic import Traffic
from llmhost.errors import ProviderError, StoreRefused
from llmhost.fleet.budget import Limits
from llmhost.fleet.lock import FleetLock
from llmhost.fleet.models import FleetSpec, Market
from llmhost.fleet.providers.static import StaticProvider, StaticServer
from llmhost.fleet.service import FleetService
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys

# Following the demand


async def test_a_new_worker_is_asked_as_soon_as_a_step_has_seen_it_answer(bench: ScaleBench) -> None:
    bench.offer(1)
    bench.cloud.boot_seconds = 90
    await bench.step()
    before = await bench.registry.workers()
    await bench.clock.sleep(120)
    await bench.step()
    after = await bench.registry.workers()
    assert [w.state.value for w in (*before.workers, *after.workers)] == ["starting", "ready"]


async def test_how_long_a_boot_takes_is_learned_from_what_steps_saw(bench: ScaleBench) -> None:
    bench.offer(1)
    bench.cloud.boot_seconds = 240
    await bench.run(6)
    assert (await bench.step()).decision.observed.boot_seconds == pytest.approx(240, abs=31)


# Repairs


async def test_a_worker_with_a_foreign_certificate_is_replaced(bench: ScaleBench) -> None:
    await bench.settled(2)
    bench.offer(1)
    bench.strange = {"memory-1"}
    result = await bench.step()
    assert (kinds(result), bench.workers) == (["repair", "buy"], ["memory-2", "memory-3"])


async def test_unknown_workers_alone_are_never_terminated(
    bench: ScaleBench,
) -> None:
    await bench.settled(3)
    bench.offer(3)
    bench.strange = set(bench.workers)
    result = await bench.step()
    assert (result.decision.action, exit_code(result), len(bench.workers)) == ("hold", 5, 3)


async def test_an_unresponsive_worker_is_replaced(bench: ScaleBench) -> None:
    await bench.settled(2)
    bench.offer(1)
    bench.silent = {"memory-1"}
    await bench.run(9)
    assert "memory-1" in bench.workers
    await bench.run(3)
    assert bench.workers == ["memory-2", "memory-3"]


async def test_a_worker_that_answers_is_kept_whatever_its_provider_says(bench: ScaleBench) -> None:
    await bench.settled(3)
    bench.offer(3)
    for worker in bench.workers:
        bench.cloud.fail(worker, "its label was changed", answers=True)
    results = await bench.run(20)
    assert {(result.decision.action, *kinds(result)) for result in results} == {("hold",)}
    assert (results[-1].decision.observed.ready, len(bench.workers)) == (3, 3)


async def test_a_busy_worker_is_not_ended_because_its_provider_says_that_it_failed(bench: ScaleBench) -> None:
    await bench.settled(1)
    bench.cloud.fail("memory-1", "its row cannot be read", answers=True)
    bench.hanging = {"memory-1"}
    await bench.step()
    assert bench.workers == ["memory-1"]


@pytest.mark.parametrize("evidence", ["provider", "silence", "refusal"])
async def test_a_step_ends_a_third_of_the_workers_that_answered_on_the_same_kind_of_evidence(
    bench: ScaleBench, evidence: str
) -> None:
    await bench.settled(7)
    bench.offer(20)
    broken = set(bench.workers[:6])  # one answers still, so that it is not this machine that is cut off
    if evidence == "provider":
        for worker in broken:
            bench.cloud.fail(worker, "stopped")
    elif evidence == "silence":
        bench.silent = broken
        await bench.run(10)
    else:
        bench.strange = broken
    assert kinds(await bench.step()).count("repair") == 2
    assert (len(broken & set(bench.workers)), len(bench.workers) <= 7) == (4, True)
    for _ in range(4):
        await bench.step()
    assert not broken & set(bench.workers)


async def test_a_third_of_a_small_fleet_is_one_worker(bench: ScaleBench) -> None:
    await bench.settled(2)
    bench.offer(2)
    for worker in bench.workers:
        bench.cloud.fail(worker, "stopped")
    assert kinds(await bench.step()) == ["repair", "buy"]
    assert kinds(await bench.step()) == ["repair", "buy"]
    assert bench.workers == ["memory-3", "memory-4"]


async def test_a_broken_worker_that_is_left_to_the_next_step_is_taken_for_no_purchase(
    bench: ScaleBench,
) -> None:
    await bench.settled(4)
    bench.offer(9)
    bench.silent = {"memory-1", "memory-2"}
    await bench.run(10)
    result = await bench.step()
    assert [action.worker for action in result.actions if action.kind == "repair"] == ["memory-1"]
    bought = [action.worker for action in result.actions if action.kind == "buy"]
    assert (bought, bench.workers) == (["memory-5"], ["memory-2", "memory-3", "memory-4", "memory-5"])


async def test_beside_a_purchase_of_another_machine_one_that_is_left_to_the_next_step_is_no_purchase_either(
    bench: ScaleBench,
) -> None:
    class WithAnotherBuyer(RentingProvider):
        async def offers(self, spec: FleetSpec) -> Market:
            market = await super().offers(spec)
            await RentingProvider(bench.cloud).create(spec, market.offers[0])
            return market

    await bench.settled(4)
    bench.offer(9)
    bench.silent = {"memory-1", "memory-2"}
    await bench.run(10)
    result = await bench.make(provider=WithAnotherBuyer(bench.cloud)).step()
    bought = [action.worker for action in result.actions if action.kind == "buy"]
    assert (bought, bench.workers) == (["memory-5"], ["memory-2", "memory-3", "memory-4", "memory-5"])


async def test_boots_that_failed_are_all_replaced_at_once(bench: ScaleBench) -> None:
    bench.traffic.ask(300.0)
    await bench.clock.sleep(120)
    bench.cloud.boot_seconds = 1e6
    bench.offer(8)
    await bench.run(1)
    bought = bench.workers
    assert len(bought) > 1
    for worker in bought:
        bench.cloud.fail(worker, "no space left")
    await bench.step()
    assert not set(bought) & set(bench.workers)


@pytest.mark.parametrize("stage", ["outbid", "stopped", "frozen", "unknown", "offline"])
async def test_what_is_not_its_machines_fault_bans_no_machine(bench: ScaleBench, stage: str) -> None:
    await bench.settled(1)
    bench.cloud.fail("memory-1", "it is gone", stage=stage)
    assert kinds(await bench.step())[0] == "repair"
    assert await bench.registry.bans() == {}


async def test_a_worker_that_answers_other_processes_is_busy_and_stays(bench: ScaleBench) -> None:
    await bench.settled(2)
    bench.silent = {"memory-1"}
    for _ in range(20):
        bench.traffic.last_answers["memory-1"] = bench.clock.now()
        await bench.run(1)
    assert bench.workers == ["memory-1", "memory-2"]


async def test_a_boot_without_progress_is_given_up(bench: ScaleBench) -> None:
    bench.offer(2)
    bench.cloud.boot_seconds = 1e6
    await bench.run(19)
    assert bench.workers == ["memory-1"]
    await bench.run(3)
    assert bench.workers == ["memory-2"]


async def test_a_slow_boot_with_progress_is_waited_for(bench: ScaleBench) -> None:
    bench.offer(2)
    bench.cloud.boot_seconds = 1e6
    for minute in range(40):
        await bench.run(1)
        bench.cloud.say("memory-1", f"layer {minute} of 40")
    assert bench.workers == ["memory-1"]


async def test_a_step_asks_every_worker_so_that_none_ends_because_all_questions_were_hits(
    bench: ScaleBench,
) -> None:
    await bench.settled(3)
    bench.asked.clear()
    await bench.step()
    assert sorted(bench.asked) == bench.workers


# Down


async def test_a_draining_worker_finishes_its_last_answer(bench: ScaleBench) -> None:
    await bench.settled(3)
    bench.traffic.in_flight_now = dict.fromkeys(bench.workers, 1)
    bench.traffic.ask(10.0)
    results = await bench.run(8)
    drained = [result for result in results if "drain" in kinds(result)]
    assert [kinds(result) for result in drained] == [["drain", "drain"]]
    assert len(bench.workers) == 3
    bench.traffic.in_flight_now = {}
    assert kinds(await bench.step()) == ["finish", "finish"]
    assert len(bench.workers) == 1


async def test_a_draining_worker_is_kept_when_it_is_needed_again(bench: ScaleBench) -> None:
    await bench.settled(3)
    bench.traffic.in_flight_now = dict.fromkeys(bench.workers, 1)
    bench.traffic.ask(10.0)
    await bench.run(8)
    assert len(bench.traffic.draining) == 2
    bench.traffic.ask(240.0)
    await bench.clock.sleep(120)
    result = await bench.step()
    assert (kinds(result), bench.traffic.draining) == (["revive", "revive"], set())


# What cannot be read


async def test_invalid_metrics_change_nothing_and_are_named(bench: ScaleBench) -> None:
    await bench.settled(3)
    bench.traffic.speeds = {"memory-2": float("nan")}
    result = await bench.step()
    assert (result.decision.action, exit_code(result), result.actions) == ("hold", 5, ())
    assert "memory-2" in result.decision.reason


# Money


async def test_a_fleet_over_its_budget_shrinks(bench: ScaleBench) -> None:
    await bench.settled(4)
    bench.limits = Limits(per_hour=1.0)
    result = await bench.step()
    assert (exit_code(result), result.decision.action, len(bench.workers)) == (4, "down", 2)


async def test_after_repeated_failed_purchases_none_is_tried_for_an_hour(
    bench: ScaleBench,
) -> None:
    bench.cloud.create_errors = [ProviderError("it was not created")] * 100
    bench.offer(20)
    results = await bench.run(30)
    assert 100 - len(bench.cloud.create_errors) == 3
    assert exit_code(results[-1]) == 4
    assert "until" in results[-1].decision.reason
    bench.cloud.create_errors = []
    await bench.run(40)
    assert len(bench.workers) == 1


# One at a time, and what is written down


async def test_a_dry_run_says_what_it_would_do_and_changes_nothing(bench: ScaleBench) -> None:
    bench.offer(20)
    bench.scale = replace(bench.scale, min_gpus=2)
    result = await bench.step(dry_run=True)
    assert [(action.kind, action.done) for action in result.actions] == [("buy", False)] * 2
    assert (bench.workers, list(await bench.make().history(10))) == ([], [])


async def test_every_decision_is_kept(bench: ScaleBench) -> None:
    bench.offer(20)
    await bench.run(2)
    bench.cloud.list_error = ProviderError("vast.ai answers 500")
    await bench.run(1)
    kept = await bench.make().history(10)
    assert [record.decision for record in kept] == ["up", "hold", "hold"]
    assert [action["kind"] for action in kept[0].actions] == ["buy"]
    assert "vast.ai answers 500" in kept[-1].reason


# Beside people


def by_hand(bench: ScaleBench) -> FleetService:
    """What `llmhost up` and `llmhost down` use, on the same fleet."""
    return FleetService(
        RentingProvider(bench.cloud),
        bench.spec,
        hooks=bench.hooks,
        lock=FleetLock(bench.folder / "here.lock"),
        clock=bench.clock,
        ready_timeout=60.0,
        registry=bench.registry,
    )


async def test_a_fleet_that_was_taken_down_does_not_come_back_by_itself(bench: ScaleBench) -> None:
    await bench.settled(2)
    bench.offer(5)
    result = await by_hand(bench).down()
    held = await bench.run(30)
    assert (result.paused, bench.workers) == (True, [])
    assert {(step.decision.action, exit_code(step)) for step in held} == {("hold", 0)}
    assert "`llmhost up` resumes" in held[-1].decision.reason


async def test_up_ends_the_pause(bench: ScaleBench) -> None:
    await bench.settled(2)
    bench.offer(9)
    await by_hand(bench).down()
    await by_hand(bench).up(1)
    bench.traffic.ask(160.0)
    await bench.run(5)
    assert len(bench.workers) == 2


async def test_a_worker_destroyed_by_name_is_replaced_while_it_is_needed(bench: ScaleBench) -> None:
    await bench.settled(2)
    bench.offer(5)
    result = await by_hand(bench).down(["memory-1"])
    await bench.run(3)
    assert (result.paused, len(bench.workers)) == (False, 2)


async def test_a_paused_step_names_the_workers_that_still_cost_money(bench: ScaleBench) -> None:
    await bench.settled(2)
    bench.offer(5)
    bench.cloud.undying = {"memory-1"}
    await by_hand(bench).down()
    result = await bench.step()
    assert (exit_code(result), kinds(result), bench.workers) == (3, [], ["memory-1"])
    assert result.error is not None
    assert result.error.message.startswith("1 worker still listed, $0.40/h, and autoscaling is paused since")
    assert (await by_hand(bench).status()).paused == pytest.approx(bench.clock.now())


async def test_a_paused_step_keeps_to_the_budget_and_buys_nothing(bench: ScaleBench) -> None:
    await bench.settled(3)
    bench.offer(5)
    bench.cloud.undying = set(bench.workers)
    await by_hand(bench).down()
    bench.cloud.undying = set()
    bench.limits = Limits(per_hour=0.5)
    bench.traffic.ask(2000.0)
    await bench.run(3)
    assert len(bench.workers) == 1


async def test_a_paused_step_says_since_when_though_it_has_more_to_say(bench: ScaleBench) -> None:
    await bench.settled(2)
    bench.cloud.undying = set(bench.workers)
    await by_hand(bench).down()
    bench.limits = Limits(per_hour=0.1)
    result = await bench.step(dry_run=True)
    assert (result.pause or "").endswith("by `llmhost down`; `llmhost up` resumes")
    assert result.decision.reason.startswith(f"{result.pause}; the budget allows")
    bench.cloud.fail(bench.workers[0], "stopped")
    result = await bench.step()
    assert (result.decision.reason.startswith("1 worker failed; paused"), exit_code(result)) == (True, 4)


async def test_a_damaged_pause_is_a_pause(bench: ScaleBench) -> None:
    await bench.redis.hset(FleetKeys(bench.spec.name).scale, "paused", "soon")
    bench.offer(5)
    assert ((await bench.step()).decision.action, bench.workers) == ("hold", [])


async def test_a_dry_run_of_a_paused_fleet_says_so(bench: ScaleBench) -> None:
    await bench.settled(1)
    await by_hand(bench).down()
    assert "paused since" in (await bench.step(dry_run=True)).decision.reason


# What counts as a failed purchase, and what does not


async def test_a_worker_that_cannot_be_destroyed_does_not_stop_other_purchases(
    bench: ScaleBench,
) -> None:
    await bench.settled(2)
    bench.offer(20)
    bench.cloud.fail("memory-1", "stuck")
    bench.cloud.undying = {"memory-1"}
    await bench.run(10)
    bench.traffic.ask(500.0)
    await bench.run(3)
    assert len(bench.workers) == 6  # of which it keeps its place, as it is still paid for


async def test_a_worker_that_never_answered_and_cannot_be_destroyed_is_one_failure(bench: ScaleBench) -> None:
    bench.scale = replace(bench.scale, max_failures=2)
    bench.offer(5)
    bench.cloud.boot_seconds = 1e6
    await bench.step()
    bench.cloud.fail("memory-1", "no space left")
    bench.cloud.undying = {"memory-1"}
    assert {exit_code(result) for result in await bench.run(5)} == {3}


async def test_every_step_searches_an_empty_market_again(bench: ScaleBench) -> None:
    assert {exit_code(result) for result in await bench.run(10)} == {3}
    bench.offer(1)
    assert kinds(await bench.step()) == ["buy"]


async def test_failures_count_though_the_clocks_of_this_machine_and_of_redis_differ(
    bench: ScaleBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = bench.traffic.read

    async def by_another_clock(workers: list[str]) -> Traffic:
        traffic = await read(workers)
        return replace(traffic, at=traffic.at + 7200, since=traffic.since + 7200)

    monkeypatch.setattr(bench.traffic, "read", by_another_clock)
    bench.offer(20)
    bench.cloud.create_errors = [ProviderError("vast.ai answers 500")] * 20
    tried = [result for result in await bench.run(10) if "buy" in kinds(result)]
    assert len(tried) == bench.scale.max_failures


async def test_a_static_server_that_never_answers_is_given_up_after_the_most_failures(
    bench: ScaleBench, tmp_path: Path
) -> None:
    """Its name stays the same, unlike that of a machine that is rented anew."""
    server = StaticServer("http://127.0.0.1:9")
    provider = StaticProvider(tmp_path / "static", [server], now=bench.clock.now)
    bench.strange = {server.id}
    results = []
    for _ in range(6):
        results.append(await bench.make(provider=provider).step())
        await bench.clock.sleep(60)
    assert exit_code(results[-1]) == 4
    assert sum(kinds(result).count("buy") for result in results) == bench.scale.max_failures


async def test_a_boot_that_alternates_between_two_statuses_is_given_up(bench: ScaleBench) -> None:
    bench.offer(1)
    bench.cloud.boot_seconds = 1e6
    for minute in range(24):
        await bench.run(1)
        if bench.workers:
            bench.cloud.say("memory-1", ("loading", "restarting")[minute % 2])
    assert bench.workers == []


async def test_a_boot_that_counts_up_for_ever_is_given_up(bench: ScaleBench) -> None:
    bench.offer(1)
    bench.cloud.boot_seconds = 1e6
    for minute in range(300):
        await bench.run(1)
        if bench.workers:
            bench.cloud.say("memory-1", f"try {minute}")
    assert bench.workers == []


# One long answer


async def test_a_worker_with_one_long_answer_is_not_destroyed_before_its_timeout(
    bench: ScaleBench,
) -> None:
    await bench.settled(1)
    silence = SilenceLimits(booting=1200.0, silent=120.0, busy=600.0)
    bench.silent = {"memory-1"}
    bench.traffic.in_flight_now = {"memory-1": 1}
    repaired = []
    for _ in range(13):
        repaired.append("repair" in kinds(await bench.make(silence=silence).step()))
        await bench.clock.sleep(60)
    assert repaired.index(True) == 10


# Another model in the configuration


async def test_workers_with_another_model_answer_what_they_were_asked_before_they_go(
    bench: ScaleBench,
) -> None:
    await bench.settled(3)
    bench.offer(5)
    bench.spec = replace(bench.spec, model="another")
    bench.traffic.in_flight_now = {"memory-1": 1}
    first = await bench.step()
    assert kinds(first) == ["drain", "repair", "repair", "buy", "buy"]
    assert bench.workers == ["memory-1", "memory-4", "memory-5"]
    assert "memory-1" in bench.traffic.draining
    bench.traffic.in_flight_now = {}
    assert (kinds(await bench.step()), len(bench.workers)) == (["repair", "buy"], 3)


async def test_a_model_that_comes_back_takes_its_workers_back(bench: ScaleBench) -> None:
    await bench.settled(2)
    bench.traffic.in_flight_now = dict.fromkeys(bench.workers, 1)
    model, bench.spec = bench.spec.model, replace(bench.spec, model="another")
    await bench.step()
    bench.spec = replace(bench.spec, model=model)
    result = await bench.step()
    assert (kinds(result), bench.traffic.draining) == (["revive", "revive"], set())


# A Redis that is restarted between two steps of the autoscaler, with its data and without


@asynccontextmanager
async def connected(server: Any) -> AsyncIterator[Redis]:
    client = connect(RedisConfig(host="127.0.0.1", port=server.port))
    yield client
    await client.aclose()


async def test_steps_continue_with_a_redis_that_returns_with_its_data(
    memory_cloud: MemoryCloud, manual_clock: ManualClock, tmp_path: Path, redis_port_server: Any
) -> None:
    (tmp_path / "data").mkdir()
    kept = ("--dir", str(tmp_path / "data"), "--appendonly", "yes", "--appendfsync", "always")
    server = redis_port_server(*kept)
    async with connected(server) as client:
        bench = ScaleBench(memory_cloud, manual_clock, tmp_path, client, MemoryTraffic(manual_clock))
        await bench.settled(3)
        before = len(await bench.make().history(100))
    server.kill()
    async with connected(redis_port_server(*kept)) as client:
        bench.redis = client
        results = await bench.run(10)
        assert {(result.decision.action, exit_code(result)) for result in results} == {("hold", 0)}
        assert (len(bench.workers), len(await bench.make().history(100))) == (3, before + 10)


async def test_a_redis_that_returns_empty_terminates_no_worker_and_all_are_known_again(
    memory_cloud: MemoryCloud, manual_clock: ManualClock, tmp_path: Path, redis_port_server: Any
) -> None:
    server = redis_port_server()
    async with connected(server) as client:
        bench = ScaleBench(memory_cloud, manual_clock, tmp_path, client, MemoryTraffic(manual_clock))
        await bench.settled(3)
    server.kill()
    async with connected(redis_port_server()) as client:
        bench.redis = client
        bench.traffic.rates, bench.traffic.since = (
            [(manual_clock.now(), 0.0)],
            None,
        )  # the counts are lost too
        results = await bench.run(4)
        assert {(result.decision.action, exit_code(result)) for result in results} == {("hold", 0)}
        assert (await bench.registry.workers()).ids == set(bench.workers)
        assert len(bench.workers) == 3


async def test_a_step_that_cannot_be_saved_still_says_what_it_did(bench: ScaleBench) -> None:
    class Full(ScaleStateStore):
        async def save(self, *_: object) -> bool:
            raise StoreRefused("Redis is out of memory")

    bench.traffic.since = bench.clock.now() - 3600
    bench.traffic.ask(SPEED)
    await bench.clock.sleep(600)
    bench.offer(2)
    result = await bench.make(store=Full(bench.redis, bench.spec.name)).step()
    assert (kinds(result)[:1], result.decision.action, len(bench.workers) > 0) == (["buy"], "up", True)
    assert (str(result.error), exit_code(result)) == ("Redis is out of memory", StoreRefused.exit_code)


async def test_without_redis_a_step_changes_nothing(
    memory_cloud: MemoryCloud, manual_clock: ManualClock, tmp_path: Path, redis_port_server: Any
) -> None:
    server = redis_port_server()
    async with connected(server) as client:
        bench = ScaleBench(memory_cloud, manual_clock, tmp_path, client, MemoryTraffic(manual_clock))
        await bench.settled(2)
        server.kill()
        result = await bench.step()
        assert (result.decision.action, exit_code(result), len(bench.workers)) == ("hold", 5, 2)
