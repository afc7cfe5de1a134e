"""What processes count in Redis of what they ask, and what the autoscaler reads of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from doubles.clock import ManualClock
from doubles.fleet_values import ORIGIN
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.config.models import RedisConfig
from llmhost.engines.load import Full, Slot, Ticket
from llmhost.engines.redis_traffic import RedisLoad, RedisTraffic
from llmhost.engines.traffic import BUCKET, KEPT, Traffic, Work, WorkerTraffic
from llmhost.errors import StoreRefused, StoreUnavailable
from llmhost.fleet.registry import FleetRegistry
from llmhost.store.client import connect

TRAFFIC = "llmhost:test:traffic"
SPEED = "llmhost:test:speed:a"
DRAINING = "llmhost:test:draining"
PLACES = 4

#: answers; as many make a measurement
ENOUGH = 3


@pytest.fixture
def load(redis_client):
    return RedisLoad(redis_client, "test", 60, places=PLACES)


@pytest.fixture
def traffic(redis_client):
    return RedisTraffic(redis_client, "test", PLACES)


@pytest.fixture
async def other_client(redis_server):
    """As another process has it."""
    client = connect(RedisConfig(), socket=redis_server.socket)
    yield client
    await client.aclose()


async def bucket_now(client):
    seconds, _ = await client.time()
    return seconds // BUCKET * BUCKET


async def sums(traffic):
    """Questions, answers and tokens, whenever they were counted."""
    read = await traffic.read([])
    return tuple(sum(counts.values()) for counts in (read.asked, read.answered, read.tokens))


async def answer(load, work, *, beside=0, worker="a"):
    """One whole answer, while the worker has `beside` other questions."""
    others = [await load.acquire([worker]) for _ in range(beside)]
    await load.release(await load.acquire([worker]), work)
    for slot in others:
        await load.release(slot)


# Questions, answers and tokens


async def test_at_first_there_is_nothing_and_it_is_watched_from_now_on(traffic):
    before = time.time()
    read = await traffic.read(["a"])
    assert read == Traffic(at=read.at, since=read.since, workers={"a": WorkerTraffic()})
    assert read.since == pytest.approx(read.at, abs=1e-3)
    assert before - 1 <= read.at <= time.time() + 1
    assert (await traffic.read([])).since == read.since


async def test_a_question_is_counted_in_the_bucket_in_which_it_was_asked(load, traffic, redis_client):
    before = await bucket_now(redis_client)
    await load.acquire(["a"])
    read = await traffic.read([])
    ((bucket, count),) = read.asked.items()
    assert (bucket in {before, before + BUCKET}, count) == (True, 1)


async def test_the_counts_of_several_processes_add_up(load, traffic, other_client):
    other = RedisLoad(other_client, "test", 60, places=PLACES)
    await asyncio.gather(*(answer(each, Work(10, 1.0)) for each in [load, other] * 5))
    assert await sums(traffic) == (10, 10, 100)


async def test_a_question_that_another_worker_is_asked_is_counted_once(load, traffic):
    await load.release(await load.acquire(["a", "b"]))
    await load.release(await load.acquire(["b"], again=True), Work(10, 1.0))
    assert await sums(traffic) == (1, 1, 10)


async def test_a_question_that_was_rejected_is_counted(load, traffic):
    await load.record_rejected()
    assert await sums(traffic) == (1, 0, 0)


async def test_a_question_that_met_only_draining_workers_is_counted(load, traffic):
    await traffic.drain(["a"])
    assert await load.acquire(["a"]) is None
    assert await sums(traffic) == (1, 0, 0)


async def test_an_answer_is_counted_once_however_often_its_slot_is_given_back(load, traffic):
    slot = await load.acquire(["a"])
    for _ in range(3):
        await load.release(slot, Work(10, 1.0))
    assert await sums(traffic) == (1, 1, 10)


@pytest.mark.parametrize(
    "work",
    [
        Work(-1, 1.0),
        Work(10**7 + 1, 1.0),
        Work(10, 0.0),
        Work(10, -1.0),
        Work(10, float("nan")),
        Work(10, float("inf")),
    ],
)
async def test_work_that_cannot_be_is_not_counted_and_the_slot_is_free(load, traffic, work):
    await answer(load, work)
    read = await traffic.read(["a"])
    assert (await sums(traffic), read.workers["a"]) == ((1, 0, 0), WorkerTraffic())


async def test_none_of_the_keys_has_a_lifetime_so_nothing_evicts_them(load, traffic, redis_client):
    await answer(load, Work(10, 1.0))
    await load.acquire(["a"])
    await traffic.drain(["b"])
    lifetimes = {key.decode(): await redis_client.ttl(key) for key in await redis_client.keys()}
    assert lifetimes == {TRAFFIC: -1, SPEED: -1, DRAINING: -1, "llmhost:test:load:a": -1}


async def test_counts_that_somebody_spoilt_keep_no_question_from_its_worker(load, redis_client):
    await redis_client.set(TRAFFIC, "no hash")
    slots = [await load.acquire(["a", "b"]) for _ in range(2)]
    assert [slot.worker for slot in slots] == ["a", "b"]
    assert await redis_client.zcard("llmhost:test:load:b") == 1
    await load.release(slots[1], Work(10, 1.0))
    assert await redis_client.zcard("llmhost:test:load:b") == 0


# Time


async def test_counts_that_were_lost_are_counted_from_then_on(load, traffic, redis_client):
    now = await bucket_now(redis_client)
    await redis_client.hset(TRAFFIC, mapping={"since": now - 500, f"asked:{now - 60}": 7})
    assert (await traffic.read([])).since == now - 500
    await redis_client.delete(TRAFFIC)
    await load.acquire(["a"])
    read = await traffic.read([])
    assert (read.since >= now, sum(read.asked.values())) == (True, 1)


@pytest.mark.parametrize("by", ["question", "read"])
async def test_old_buckets_are_dropped(load, traffic, redis_client, by):
    now = await bucket_now(redis_client)
    old, young = now - KEPT - BUCKET, now - KEPT + 10 * BUCKET
    for bucket in (old, young):
        await redis_client.hset(TRAFFIC, mapping={f"{what}:{bucket}": 3 for what in ("asked", "tokens")})
    await (load.record_rejected() if by == "question" else traffic.read([]))
    left = {name.decode() for name in await redis_client.hkeys(TRAFFIC)}
    assert left - {"since"} - {f"asked:{now}", f"asked:{now + BUCKET}"} == {
        f"asked:{young}",
        f"tokens:{young}",
    }


async def test_a_clock_that_was_put_back_begins_anew(load, traffic, redis_client):
    now = await bucket_now(redis_client)
    ahead = now + 3600
    counts = {f"{what}:{ahead}": 9 for what in ("asked", "answered", "tokens")}
    await redis_client.hset(TRAFFIC, mapping={"since": now - 5000, f"asked:{now - 60}": 2, **counts})
    read = await traffic.read([])
    assert (read.asked, read.answered, read.tokens) == ({now - 60: 2}, {}, {})
    assert read.since == pytest.approx(read.at, abs=1e-3)
    assert (await traffic.read([])).since == read.since


async def test_a_clock_that_was_put_right_by_seconds_changes_nothing(traffic, redis_client):
    now = await bucket_now(redis_client)
    await redis_client.hset(TRAFFIC, mapping={"since": now - 500, f"asked:{now + 2 * BUCKET}": 2})
    read = await traffic.read([])
    assert (read.since, read.asked) == (now - 500, {now + 2 * BUCKET: 2})


# Workers


async def test_the_questions_of_all_processes_are_in_flight(load, traffic, other_client):
    for each in (load, load, RedisLoad(other_client, "test", 60)):
        await each.acquire(["a"])
    read = await traffic.read(["a", "b"])
    assert {name: worker.in_flight for name, worker in read.workers.items()} == {"a": 3, "b": 0}
    assert await traffic.in_flight(["b", "a"]) == {"a": 3, "b": 0}
    assert await traffic.in_flight([]) == {}


async def test_the_question_of_a_process_that_died_is_in_flight_until_its_time_is_over(
    load, traffic, redis_client
):
    await load.acquire(["a"])
    seconds, _ = await redis_client.time()
    await redis_client.zadd("llmhost:test:load:a", {"dead": seconds - 1})
    assert await traffic.in_flight(["a"]) == {"a": 1}
    assert (await traffic.read(["a"])).workers["a"].in_flight == 1
    assert await redis_client.zcard("llmhost:test:load:a") == 1


async def test_the_slot_of_a_request_that_gave_up_is_free_although_the_reply_that_gave_it_was_lost(
    redis_client, monkeypatch
):
    clock = ManualClock()
    load = RedisLoad(redis_client, "test", 60, clock=clock.monotonic)
    take = load._acquire

    async def lose_reply(keys, arguments):
        await take(keys, arguments)
        raise StoreUnavailable("the connection was lost")

    monkeypatch.setattr(load, "_acquire", lose_reply)
    without_redis, ticket = await load.acquire(["a"]), Ticket(30)
    await clock.sleep(60)  # then Redis is asked again
    assert isinstance(await load.acquire_or_wait(["a"], ticket), Full)
    await load.give_up(ticket)
    await load.release(without_redis)
    monkeypatch.setattr(load, "_acquire", take)
    await clock.sleep(60)
    assert isinstance(await load.acquire_or_wait(["a"], Ticket(30)), Slot)


async def test_who_waited_while_redis_was_away_is_in_nobody_s_way_when_it_is_away_again(
    redis_client, monkeypatch
):
    clock = ManualClock()
    load = RedisLoad(redis_client, "test", 60, clock=clock.monotonic)
    take = load._acquire

    async def be_away(keys, arguments):
        raise StoreUnavailable("Redis is away")

    monkeypatch.setattr(load, "_acquire", be_away)
    without_redis, ticket = await load.acquire(["a"]), Ticket(30)
    assert [await load.acquire_or_wait(["a"], ticket) for _ in range(2)] == [Full(1)] * 2
    await load.release(without_redis)
    monkeypatch.setattr(load, "_acquire", take)
    await clock.sleep(60)
    shared = await load.acquire_or_wait(["a"], ticket)
    assert isinstance(shared, Slot)
    await load.release(shared)
    monkeypatch.setattr(load, "_acquire", be_away)
    assert isinstance(await load.acquire_or_wait(["a"], Ticket(30)), Slot)


async def test_a_request_that_is_cut_off_while_it_asks_for_a_slot_is_waited_for_no_more(
    load, traffic, monkeypatch
):
    take, asked, go = load._acquire, asyncio.Event(), asyncio.Event()

    async def reply_late(keys, arguments):
        found = await take(keys, arguments)
        asked.set()
        await go.wait()
        return found

    for _ in range(PLACES):
        await load.acquire(["a"])
    monkeypatch.setattr(load, "_acquire", reply_late)
    asking = asyncio.create_task(load.acquire_or_wait(["a"], Ticket(30)))
    await asked.wait()
    asking.cancel()
    go.set()
    await asyncio.wait([asking])
    assert (asking.cancelled(), (await traffic.read(["a"])).waiting) == (True, 0)


async def test_a_worker_delivers_what_all_its_places_do_together(load, traffic):
    for _ in range(ENOUGH):
        await answer(load, Work(100, 10.0), beside=PLACES - 1)
    assert (await traffic.read(["a"])).workers["a"].tokens_per_s == pytest.approx(40.0)


async def test_what_was_measured_at_its_fullest_counts(load, traffic):
    for beside, tokens in ((0, 1000), (2, 200), (1, 500)):
        for _ in range(ENOUGH):
            await answer(load, Work(tokens, 10.0), beside=beside)
    assert (await traffic.read(["a"])).workers["a"].tokens_per_s == pytest.approx(20.0 * PLACES)


async def test_what_a_gpu_delivers_of_a_model_is_known_after_its_worker_is_gone(load, traffic, redis_client):
    registry = FleetRegistry(redis_client, "test", ORIGIN)
    for tokens, gpu, model in ((100, "RTX 4090", "tiny"), (900, "H100", "tiny"), (5, "RTX 4090", "large")):
        for _ in range(ENOUGH):
            await answer(load, Work(tokens, 10.0, model, gpu), beside=PLACES - 1)
    await traffic.forget("a")
    speeds = await registry.speeds("tiny", ["RTX 4090", "H100", "A100"], PLACES)
    assert speeds == {"RTX 4090": pytest.approx(40.0), "H100": pytest.approx(360.0)}


async def test_a_damaged_measurement_of_a_gpu_counts_as_none(load, redis_client):
    registry = FleetRegistry(redis_client, "test", ORIGIN)
    await redis_client.hset("llmhost:test:gpu:H100:tiny", mapping={"answers:4": 9, "seconds:4": "long"})
    assert await registry.speeds("tiny", ["H100"], PLACES) == {}


async def test_one_answer_alone_measures_nothing(load, traffic):
    await answer(load, Work(100, 10.0))
    assert (await traffic.read(["a"])).workers["a"].tokens_per_s is None


async def test_few_answers_at_its_fullest_do_not_hide_many_below(load, traffic):
    for _ in range(ENOUGH):
        await answer(load, Work(100, 10.0))
    await answer(load, Work(1, 10.0), beside=1)
    assert (await traffic.read(["a"])).workers["a"].tokens_per_s == pytest.approx(10.0 * PLACES)


async def test_an_answer_that_waited_for_a_place_says_only_that_the_worker_lives(load, traffic, redis_client):
    seconds, _ = await redis_client.time()
    for _ in range(ENOUGH):
        await answer(load, Work(100, 10.0), beside=PLACES)
    worker = (await traffic.read(["a"])).workers["a"]
    assert (worker.tokens_per_s, worker.last_answer >= seconds) == (None, True)
    assert await sums(traffic) == ((PLACES + 1) * ENOUGH, ENOUGH, 100 * ENOUGH)


async def test_what_a_worker_did_long_ago_is_forgotten(load, traffic):
    for tokens, answers in ((10, 20), (1000, 100)):
        for _ in range(answers):
            await answer(load, Work(tokens, 10.0))
    assert (await traffic.read(["a"])).workers["a"].tokens_per_s == pytest.approx(100 * PLACES, rel=0.02)


async def test_speeds_of_more_places_than_there_are_now_do_not_count(load, redis_client):
    for beside, tokens in ((0, 100), (PLACES - 1, 10)):
        for _ in range(ENOUGH):
            await answer(load, Work(tokens, 10.0), beside=beside)
    read = await RedisTraffic(redis_client, "test", 1).read(["a"])
    assert read.workers["a"].tokens_per_s == pytest.approx(10.0)


@pytest.mark.parametrize("spoilt", ["nan", "inf", "-5", "fast"])
async def test_a_speed_that_somebody_spoilt_mends_itself(load, traffic, redis_client, spoilt):
    await redis_client.hset(SPEED, mapping={f"{what}:1": spoilt for what in ("answers", "tokens", "seconds")})
    for _ in range(ENOUGH):
        await answer(load, Work(100, 10.0))
    assert (await traffic.read(["a"])).workers["a"].tokens_per_s == pytest.approx(10.0 * PLACES)


# Draining


async def test_a_draining_worker_is_given_no_more_questions_until_it_is_revived(load, traffic):
    await traffic.drain(["a", "c"])
    assert {(await load.acquire(["a", "b", "c"])).worker for _ in range(5)} == {"b"}
    assert (await traffic.read([])).draining == {"a", "c"}
    await traffic.revive(["a", "never"])
    assert (await load.acquire(["a", "b", "c"])).worker == "a"
    assert (await traffic.read([])).draining == {"c"}


async def test_asking_nobody_to_drain_is_fine(traffic):
    await traffic.drain([])
    await traffic.revive([])
    assert (await traffic.read([])).draining == frozenset()


async def test_the_questions_of_a_draining_worker_only_become_fewer(load, traffic, other_client):
    loads = [load, RedisLoad(other_client, "test", 60)] * 10

    async def drained():
        await traffic.drain(["a"])
        return (await traffic.in_flight(["a"]))["a"]

    def asking():
        return [each.acquire(["a", "b"]) for each in loads]

    before = await asyncio.gather(*asking())
    *meanwhile, left, _ = await asyncio.gather(*asking(), drained(), asyncio.gather(*asking()))
    held = before + meanwhile
    assert left == (await traffic.in_flight(["a"]))["a"] >= len(before) // 2
    assert {slot.worker for slot in await asyncio.gather(*asking())} == {"b"}
    for slot in held:
        await load.release(slot)
    assert (await traffic.in_flight(["a"]))["a"] == left - sum(slot.worker == "a" for slot in held)


# Which of several workers


async def test_questions_one_after_the_other_are_spread_over_all_workers(load, other_client):
    loads, asked = [load, RedisLoad(other_client, "test", 60)], Counter[str]()
    for number in range(20):
        slot = await loads[number % 2].acquire(["a", "b", "c"])
        asked[slot.worker] += 1
        await loads[number % 2].release(slot, Work(10, 1.0))
    assert sorted(asked.values()) == [6, 7, 7]


async def test_a_free_worker_is_preferred_to_one_that_was_asked_longer_ago(load):
    first = await load.acquire(["a", "b"])
    second = await load.acquire(["a", "b"])
    assert {first.worker, second.worker} == {"a", "b"}
    await load.release(second)
    assert (await load.acquire(["a", "b"])).worker == second.worker


async def test_what_says_whose_turn_it_is_goes_with_its_worker(load, traffic, redis_client):
    await load.release(await load.acquire(["a"]))
    await traffic.forget("a")
    assert await redis_client.hkeys(TRAFFIC) != []
    assert not await redis_client.hexists(TRAFFIC, "turn:a")


@pytest.mark.parametrize("value", ["many", "nan", ""])
async def test_a_damaged_turn_keeps_no_question_from_its_worker(load, redis_client, value):
    await redis_client.hset(TRAFFIC, mapping={"turns": value, "turn:a": value})
    assert (await load.acquire(["a", "b"])).worker in {"a", "b"}


# What cannot be read


@pytest.mark.parametrize("value", ["many", "nan", "inf", "-3", "", "1e999"])
@pytest.mark.parametrize("field", ["since", "asked:{now}", "answered:{now}", "tokens:{now}"])
async def test_a_count_that_is_none_is_refused_by_its_name(traffic, redis_client, field, value):
    name = field.format(now=await bucket_now(redis_client))
    await redis_client.hset(TRAFFIC, name, value)
    with pytest.raises(StoreRefused) as caught:
        await traffic.read([])
    assert (TRAFFIC in caught.value.message, name in caught.value.message) == (True, True)
    assert TRAFFIC in caught.value.hint


@pytest.mark.parametrize("field", ["asked:soon", "asked:", "asked", "tokens:-5", "answered:1.5"])
async def test_a_bucket_that_has_no_time_is_refused(traffic, redis_client, field):
    await redis_client.hset(TRAFFIC, field, 1)
    with pytest.raises(StoreRefused, match=f"{TRAFFIC} .*{field!r}"):
        await traffic.read([])


@pytest.mark.parametrize(
    "fields",
    [
        {"tokens:1": "fast"},
        {"at": "nan"},
        {"answers:2": "-1"},
        {"answers:2": 5, "tokens:2": 5},
        {"answers:2": 5, "tokens:2": 5, "seconds:2": 0},
    ],
)
async def test_a_speed_that_is_none_is_refused_by_its_name(traffic, redis_client, fields):
    await redis_client.hset(SPEED, mapping=fields)
    with pytest.raises(StoreRefused, match=SPEED):
        await traffic.read(["b", "a"])


@pytest.mark.parametrize("key", [TRAFFIC, SPEED, DRAINING, "llmhost:test:load:a"])
async def test_a_key_that_holds_something_else_is_a_store_error(traffic, redis_client, key):
    await redis_client.set(key, "something else")
    with pytest.raises(StoreRefused):
        await traffic.read(["a"])


async def test_redis_being_away_is_a_store_error(refusing_port):
    client = connect(RedisConfig(host="127.0.0.1", port=refusing_port))
    traffic = RedisTraffic(client, "test", PLACES)
    for action in (traffic.read, traffic.drain, traffic.revive, traffic.in_flight):
        with pytest.raises(StoreUnavailable):
            await action(["a"])
    await client.aclose()


@settings(max_examples=25)
@given(steps=st.lists(st.sampled_from(["ask", "answer", "break", "drain", "revive"]), max_size=25))
def test_whatever_happens_the_counts_are_those_of_a_plain_book(redis_server, steps):
    async def play():
        client = connect(RedisConfig(), socket=redis_server.socket)
        await client.flushdb()
        load, traffic = RedisLoad(client, "test", 60, places=PLACES), RedisTraffic(client, "test", PLACES)
        held, asked, answered, draining = [], 0, 0, False
        for step in steps:
            if step == "ask":
                asked += 1
                slot = await load.acquire(["a"])
                assert (slot is None) == draining
                if slot is not None:
                    held.append(slot)
                    assert slot.load == len(held)
            elif step in {"answer", "break"} and held:
                await load.release(held.pop(), Work(5, 1.0) if step == "answer" else None)
                answered += step == "answer"
            elif step in {"drain", "revive"}:
                draining = step == "drain"
                await (traffic.drain(["a"]) if draining else traffic.revive(["a"]))
        found = await sums(traffic), (await traffic.in_flight(["a"]))["a"]
        await client.aclose()
        return found, ((asked, answered, 5 * answered), len(held))

    found, expected = asyncio.run(play())
    assert found == expected
