"""What the autoscaler remembers in a real Redis: written by whoever holds the fleet, read with suspicion."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from llmhost.autoscale.state import ScaleState, ScaleStateStore, StepRecord, WorkerObservation
from llmhost.config.models import RedisConfig
from llmhost.errors import StoreRefused, StoreUnavailable
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys
from llmhost.store.lease import Lease

NOW = 1_700_000_000.0
DAY = 86_400.0
KEY = FleetKeys("test").scale
SIGHTS = {
    "w-1": WorkerObservation("loading 40 %", NOW - 90),
    "w-2": WorkerObservation("", NOW - 900, True, NOW - 60),
}
MEMORY = ScaleState((NOW - 100, NOW - 50.5), SIGHTS, 0.41)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
moments = st.floats(0, 1e11)
sights = st.builds(
    WorkerObservation, said=texts, since=moments, answered=st.booleans(), silent_since=st.none() | moments
)
records = st.builds(
    StepRecord,
    at=moments,
    decision=st.sampled_from(["up", "down", "hold"]),
    before=st.integers(0, 1000),
    after=st.integers(0, 1000),
    reason=texts,
    observed=st.dictionaries(
        texts, st.none() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    ),
    actions=st.lists(st.dictionaries(texts, st.none() | st.booleans() | texts), max_size=3).map(tuple),
    blocked=st.none() | texts,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
)


def record(number: int = 0, **changes: Any) -> StepRecord:
    values = {"at": NOW, "decision": "up", "before": 1, "after": 2, "reason": f"step {number}"}
    return StepRecord(**{**values, **changes})


@pytest.fixture
def memory(redis_client: Redis) -> ScaleStateStore:
    return ScaleStateStore(redis_client, "test")


@pytest.fixture
async def fence(redis_client: Redis) -> int:
    """Of whoever holds the fleet."""
    taken = await Lease(redis_client, KEY, holder="me").take()
    assert taken is not None
    return taken


async def test_a_step_that_lost_the_lock_saves_nothing(
    memory: ScaleStateStore, fence: int, redis_client: Redis
) -> None:
    await memory.save(MEMORY, record(1), fence)
    await redis_client.hset(KEY, "lock:until", "1")
    theirs = await Lease(redis_client, KEY, holder="them").take()
    assert not await memory.save(ScaleState(), record(2), fence)
    assert await memory.load() == MEMORY
    assert await memory.history(10) == (record(1),)
    assert theirs is not None
    assert await memory.save(ScaleState(), record(3), theirs)


async def test_without_any_lock_nothing_is_remembered(memory: ScaleStateStore, redis_client: Redis) -> None:
    assert not await memory.save(MEMORY, record(), 1)
    assert not await redis_client.exists(KEY)


async def test_workers_that_are_not_named_are_forgotten(memory: ScaleStateStore, fence: int) -> None:
    await memory.save(MEMORY, record(), fence)
    await memory.save(ScaleState(observations={"w-2": SIGHTS["w-2"]}), record(), fence)
    assert await memory.load() == ScaleState(observations={"w-2": SIGHTS["w-2"]})


async def test_failures_of_more_than_a_day_ago_are_forgotten(memory: ScaleStateStore, fence: int) -> None:
    failures = (NOW - DAY - 1, NOW - DAY + 1, NOW, NOW + 2 * DAY, math.nan, math.inf)
    await memory.save(ScaleState(failures), record(), fence)
    assert (await memory.load()).failures == (NOW - DAY + 1, NOW)


async def test_numbers_that_are_none_become_unknown(memory: ScaleStateStore, fence: int) -> None:
    observed = {"queue_seconds": math.inf, "demand": math.nan, "waiting": 3, "idle": None}
    await memory.save(ScaleState(price=math.nan), record(observed=observed), fence)
    assert (await memory.load()).price is None
    (found,) = await memory.history(1)
    assert found.observed == {"queue_seconds": None, "demand": None, "waiting": 3, "idle": None}


async def test_history_is_the_newest_decisions_newest_last(memory: ScaleStateStore, fence: int) -> None:
    for number in range(12):
        await memory.save(ScaleState(), record(number), fence)
    assert [found.reason for found in await memory.history(3)] == ["step 9", "step 10", "step 11"]
    assert len(await memory.history(100)) == 12
    assert await memory.history(0) == ()
    assert (await memory.history(3)).damaged == 0


async def test_the_newest_thousand_decisions_are_kept(
    memory: ScaleStateStore, fence: int, redis_client: Redis
) -> None:
    raw = json.dumps({"at": NOW})
    await redis_client.hset(KEY, mapping={f"decision:{number}": raw for number in range(1, 1006)})
    await redis_client.hset(KEY, "decisions", 1005)
    await memory.save(ScaleState(), record(), fence)
    keys: Any = await redis_client.hkeys(KEY)
    names = {name for name in keys if name.startswith(b"decision:")}
    assert names == {f"decision:{number}".encode() for number in range(7, 1007)}
    assert await redis_client.hget(KEY, "decisions") == b"1006"


@pytest.mark.parametrize("counter", ["", "x", "nan", "inf", "-5", "1e300", "0"])
async def test_a_damaged_counter_overwrites_no_decision(
    memory: ScaleStateStore, fence: int, redis_client: Redis, counter: str
) -> None:
    for number in range(3):
        await memory.save(ScaleState(), record(number), fence)
    await redis_client.hset(KEY, "decisions", counter)
    await memory.save(ScaleState(), record(3), fence)
    assert [found.reason for found in await memory.history(9)] == [f"step {number}" for number in range(4)]


async def test_the_memory_is_never_evicted_and_leaves_the_lock_alone(
    memory: ScaleStateStore, fence: int, redis_client: Redis
) -> None:
    before = await redis_client.hmget(KEY, ["lock:holder", "lock:until", "lock:fence"])
    await memory.save(MEMORY, record(), fence)
    assert await redis_client.hmget(KEY, ["lock:holder", "lock:until", "lock:fence"]) == before
    assert await redis_client.ttl(KEY) == -1


@pytest.mark.parametrize("damage", ["", "{", "true", '"x"', "[[]]", "[" * 100_000, b"\xff"])
@pytest.mark.parametrize("name", ["failures", "sights", "price"])
async def test_a_damaged_field_is_forgotten_and_named(
    memory: ScaleStateStore, fence: int, redis_client: Redis, name: str, damage: str | bytes
) -> None:
    await memory.save(MEMORY, record(), fence)
    await redis_client.hset(KEY, name, damage)
    kept_as = {"sights": "observations"}.get(name, name)
    forgotten = {kept_as: getattr(ScaleState(), kept_as), "damaged": (name,)}
    assert await memory.load() == replace(MEMORY, **forgotten)


@pytest.mark.parametrize(
    "changes",
    [
        {"said": 7},
        {"since": "noon"},
        {"since": -1},
        {"since": math.nan},
        {"since": 1e20},
        {"since": True},
        {"answered": 1},
        {"silent_since": "no"},
        {"silent_since": math.inf},
    ],
)
async def test_one_damaged_sight_leaves_the_others(
    memory: ScaleStateStore, fence: int, redis_client: Redis, changes: dict[str, Any]
) -> None:
    await memory.save(MEMORY, record(), fence)
    raw = json.loads(await redis_client.hget(KEY, "sights") or b"")
    raw["w-1"] |= changes
    await redis_client.hset(KEY, "sights", json.dumps(raw))
    found = await memory.load()
    assert found.observations == {"w-2": SIGHTS["w-2"]}
    assert found.damaged == ("observation of w-1",)


@pytest.mark.parametrize("price", ["-1", "NaN", "Infinity", "true", "1e999", "1" + "0" * 400])
async def test_a_price_that_cannot_be_is_forgotten(
    memory: ScaleStateStore, redis_client: Redis, price: str
) -> None:
    await redis_client.hset(KEY, "price", price)
    assert await memory.load() == ScaleState(damaged=("price",))


async def test_a_failure_at_a_time_that_is_no_date_is_forgotten(
    memory: ScaleStateStore, redis_client: Redis
) -> None:
    await redis_client.hset(KEY, "failures", "[1e20]")
    assert await memory.load() == ScaleState(damaged=("failures",))


@pytest.mark.parametrize(
    "changes",
    [
        {"at": "now"},
        {"at": math.nan},
        {"at": 1e20},
        {"decision": None},
        {"before": 1.5},
        {"after": -1},
        {"after": True},
        {"reason": ["x"]},
        {"observed": []},
        {"observed": {"a": "x"}},
        {"observed": {"a": math.inf}},
        {"actions": {}},
        {"actions": [1]},
        {"actions": [{"a": 1.5}]},
        {"blocked": 1},
    ],
)
async def test_a_damaged_decision_is_skipped_and_counted(
    memory: ScaleStateStore, fence: int, redis_client: Redis, changes: dict[str, Any]
) -> None:
    for number in range(3):
        await memory.save(ScaleState(), record(number), fence)
    raw = json.loads(await redis_client.hget(KEY, "decision:2") or b"")
    await redis_client.hset(KEY, "decision:2", json.dumps(raw | changes))
    found = await memory.history(10)
    assert [one.reason for one in found] == ["step 0", "step 2"]
    assert found.damaged == 1


async def test_a_field_that_only_looks_like_a_decision_is_none(
    memory: ScaleStateStore, fence: int, redis_client: Redis
) -> None:
    for name in (
        "decision:",
        "decision:x",
        "decision:-1",
        "decision:" + "9" * 30,
        "decision:1:2",
        "decision:01",
    ):
        await redis_client.hset(KEY, name, "?")
    await memory.save(ScaleState(), record(), fence)
    found: Any = await memory.history(10)
    assert found == (record(),)
    assert found.damaged == 0


@settings(max_examples=50)
@given(seen=st.dictionaries(texts, sights, max_size=4), decision=records, price=st.none() | st.floats(0, 1e6))
def test_whatever_is_remembered_is_recalled_exactly(
    redis_server: Any, seen: dict[str, WorkerObservation], decision: StepRecord, price: float | None
) -> None:
    async def round_trip() -> None:
        async with connect(RedisConfig(), socket=redis_server.socket) as client:
            held = await Lease(client, FleetKeys("round-trip").scale, holder="me").take()
            assert held is not None
            there = ScaleStateStore(client, "round-trip")
            assert await there.save(ScaleState((), seen, price), decision, held)
            assert await there.load() == ScaleState((), seen, price)
            assert await there.history(1) == (decision,)

    asyncio.run(round_trip())


@settings(max_examples=100)
@given(raw=st.binary(max_size=50) | json_values.map(json.dumps))
def test_whatever_lies_in_redis_is_read(redis_server: Any, raw: bytes | str) -> None:
    async def read() -> None:
        async with connect(RedisConfig(), socket=redis_server.socket) as client:
            names = ("failures", "sights", "price", "decision:1", "decisions")
            await client.hset(FleetKeys("wild").scale, mapping=dict.fromkeys(names, raw))
            there = ScaleStateStore(client, "wild")
            memory, past = await there.load(), await there.history(5)
            assert len(past) + past.damaged == 1
            assert all(at >= 0 and math.isfinite(at) for at in memory.failures)
            assert memory.price is None or (memory.price >= 0 and math.isfinite(memory.price))

    asyncio.run(read())


async def test_something_else_under_the_key_is_a_store_error(
    memory: ScaleStateStore, redis_client: Redis
) -> None:
    await redis_client.set(KEY, "mine")
    for question in (memory.load(), memory.history(1), memory.save(ScaleState(), record(), 1)):
        with pytest.raises(StoreRefused):
            await question


async def test_a_redis_that_is_away_is_a_store_error(refusing_port: int) -> None:
    async with connect(RedisConfig(host="127.0.0.1", port=refusing_port, timeout=0.5)) as client:
        memory = ScaleStateStore(client, "test")
        for question in (memory.load(), memory.history(1), memory.save(ScaleState(), record(), 1)):
            with pytest.raises(StoreUnavailable):
                await question
