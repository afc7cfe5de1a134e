"""The ledger in a real Redis."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.config.models import RedisConfig
from llmhost.errors import StoreRefused, StoreUnavailable
from llmhost.ledger.buckets import HOUR, Bucket, percentile
from llmhost.ledger.events import Outcome, QuestionEvent, engine_event
from llmhost.ledger.ledger import Ledger, boot_seconds, learned_boot
from llmhost.store.client import connect
from llmhost.store.keys import FleetKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOW = 1_700_000_000.0
MISS = QuestionEvent(NOW, Outcome.MISS, 3_000.0, 10, 20, 2.5, cost_usd=0.001)
HIT = QuestionEvent(NOW, Outcome.SEMANTIC, 40.0, saved_usd=0.001, user_ms=400.0)


@pytest.fixture
def ledger(redis_client: Redis) -> Ledger:
    return Ledger(redis_client, "fleet")


async def test_events_add_up(ledger: Ledger) -> None:
    for event in (MISS, MISS, HIT):
        await ledger.record(event)
    totals = await ledger.totals(NOW - 3600, NOW)
    assert totals.outcomes == {Outcome.MISS: 2, Outcome.SEMANTIC: 1}
    assert (totals.prompt_tokens, totals.completion_tokens, totals.engine_seconds) == (20, 40, 5.0)
    assert (totals.cost_usd, totals.saved_usd) == (pytest.approx(0.002), pytest.approx(0.001))


async def test_events_that_are_recorded_together_count_as_those_recorded_one_by_one(
    ledger: Ledger, redis_client: Redis
) -> None:
    alone = Ledger(redis_client, "alone")
    events = [MISS, MISS, HIT, replace(HIT, at=NOW - 60), replace(MISS, shadow="exact")]
    await ledger.record(*events)
    for event in events:
        await alone.record(event)
    for since in (NOW - 60, NOW):
        assert await ledger.totals(since, NOW) == await alone.totals(since, NOW)


async def test_latencies_of_hits_and_misses_are_told_apart(ledger: Ledger) -> None:
    for event in (MISS, HIT, replace(HIT, outcome=Outcome.BYPASS), replace(HIT, outcome=Outcome.ERROR)):
        await ledger.record(event)
    totals = await ledger.totals(NOW - 3600, NOW)
    assert percentile(totals.hit_ms, 0.5) == pytest.approx(40.0, rel=0.05)
    assert percentile(totals.miss_ms, 0.5) == pytest.approx(3_000.0, rel=0.05)
    assert (sum(totals.hit_ms.values()), sum(totals.miss_ms.values())) == (1, 1)
    assert percentile(totals.hit_user_ms, 0.5) == pytest.approx(400.0, rel=0.05)
    assert totals.miss_user_ms == {}  # of own work, which no user waits for


@pytest.mark.parametrize("back", [60, 3_600, 86_400, 10 * 86_400, 100 * 86_400])
async def test_an_event_is_counted_once_however_far_one_looks_back(ledger: Ledger, back: int) -> None:
    await ledger.record(MISS)
    assert (await ledger.totals(NOW - back, NOW)).requests == 1


async def test_a_series_has_the_sums_of_each_stretch(ledger: Ledger) -> None:
    start = int(NOW // 3600) * 3600
    for at in (start, start + 3599, start + 7200):
        await ledger.record(replace(HIT, at=float(at)))
    hours = [Bucket(HOUR, start + number * 3600) for number in range(4)]
    series = await ledger.series([hours[:2], hours[2:3], hours[3:]])
    assert [totals.requests for totals in series] == [2, 1, 0]
    assert percentile(series[1].hit_user_ms, 0.5) == pytest.approx(400, rel=0.05)


async def test_what_was_before_is_not_counted(ledger: Ledger) -> None:
    await ledger.record(MISS)
    assert (await ledger.totals(NOW + 120, NOW + 3_600)).requests == 0


async def test_fleets_keep_ledgers_of_their_own(ledger: Ledger, redis_client: Redis) -> None:
    await ledger.record(MISS)
    assert (await Ledger(redis_client, "other").totals(NOW - 60, NOW)).requests == 0


@pytest.mark.parametrize(
    ("days", "left"),
    [(1, {"minute", "hour", "day"}), (3, {"hour", "day"}), (61, {"day"}), (402, set())],
)
async def test_old_sums_go_when_new_ones_come(
    ledger: Ledger, redis_client: Redis, days: int, left: set[str]
) -> None:
    await ledger.record(MISS)
    before: set[Any] = set(await redis_client.keys("llmhost:fleet:ledger:*:*"))
    await ledger.record(replace(MISS, at=NOW + days * 86_400))
    stayed = before & set(await redis_client.keys("llmhost:fleet:ledger:*:*"))
    assert {key.split(b":")[3].decode() for key in stayed} == left


async def test_a_full_redis_can_evict_nothing_of_the_ledger(ledger: Ledger, redis_client: Redis) -> None:
    await ledger.record(MISS)
    await ledger.observed("w", 0.5, 100.0, 100.0)
    lifetimes = {await redis_client.ttl(key) for key in await redis_client.keys("llmhost:*")}
    assert lifetimes == {-1}


async def test_an_amount_that_is_none_is_refused(ledger: Ledger, redis_client: Redis) -> None:
    await ledger.record(MISS)
    (key,) = await redis_client.keys("llmhost:fleet:ledger:minute:*")
    for damage in ("nan", "-1", "much"):
        await redis_client.hset(key, "cost_usd", damage)
        with pytest.raises(StoreRefused, match="no amount"):
            await ledger.totals(NOW, NOW)


# How long workers took to boot: what Redis keeps of it, and what is learned from it


KEY = "llmhost:fleet:ledger:boots"


async def test_boots_are_told_newest_last(ledger: Ledger) -> None:
    for worker, seconds in (("a", 120.5), ("b", 0.0), ("c", 1 / 3)):
        await ledger.booted(worker, seconds)
    assert await ledger.boot_times() == [120.5, 0.0, 1 / 3]


async def test_a_worker_boots_once(ledger: Ledger) -> None:
    await ledger.booted("a", 100.0)
    await ledger.booted("a", 900.0)
    await asyncio.gather(*(ledger.booted("b", 50.0) for _ in range(5)))
    assert await ledger.boot_times() == [100.0, 50.0]


async def test_the_newest_fifty_are_kept(ledger: Ledger) -> None:
    for number in range(60):
        await ledger.booted(f"w-{number}", float(number))
    assert await ledger.boot_times() == [float(number) for number in range(10, 60)]


async def test_what_is_kept_says_who_and_when_and_is_never_evicted(
    ledger: Ledger, redis_client: Redis
) -> None:
    await ledger.booted('w-"ä"', 12.5)
    (raw,) = await redis_client.lrange(KEY, 0, -1)
    kept = json.loads(raw)
    seconds, _ = await redis_client.time()
    assert (kept["worker"], kept["seconds"]) == ('w-"ä"', 12.5)
    assert abs(kept["at"] - seconds) < 60
    assert await redis_client.ttl(KEY) == -1


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 86_401.0])
async def test_what_cannot_be_is_not_written_down(ledger: Ledger, seconds: float) -> None:
    await ledger.booted("a", seconds)
    assert await ledger.boot_times() == []


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "7", "null", '{"seconds": null}', '{"seconds": "x"}', '{"seconds": -1}']
)
async def test_a_damaged_record_is_skipped(ledger: Ledger, redis_client: Redis, damage: str) -> None:
    await redis_client.rpush(KEY, damage)
    await ledger.booted("a", 60.0)
    assert await ledger.boot_times() == [60.0]


async def test_something_else_under_the_key_is_a_store_error(ledger: Ledger, redis_client: Redis) -> None:
    await redis_client.set(KEY, "mine")
    with pytest.raises(StoreRefused):
        await ledger.boot_times()
    with pytest.raises(StoreRefused):
        await ledger.booted("a", 1.0)


async def test_a_redis_that_is_away_is_a_store_error(refusing_port: int) -> None:
    async with connect(RedisConfig(host="127.0.0.1", port=refusing_port, timeout=0.5)) as client:
        with pytest.raises(StoreUnavailable):
            await Ledger(client, "fleet").boot_times()
        with pytest.raises(StoreUnavailable):
            await Ledger(client, "fleet").booted("a", 1.0)


@pytest.mark.parametrize(
    ("times", "learned"),
    [
        ([], None),
        ([90.0], 90.0),
        ([90.0, 100.0], 100.0),
        ([100.0, 110.0, 120.0, 3600.0], 120.0),
        ([float(n) for n in range(1, 21)], 15.0),
        ([5000.0] * 30 + [100.0] * 20, 100.0),
        ([100.0] * 15 + [3600.0] * 5, 100.0),
    ],
)
def test_three_in_four_of_the_newest_are_as_quick(times: list[float], learned: float | None) -> None:
    assert learned_boot(times) == learned


@given(st.lists(st.floats(0, 86_400), min_size=1, max_size=60))
def test_what_is_learned_was_seen_and_a_quarter_at_most_took_longer(times: list[float]) -> None:
    newest, learned = times[-20:], learned_boot(times)
    assert learned in newest
    assert sum(seconds > learned for seconds in newest) <= len(newest) / 4


@given(st.binary() | st.text() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_whatever_lies_in_redis_is_a_sound_number_or_none(raw: bytes | str) -> None:
    assert boot_seconds(raw) is None


@given(st.floats() | st.integers() | st.booleans() | st.text())
def test_whatever_a_record_says_is_a_sound_number_or_none(seconds: object) -> None:
    found = boot_seconds(json.dumps({"seconds": seconds}))
    assert found is None or 0 <= found <= 86_400


class Work:
    """What an engine's answer took."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.prompt_tokens, self.completion_tokens = 10, 20
        self.engine_seconds, self.cost_usd = 2.5, 0.001


