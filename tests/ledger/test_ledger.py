"""The ledger in a real Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from llmhost.errors import StoreRefused
from llmhost.ledger.buckets import percentile
from llmhost.ledger.events import Outcome, QuestionEvent
from llmhost.ledger.ledger import Ledger

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOW = 1_700_000_000.0
MISS = QuestionEvent(NOW, Outcome.MISS, 3_000.0, 10, 20, 2.5, cost_usd=0.001)
HIT = QuestionEvent(NOW, Outcome.SEMANTIC, 40.0, saved_usd=0.001)


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


async def test_latencies_of_hits_and_misses_are_told_apart(ledger: Ledger) -> None:
    for event in (MISS, HIT, replace(HIT, outcome=Outcome.BYPASS), replace(HIT, outcome=Outcome.ERROR)):
        await ledger.record(event)
    totals = await ledger.totals(NOW - 3600, NOW)
    assert percentile(totals.hit_ms, 0.5) == pytest.approx(40.0, rel=0.05)
    assert percentile(totals.miss_ms, 0.5) == pytest.approx(3_000.0, rel=0.05)
    assert (sum(totals.hit_ms.values()), sum(totals.miss_ms.values())) == (1, 1)


@pytest.mark.parametrize("back", [60, 3_600, 86_400, 10 * 86_400, 100 * 86_400])
async def test_an_event_is_counted_once_however_far_one_looks_back(ledger: Ledger, back: int) -> None:
    await ledger.record(MISS)
    assert (await ledger.totals(NOW - back, NOW)).requests == 1


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
    before = set(await redis_client.keys("llmhost:fleet:ledger:*:*"))
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
