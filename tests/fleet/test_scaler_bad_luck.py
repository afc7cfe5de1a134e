"""The autoscaler, month after month: what goes wrong once must not stop it, nor cost money, for ever."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.clock import ManualClock
from doubles.memory_provider import MemoryCloud
from doubles.memory_traffic import MemoryTraffic
from doubles.scale_bench import ScaleBench, exit_code, kinds

from llmhost.autoscale.checkup import Patience
from llmhost.engines.traffic import Traffic
from llmhost.errors import ProviderError
from llmhost.fleet.providers.static import StaticProvider, StaticServer


@pytest.fixture
def bench(
    memory_cloud: MemoryCloud, manual_clock: ManualClock, tmp_path: Path, redis_client: Any
) -> ScaleBench:
    return ScaleBench(memory_cloud, manual_clock, tmp_path, redis_client, MemoryTraffic(manual_clock))


# What is no failed purchase


async def test_a_worker_that_cannot_be_ended_does_not_keep_others_from_being_bought(
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


async def test_one_that_never_answered_and_cannot_be_ended_is_one_failure(bench: ScaleBench) -> None:
    bench.scale = replace(bench.scale, max_failures=2)
    bench.offer(5)
    bench.cloud.boot_seconds = 1e6
    await bench.step()
    bench.cloud.fail("memory-1", "no space left")
    bench.cloud.undying = {"memory-1"}
    assert {exit_code(result) for result in await bench.run(5)} == {3}


async def test_an_empty_market_is_looked_at_again_by_every_step(bench: ScaleBench) -> None:
    assert {exit_code(result) for result in await bench.run(10)} == {3}
    bench.offer(1)
    assert kinds(await bench.step()) == ["buy"]


# What is one, all the same


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


async def test_a_server_that_is_taken_into_use_again_and_again_and_never_answers_is_left_alone(
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


async def test_one_that_boots_and_says_the_same_things_in_turn_is_given_up(bench: ScaleBench) -> None:
    bench.offer(1)
    bench.cloud.boot_seconds = 1e6
    for minute in range(24):
        await bench.run(1)
        if bench.workers:
            bench.cloud.say("memory-1", ("loading", "restarting")[minute % 2])
    assert bench.workers == []


async def test_one_that_boots_and_counts_up_for_ever_is_given_up(bench: ScaleBench) -> None:
    bench.offer(1)
    bench.cloud.boot_seconds = 1e6
    for minute in range(300):
        await bench.run(1)
        if bench.workers:
            bench.cloud.say("memory-1", f"try {minute}")
    assert bench.workers == []


# One long answer


async def test_one_that_is_at_a_single_long_answer_is_not_ended_before_that_could_be_over(
    bench: ScaleBench,
) -> None:
    await bench.settled(1)
    patience = Patience(booting=1200.0, silent=120.0, busy=600.0)
    bench.silent = {"memory-1"}
    bench.traffic.in_flight_now = {"memory-1": 1}
    repaired = []
    for _ in range(13):
        repaired.append("repair" in kinds(await bench.make(patience=patience).step()))
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