async def test_what_happened_is_told_apart_by_worker_tenant_model_and_step(ledger: Ledger) -> None:
    engine = engine_event(NOW, Outcome.MISS, 3_000.0, [Work("w-1"), Work("w-1"), Work("")])
    asked = replace(engine, tenant="a:b", model="qwen2:7b", served_completion_tokens=20)
    await ledger.record(replace(asked, steps={"embed": 12.0, "engine": 2_500.0}))
    await ledger.record(replace(HIT, tenant="a:b", model="qwen2:7b", served_completion_tokens=20))
    totals = await ledger.totals(NOW - 60, NOW)
    assert totals.by["worker"]["w-1"] == pytest.approx(
        {
            "answers": 2,
            "prompt_tokens": 20,
            "completion_tokens": 40,
            "engine_seconds": 5.0,
            "cost_usd": 0.002,
        }
    )
    expected = {
        "miss": 1,
        "semantic": 1,
        "served_completion_tokens": 40,
        "cost_usd": 0.003,
        "saved_usd": 0.001,
    }
    assert totals.by["tenant"] == {"a:b": pytest.approx(expected)}
    assert totals.by["model"] == {"qwen2:7b": pytest.approx(expected)}
    assert percentile(totals.steps["embed"], 0.5) == pytest.approx(12.0, rel=0.05)
    assert set(totals.steps) == {"embed", "engine"}
    assert totals.served_completion_tokens == 40


async def test_the_first_question_is_known_as_exactly_as_it_is_kept(ledger: Ledger) -> None:
    assert await ledger.first() is None
    await ledger.record(replace(HIT, at=NOW - 3_600.0))
    await ledger.record(HIT)
    assert await ledger.first() == (NOW - 3_600) // 60 * 60
    await ledger.record(replace(HIT, at=NOW - 100 * 86_400.0))
    assert await ledger.first() == (NOW - 100 * 86_400) // 60 * 60


async def test_what_another_program_put_among_the_periods_is_left_out(
    ledger: Ledger, redis_client: Redis
) -> None:
    await ledger.record(MISS)
    await redis_client.zadd(FleetKeys("fleet").ledger_periods, {"odd": 1, "llmhost:fleet:day:soon": 2})
    assert await ledger.first() == NOW // 60 * 60
