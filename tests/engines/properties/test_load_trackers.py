"""Requests in flight, counted in this process and in Redis: the same promises."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest
from doubles.clock import ManualClock
from doubles.waiting import until
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.config.models import RedisConfig
from llmhost.engines import redis_traffic
from llmhost.engines.load import Full, LocalLoad, Slot, Ticket, new_request
from llmhost.engines.redis_traffic import RedisLoad, RedisTraffic
from llmhost.engines.routing import preference
from llmhost.engines.traffic import Work
from llmhost.store import connections
from llmhost.store.client import connect

SLOTS = 2


@pytest.fixture(params=["local", "redis"])
def load(request):
    if request.param == "local":
        return LocalLoad(SLOTS)
    return RedisLoad(request.getfixturevalue("redis_client"), "test", lifetime=60, places=SLOTS)


async def test_the_first_of_idle_workers_is_taken(load):
    assert (await load.acquire(["b", "a", "c"])).worker == "b"


async def test_the_least_loaded_worker_is_taken(load):
    for worker in ("a", "a", "b", "c", "c"):
        await load.acquire([worker])
    assert (await load.acquire(["a", "b", "c"])).worker == "b"


async def test_a_slot_given_back_no_longer_counts(load):
    slot = await load.acquire(["a"])
    await load.release(slot)
    assert (await load.acquire(["a"])).load == 1


async def test_giving_a_slot_back_twice_frees_only_that_one(load):
    first, _ = await load.acquire(["a"]), await load.acquire(["a"])
    await load.acquire(["b"])
    await load.release(first)
    await load.release(first)
    await load.acquire(["a"])
    assert (await load.acquire(["a", "b"])).worker == "b"


async def test_those_who_ask_at_once_are_spread_evenly(load):
    slots = await asyncio.gather(*(load.acquire(["a", "b", "c"]) for _ in range(12)))
    assert Counter(slot.worker for slot in slots) == {"a": 4, "b": 4, "c": 4}


async def test_a_worker_with_one_long_request_is_left_for_one_with_several_short_ones(load):
    tokens = [9000, 800, 800, 800]
    slots = [await load.acquire(["a", "b"], tokens=some) for some in tokens]
    assert [slot.worker for slot in slots] == ["a", "b", "b", "b"]
    await load.release(slots[0])
    waiting = Ticket(60, new_request(9000))
    assert (await load.acquire_or_wait(["a", "b"], waiting)).worker == "a"


async def test_a_slot_says_how_many_its_worker_has(load):
    slots = [await load.acquire(["a"]) for _ in range(3)]
    await load.release(slots[0])
    assert [slot.load for slot in [*slots, await load.acquire(["a"])]] == [1, 2, 3, 3]
    assert (await load.acquire(["b"])).load == 1


async def test_being_told_more_than_it_counts_is_fine(load):
    await load.record_rejected()
    slot = await load.acquire(["a"], again=True)
    await load.release(slot, Work(10, 1.0))
    assert (await load.acquire(["a"])).load == 1


async def test_fleets_do_not_count_each_others_requests(redis_client):
    await RedisLoad(redis_client, "one", lifetime=60).acquire(["a"])
    assert (await RedisLoad(redis_client, "two", lifetime=60).acquire(["a", "b"])).worker == "a"


async def test_the_slot_of_a_process_that_died_expires(redis_client):
    load = RedisLoad(redis_client, "test", lifetime=60)
    seconds, _ = await redis_client.time()
    await redis_client.zadd("llmhost:test:load:a", {"dead": seconds - 1})
    await redis_client.zadd("llmhost:test:load:b", {"alive": seconds + 60})
    assert (await load.acquire(["b", "a"])).worker == "a"
    assert await redis_client.zscore("llmhost:test:load:a", "dead") is None


async def test_a_slot_expires_after_its_lifetime_in_redis_own_time(redis_client):
    slot = await RedisLoad(redis_client, "test", lifetime=59.5).acquire(["a"])
    seconds, _ = await redis_client.time()
    assert seconds + 58 < await redis_client.zscore("llmhost:test:load:a", slot.request) <= seconds + 61


@pytest.fixture
async def absent_redis(refusing_port):
    client = connect(RedisConfig(host="127.0.0.1", port=refusing_port))
    yield client
    await client.aclose()


async def test_without_redis_this_process_counts_for_itself(absent_redis):
    load = RedisLoad(absent_redis, "test", lifetime=60)
    slots = [await load.acquire(["a", "b"]) for _ in range(2)]
    assert [slot.worker for slot in slots] == ["a", "b"]


async def test_a_slot_taken_without_redis_is_given_back(absent_redis):
    load = RedisLoad(absent_redis, "test", lifetime=60)
    await load.release(await load.acquire(["a"]), Work(10, 1.0))
    assert (await load.acquire(["a"])).load == 1


async def test_turning_somebody_away_without_redis_does_not_fail(absent_redis):
    await RedisLoad(absent_redis, "test", lifetime=60).record_rejected()


@pytest.fixture
async def stopped_load(redis_port_server, monkeypatch):
    """Of workers with one slot; what its Redis is told to do, and its clock."""
    monkeypatch.setattr(connections, "_PAUSE", 0.0)
    server, clock = redis_port_server(), ManualClock()
    client = connect(RedisConfig(host="127.0.0.1", port=server.port, timeout=0.2))
    load = RedisLoad(client, "test", lifetime=60, places=1, clock=clock.monotonic)
    await load.release(await load.acquire(["a"]))  # from now on the server knows the scripts
    yield load, client, server.process.send_signal, clock
    server.process.send_signal(signal.SIGCONT)
    await client.aclose()


async def test_a_slot_that_is_given_back_while_redis_is_away_is_free_when_it_is_back(stopped_load):
    load, _, tell, clock = stopped_load
    slot = await load.acquire(["a"])
    tell(signal.SIGSTOP)
    await load.acquire(["b"])
    await load.release(slot)
    tell(signal.SIGCONT)
    await clock.sleep(11)
    assert isinstance(await load.acquire_or_wait(["a"], Ticket(60)), Slot)


async def test_what_is_owed_is_given_back_although_no_other_request_comes(stopped_load, monkeypatch):
    load, client, tell, _ = stopped_load
    slot = await load.acquire(["a"])
    tell(signal.SIGSTOP)
    monkeypatch.setattr(redis_traffic, "_PAUSE", 0.01)
    await load.acquire(["b"])
    await load.release(slot)
    tell(signal.SIGCONT)

    async def is_free():
        return await client.zcard("llmhost:test:load:a") == 0

    await until(is_free)


async def test_a_slot_whose_taking_was_not_confirmed_is_not_taken_for_ever(stopped_load):
    load, client, tell, clock = stopped_load
    tell(signal.SIGSTOP)
    await load.release(await load.acquire_or_wait(["a"], Ticket(60)))
    tell(signal.SIGCONT)
    await until(lambda: client.exists("llmhost:test:load:a"))
    await clock.sleep(11)
    assert isinstance(await load.acquire_or_wait(["a"], Ticket(60)), Slot)


async def test_who_waited_when_redis_went_away_keeps_none_waiting_when_it_is_back(stopped_load):
    load, _, tell, clock = stopped_load
    slot, ticket = await load.acquire(["a"]), Ticket(60)
    assert await load.acquire_or_wait(["a"], ticket) == Full(1)
    tell(signal.SIGSTOP)
    await load.acquire(["b"])
    await load.give_up(ticket)
    await load.release(slot)
    tell(signal.SIGCONT)
    await clock.sleep(11)
    assert isinstance(await load.acquire_or_wait(["a"], Ticket(60)), Slot)


async def test_a_redis_that_hangs_is_not_waited_for_with_each_question():
    connections = []

    async def hang(reader, writer):
        connections.append(writer)
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = connect(RedisConfig(host="127.0.0.1", port=port, timeout=0.1))
        load = RedisLoad(client, "test", lifetime=60, clock=ManualClock().monotonic)
        for _ in range(5):
            await load.release(await load.acquire(["a"]))
            await load.record_rejected()
        await client.aclose()
    assert len(connections) == 1


async def test_a_redis_that_is_back_is_used_again(redis_client):
    """The first failure is a script that Redis refuses, so that one server serves for both."""
    clock = ManualClock()
    load = RedisLoad(redis_client, "test", lifetime=60, clock=clock.monotonic)
    await redis_client.set("llmhost:test:load:a", "not a sorted set")
    await load.acquire(["a"])
    await redis_client.delete("llmhost:test:load:a")
    await clock.sleep(9)
    await load.acquire(["a"])
    assert await redis_client.exists("llmhost:test:load:a") == 0
    await clock.sleep(2)
    await load.acquire(["a"])
    assert await redis_client.zcard("llmhost:test:load:a") == 1


# Conversations


async def test_a_conversation_stays_with_the_worker_that_it_prefers_while_that_has_a_slot(load):
    for _ in range(SLOTS):
        assert (await load.acquire(["b", "a"], affine=True)).worker == "b"
    assert (await load.acquire(["b", "a"], affine=True)).worker == "a"


# Waiting


async def fill(load, worker="a"):
    return [await load.acquire([worker]) for _ in range(SLOTS)]


async def test_where_all_slots_are_taken_a_request_with_a_ticket_waits_and_without_it_does_not(load):
    await fill(load)
    assert await load.acquire_or_wait(["a"], Ticket(60)) == Full(1)
    assert await load.acquire_or_wait(["a"], Ticket(60)) == Full(2)
    assert (await load.acquire(["a"])).load == SLOTS + 1


async def test_who_comes_later_gets_no_slot_before_those_who_wait(load):
    slots, first = await fill(load), Ticket(60)
    await load.acquire_or_wait(["a"], first)
    await load.release(slots[0])
    assert await load.acquire_or_wait(["a"], Ticket(60)) == Full(2)
    assert (await load.acquire_or_wait(["a"], first)).load == SLOTS


async def test_the_fronts_of_several_processes_take_turns(load):
    slots, tickets = await fill(load), [Ticket(60) for _ in range(3)]
    for ticket in [*tickets, *tickets]:  # the second time, each is at the front of its process
        await load.acquire_or_wait(["a"], ticket)
    await load.release(slots[0])
    assert isinstance(await load.acquire_or_wait(["a"], tickets[1]), Full)
    await load.release(slots[1])
    got = [await load.acquire_or_wait(["a"], tickets[number]) for number in (2, 1, 0)]
    assert [isinstance(slot, Slot) for slot in got] == [False, True, True]


async def test_the_front_of_a_process_that_died_holds_up_nobody_for_long(redis_client):
    load, ticket = RedisLoad(redis_client, "test", 60, places=SLOTS), Ticket(60)
    slots = await fill(load)
    await load.acquire_or_wait(["a"], ticket)
    seconds, _ = await redis_client.time()
    await redis_client.hset("llmhost:test:fronts", "dead", f"{seconds - 60}.0:{seconds - 2}.0")
    await redis_client.hset("llmhost:test:fronts", "damaged", "x")
    await load.release(slots[0])
    assert isinstance(await load.acquire_or_wait(["a"], ticket), Slot)
    assert await redis_client.hkeys("llmhost:test:fronts") == []


async def test_who_gives_up_waits_no_more(load):
    slots, ticket = await fill(load), Ticket(60)
    await load.acquire_or_wait(["a"], ticket)
    await load.give_up(ticket)
    await load.give_up(Ticket(60))
    await load.release(slots[0])
    assert (await load.acquire_or_wait(["a"], Ticket(60))).load == SLOTS


async def test_without_workers_a_request_waits_until_one_comes(load):
    ticket = Ticket(60)
    assert await load.acquire_or_wait([], ticket) == Full(1)
    assert (await load.acquire_or_wait(["a"], ticket, again=True)).worker == "a"


async def test_requests_that_wait_are_seen_by_all_processes_and_expire(redis_client):
    load, traffic = RedisLoad(redis_client, "test", 60), RedisTraffic(redis_client, "test", 1)
    await load.acquire_or_wait([], Ticket(60))
    await load.acquire_or_wait([], Ticket(60))
    seconds, _ = await redis_client.time()
    assert (await traffic.read([])).waiting == 2
    await redis_client.zadd("llmhost:test:waiting", {"dead": seconds - 1})
    assert (await traffic.read([])).waiting == 2


async def test_a_request_that_met_only_draining_workers_does_not_wait(redis_client):
    load, traffic = RedisLoad(redis_client, "test", 60), RedisTraffic(redis_client, "test", 1)
    await traffic.drain(["a"])
    assert await load.acquire_or_wait(["a"], Ticket(60)) is None
    assert (await traffic.read([])).waiting == 0


@pytest.mark.parametrize("cuts", [1, 2])
async def test_a_slot_that_was_taken_for_a_request_that_has_left_meanwhile_is_given_back(redis_client, cuts):
    load = RedisLoad(redis_client, "test", lifetime=60)
    taking = asyncio.create_task(load.acquire_or_wait(["a"], Ticket(60)))
    for _ in range(cuts):
        await asyncio.sleep(0)
        taking.cancel()
    await asyncio.wait([taking])
    assert taking.cancelled()
    await until(lambda: redis_client.exists("llmhost:test:traffic"))  # by now it was taken
    await until(lambda: not load._tasks)
    assert await redis_client.zcard("llmhost:test:load:a") == 0


async def test_a_slot_is_given_back_although_the_request_is_cut_off_meanwhile(redis_client):
    load = RedisLoad(redis_client, "test", lifetime=60)
    slot = await load.acquire(["a"])
    await redis_client.script_flush()  # as after a restart: the script is sent again, which takes a step more
    giving_back = asyncio.create_task(load.release(slot))
    for _ in range(2):
        await asyncio.sleep(0)
    giving_back.cancel()
    await asyncio.wait([giving_back])
    await until(lambda: not load._tasks)
    assert await redis_client.zcard("llmhost:test:load:a") == 0


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "go on", "wait", "release"]), st.integers(0, 5)), max_size=30
)


@settings(max_examples=40)
@given(steps=STEPS, slots=st.integers(1, 3))
def test_all_processes_decide_as_one_that_counts_for_itself(redis_server, steps, slots):
    """The script in Redis and the rule in Python, side by side."""

    async def play(load):
        held: list[Slot] = []
        tickets, seen = [Ticket(60) for _ in range(6)], []
        for step, number in steps:
            workers = preference(f"c{number}", ["a", "b", "c"])
            if step == "release":
                if held:
                    await load.release(held.pop(number % len(held)))
                continue
            if step == "wait":
                got = await load.acquire_or_wait(workers, tickets[number], affine=number % 2 == 0)
            else:
                got = await load.acquire(workers, affine=step == "go on")
            if isinstance(got, Slot):
                held.append(got)
                tickets[number] = Ticket(60) if got.request == tickets[number].request else tickets[number]
            seen.append((got.worker, got.load) if isinstance(got, Slot) else got)
        return seen

    async def both():
        client = connect(RedisConfig(), socket=redis_server.socket)
        await client.flushdb()
        shared = await play(RedisLoad(client, "test", 60, places=slots))
        await client.aclose()
        return shared, await play(LocalLoad(slots))

    shared, local = asyncio.run(both())
    assert shared == local
