"""The workers on record in Redis, and what the fleet's commands do without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.fleet_values import ORIGIN, make_worker
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.config.models import RedisConfig
from llmhost.errors import StoreRefused, StoreUnavailable
from llmhost.fleet.models import Payer, Worker, WorkerState
from llmhost.fleet.providers.static import StaticProvider, StaticServer
from llmhost.fleet.registry import FleetRegistry
from llmhost.store.client import connect

KEY = "llmhost:test:worker:w-1"

texts = st.text(st.characters(codec="utf-8"), max_size=20)
optional_texts = st.none() | texts
amounts = st.floats(0, 1e12, allow_nan=False)
workers = st.builds(
    Worker,
    id=st.uuids().map(str),
    provider=st.just(ORIGIN.provider),
    state=st.sampled_from(WorkerState),
    url=st.none() | st.integers(1, 65535).map(lambda port: f"https://example.com:{port}/v1"),
    price_per_hour=amounts,
    started=amounts,
    model=texts,
    engine=texts,
    gpu=texts,
    detail=texts,
    log=texts,
    token=optional_texts,
    certificate=optional_texts,
)


@pytest.fixture
def registry(redis_client: Any) -> FleetRegistry:
    return FleetRegistry(redis_client, "test", ORIGIN)


@settings(max_examples=50)
@given(worker=workers)
def test_what_is_saved_is_read(worker: Worker, redis_server: Any) -> None:
    import asyncio

    async def round_trip() -> Worker:
        client = connect(RedisConfig(), socket=redis_server.socket)
        try:
            registry = FleetRegistry(client, "round-trip", ORIGIN)
            await registry.save(worker)
            (read,) = (await registry.workers()).workers
            await registry.forget(worker.id)
        finally:
            await client.aclose()
        return read

    assert asyncio.run(round_trip()) == worker


async def test_what_is_known_of_who_pays_is_kept_by_readings_that_know_less(registry: FleetRegistry) -> None:
    for payer in (Payer("4242", "one key's"), Payer("", "another key's"), Payer()):
        await registry.save(replace(make_worker(), payer=payer))
    (read,) = (await registry.workers()).workers
    assert read.payer == Payer("4242", "another key's")


async def test_a_worker_whose_log_lies_at_a_path_that_is_no_text_is_on_record(
    registry: FleetRegistry,
) -> None:
    await registry.save(make_worker("w-1", log="/home/caf\udce9/log", detail="see caf\udce9"))
    (read,) = (await registry.workers()).workers
    assert (read.log, read.detail) == ("/home/caf?/log", "see caf?")


async def test_workers_are_read_oldest_first(registry: FleetRegistry) -> None:
    for number, started in ((1, 30.0), (2, 10.0), (3, 20.0)):
        await registry.save(make_worker(f"w-{number}", started=started))
    assert [worker.id for worker in (await registry.workers()).workers] == ["w-2", "w-3", "w-1"]


async def test_saving_again_leaves_nothing_of_the_earlier_record(registry: FleetRegistry) -> None:
    worker = make_worker(token="secret", certificate="PEM")
    await registry.save(worker)
    later = replace(worker, state=WorkerState.FAILED, url=None, token=None, certificate=None)
    await registry.save(later)
    assert (await registry.workers()).workers == (later,)


async def test_what_is_forgotten_is_gone_and_forgetting_twice_is_fine(
    registry: FleetRegistry, redis_client: Any
) -> None:
    await registry.save(make_worker())
    await registry.forget("w-1")
    await registry.forget("w-1")
    assert await redis_client.dbsize() == 0


async def test_what_was_counted_of_a_forgotten_worker_is_gone_too(
    registry: FleetRegistry, redis_client: Any
) -> None:
    for worker in ("w-1", "w-2"):
        await registry.save(make_worker(worker))
        await redis_client.zadd(f"llmhost:test:load:{worker}", {"request": 1})
        await redis_client.hset(f"llmhost:test:speed:{worker}", "at", "1")
        await redis_client.sadd("llmhost:test:draining", worker)
    await registry.forget("w-1")
    left = {key.decode() for key in await redis_client.keys("llmhost:test:*w-*")}
    assert left == {f"llmhost:test:{what}:w-2" for what in ("worker", "load", "speed")}
    assert await redis_client.smembers("llmhost:test:draining") == {b"w-2"}


async def test_fleets_do_not_see_each_other(registry: FleetRegistry, redis_client: Any) -> None:
    await registry.save(make_worker())
    assert (await FleetRegistry(redis_client, "other", ORIGIN).workers()).workers == ()


async def test_records_have_no_lifetime_so_nothing_evicts_them(
    registry: FleetRegistry, redis_client: Any
) -> None:
    await registry.save(make_worker())
    assert [await redis_client.ttl(key) for key in await redis_client.keys()] == [-1, -1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "happy"),
        ("price_per_hour", "free"),
        ("price_per_hour", "-1"),
        ("price_per_hour", "nan"),
        ("started", "inf"),
        ("url", "ftp://example.com"),
        ("url", "file:///etc/passwd"),
        ("url", "http://"),
        ("url", "http://[broken"),
    ],
)
async def test_a_damaged_record_is_named_and_not_trusted(
    registry: FleetRegistry, redis_client: Any, field: str, value: str
) -> None:
    await registry.save(make_worker("w-1"))
    await registry.save(make_worker("w-2"))
    await redis_client.hset(KEY, field, value)
    registered = await registry.workers()
    assert [worker.id for worker in registered.workers] == ["w-2"]
    assert (registered.damaged, registered.ids) == (("w-1",), {"w-1", "w-2"})


@pytest.mark.parametrize("field", ["state", "price_per_hour", "started", "model", "engine"])
async def test_a_record_that_lacks_a_field_is_damaged(
    registry: FleetRegistry, redis_client: Any, field: str
) -> None:
    await registry.save(make_worker())
    await redis_client.hdel(KEY, field)
    assert (await registry.workers()).damaged == ("w-1",)


async def test_a_planted_record_is_damaged_whatever_it_copies(
    registry: FleetRegistry, redis_client: Any
) -> None:
    """Who can write to Redis can copy a record, under another id, in another fleet, and change any field."""
    await registry.save(make_worker("w-1", token="secret"))
    await registry.save(make_worker("w-2"))
    record = await redis_client.hgetall(KEY)
    planted = {b"url": b"http://elsewhere.invalid", b"token": b"other", b"added": b"field", b"signature": b""}
    for number, (name, value) in enumerate(planted.items()):
        await redis_client.hset(f"llmhost:test:worker:p-{number}", mapping={**record, name: value})
        await redis_client.sadd("llmhost:test:workers", f"p-{number}")
    await redis_client.hset("llmhost:test:worker:copy", mapping=record)
    await redis_client.sadd("llmhost:test:workers", "copy")
    await redis_client.hset("llmhost:test:worker:w-2", "url", "http://elsewhere.invalid")
    registered = await registry.workers()
    assert [worker.id for worker in registered.workers] == ["w-1"]
    assert set(registered.damaged) == {"copy", "p-0", "p-1", "p-2", "p-3", "w-2"}

    await redis_client.hset("llmhost:other:worker:w-1", mapping=record)
    await redis_client.sadd("llmhost:other:workers", "w-1")
    assert (await FleetRegistry(redis_client, "other", ORIGIN).workers()).damaged == ("w-1",)


@pytest.mark.parametrize("key", [None, b"another key"])
async def test_without_the_fleet_s_key_no_record_is_believed(
    registry: FleetRegistry, redis_client: Any, key: bytes | None
) -> None:
    await registry.save(make_worker())
    other = FleetRegistry(redis_client, "test", replace(ORIGIN, key=key))
    assert (await other.workers()).damaged == ("w-1",)
    await other.save(make_worker("w-2"))
    assert (await registry.workers()).damaged == ("w-2",)


@pytest.mark.parametrize(
    ("changes", "believed"),
    [
        ({"url": "https://w.invalid", "certificate": "PEM"}, True),
        ({"url": None}, True),
        ({"url": "https://w.invalid"}, False),
        ({"url": "https://w.invalid", "certificate": ""}, False),
        ({"url": "http://w.invalid", "certificate": "PEM"}, False),
        ({"url": "http://w.invalid", "state": WorkerState.FAILED}, True),
    ],
)
async def test_a_rented_worker_without_tls_and_its_certificate_is_damaged(
    redis_client: Any, changes: dict[str, Any], believed: bool
) -> None:
    registry = FleetRegistry(redis_client, "test", replace(ORIGIN, provider="vast", rents=True))
    await registry.save(make_worker(**changes))
    assert (await registry.workers()).damaged == (() if believed else ("w-1",))


async def test_the_provider_of_a_worker_comes_from_the_configuration(
    registry: FleetRegistry, redis_client: Any
) -> None:
    await registry.save(make_worker(provider="static"))
    assert [worker.provider for worker in (await registry.workers()).workers] == [ORIGIN.provider]
    assert b"provider" not in await redis_client.hgetall(KEY)


async def test_an_id_without_a_record_is_nobody(registry: FleetRegistry, redis_client: Any) -> None:
    await registry.save(make_worker())
    await redis_client.delete(KEY)
    assert (await registry.workers()).ids == frozenset()


async def test_the_token_is_not_in_the_record_s_repr(registry: FleetRegistry) -> None:
    await registry.save(make_worker(token="very-secret"))
    assert "very-secret" not in repr(await registry.workers())


async def test_redis_being_away_is_a_store_error(refusing_port: int) -> None:
    client = connect(RedisConfig(host="127.0.0.1", port=refusing_port))
    registry = FleetRegistry(client, "test", ORIGIN)
    for action in (registry.workers, lambda: registry.save(make_worker()), lambda: registry.forget("w-1")):
        with pytest.raises(StoreUnavailable):
            await action()
    await client.aclose()


async def test_a_redis_that_may_not_be_written_refuses(read_only_redis: Any) -> None:
    client = connect(RedisConfig(host="127.0.0.1", port=read_only_redis.port))
    with pytest.raises(StoreRefused):
        await FleetRegistry(client, "test", ORIGIN).save(make_worker())
    await client.aclose()


async def test_a_key_that_holds_something_else_is_a_store_error(
    registry: FleetRegistry, redis_client: Any
) -> None:
    await redis_client.set("llmhost:test:workers", "not a set")
    with pytest.raises(StoreRefused):
        await registry.workers()


async def test_workers_of_another_state_folder_are_left_alone(redis_client: Any) -> None:
    await FleetRegistry(redis_client, "test", replace(ORIGIN, owner="them")).save(make_worker())
    registered = await FleetRegistry(redis_client, "test", ORIGIN).workers()
    assert (registered.workers, registered.damaged) == ((), ())


# What the fleet's commands leave in Redis, and that they go on without it


@pytest.fixture
def recorded(bench: Any, redis_client: Any) -> Any:
    bench.registry = FleetRegistry(redis_client, "test", ORIGIN)
    return bench


@pytest.fixture
async def away(bench: Any, refusing_port: int) -> AsyncIterator[Any]:
    client = connect(RedisConfig(host="127.0.0.1", port=refusing_port))
    bench.registry = FleetRegistry(client, "test", ORIGIN)
    yield bench
    await client.aclose()


async def states(bench: Any) -> dict[str, WorkerState]:
    return {worker.id: worker.state for worker in (await bench.registry.workers()).workers}


async def test_a_worker_on_its_way_is_on_record_as_starting(recorded: Any) -> None:
    await recorded.make().up(1, wait=False)
    assert await states(recorded) == {"memory-1": WorkerState.STARTING}


async def test_a_server_that_was_there_before_is_starting_too_until_it_has_answered(
    recorded: Any, tmp_path: Path
) -> None:
    provider = StaticProvider(tmp_path / "static", [StaticServer("http://127.0.0.1:9001")])
    (worker,) = (await recorded.make(provider=provider).up(1, wait=False)).workers
    assert await states(recorded) == {worker.id: WorkerState.STARTING}


async def test_a_worker_that_failed_on_its_way_is_off_the_record(recorded: Any) -> None:
    recorded.refusing.add("memory-1")
    await recorded.make().up(2)
    assert await states(recorded) == {"memory-2": WorkerState.READY}


async def test_down_takes_workers_off_the_record(recorded: Any) -> None:
    await recorded.make().up(2)
    await recorded.make().down(["memory-1"])
    assert await states(recorded) == {"memory-2": WorkerState.READY}


@pytest.mark.parametrize("command", ["up", "down", "status"])
async def test_a_worker_that_vanished_is_forgotten_told_of_and_no_longer_paid(
    recorded: Any, command: str
) -> None:
    await recorded.make().up(2)
    recorded.cloud.vanish("memory-1")
    result = await getattr(recorded.make(), command)()
    assert result.warnings == ("worker memory-1 is gone: its provider no longer lists it",)
    assert "memory-1" not in await states(recorded)
    assert "memory-1" not in recorded.rentals.open_ones()


async def test_status_puts_right_what_redis_knows(recorded: Any) -> None:
    await recorded.make().up(2)
    await recorded.registry.forget("memory-1")
    await recorded.registry.save(make_worker("memory-2", state=WorkerState.FAILED))
    await recorded.make().status()
    assert await states(recorded) == {"memory-1": WorkerState.READY, "memory-2": WorkerState.READY}


async def test_status_takes_a_silent_worker_out_of_use_and_back(recorded: Any) -> None:
    await recorded.make().up(1)
    recorded.silent.add("memory-1")
    await recorded.make().status()
    assert await states(recorded) == {"memory-1": WorkerState.STARTING}
    recorded.silent.clear()
    await recorded.make().status()
    assert await states(recorded) == {"memory-1": WorkerState.READY}


async def test_a_worker_that_is_slow_to_answer_stays_in_use(recorded: Any, monkeypatch: Any) -> None:
    await recorded.make().up(1)
    recorded.hanging.add("memory-1")
    monkeypatch.setattr("llmhost.fleet.health.PROBE_TIMEOUT", 0.01)
    await recorded.make().status()
    assert await states(recorded) == {"memory-1": WorkerState.READY}


async def test_a_damaged_record_is_told_of_and_mended(recorded: Any, redis_client: Any) -> None:
    await recorded.make().up(1)
    await redis_client.hset("llmhost:test:worker:memory-1", "state", "happy")
    status = await recorded.make().status()
    assert status.warnings == ("the record of worker memory-1 in Redis was damaged, or is not of this fleet",)
    assert await states(recorded) == {"memory-1": WorkerState.READY}


async def test_without_redis_everything_works_and_says_once_what_is_missing(away: Any) -> None:
    up = await away.make().up(2)
    assert [worker.state for worker in up.workers] == [WorkerState.READY] * 2
    status = await away.make().status()
    assert len(status.workers) == 2
    down = await away.make().down()
    assert (len(down.destroyed), down.remaining) == (2, ())
    for result in (up, status, down):
        (warning,) = result.warnings
        assert warning.startswith("the fleet's records in Redis were not brought up to date: Redis")


async def test_what_happened_without_redis_is_made_good_when_it_is_back(away: Any, redis_client: Any) -> None:
    await away.make(rentals=None).up(2)
    away.registry = FleetRegistry(redis_client, "test", ORIGIN)
    await away.make().status()
    assert set(await states(away)) == away.rentals.open_ones() == {"memory-1", "memory-2"}


async def test_an_absence_in_redis_proves_nothing(away: Any) -> None:
    await away.make().up(1)
    await away.make().status()
    assert list(away.cloud.machines) == ["memory-1"]


async def test_workers_are_counted_by_state_and_those_that_drain_by_themselves(
    registry: FleetRegistry,
) -> None:
    for number, state in enumerate((WorkerState.READY, WorkerState.READY, WorkerState.FAILED)):
        await registry.save(replace(make_worker(f"w-{number}"), state=state))
    await registry.drains.drain(["w-1"])
    assert await registry.states() == {"starting": 0, "ready": 1, "failed": 1, "gone": 0, "draining": 1}
