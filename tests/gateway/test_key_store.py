"""Keys and limits in a real Redis, by its own clock. Time passes by what was counted becoming older."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.redis_clusters import RedisCluster
from redis.asyncio import Redis
from redis.crc import key_slot

from llmhost.config.models import RedisConfig
from llmhost.errors import StoreUnavailable
from llmhost.gateway.api_keys import ApiKey, Booking, Limits, PresentedKey, Use, make_key
from llmhost.gateway.key_store import Admission, KeyStore
from llmhost.store.client import connect, text
from llmhost.store.keys import GatewayKeys

if TYPE_CHECKING:
    from plugins.redis_servers import RedisServer


async def made(client: Redis, *, expires: float | None = None, **limits: Any) -> PresentedKey:
    _, key = make_key()
    await KeyStore(client).add(
        ApiKey(key.id, "acme", Limits(**limits), time.time(), key.digest, expires=expires)
    )
    return key


async def passed(client: Redis, key: PresentedKey, seconds: int) -> None:
    """So many seconds later, as far as the key's requests are concerned."""
    asked = text(await client.hget(GatewayKeys.key(key.id), "asked") or b"")
    older = re.sub(r"(\d+):", lambda match: f"{int(match[1]) - seconds}:", asked)
    await client.hset(GatewayKeys.key(key.id), "asked", older)


async def now(client: Redis) -> float:
    seconds, microseconds = await client.time()
    return float(seconds) + microseconds / 1e6


async def admit(store: KeyStore, key: PresentedKey) -> Admission:
    admission = await store.admit(key, asks=True)
    assert admission is not None
    return admission


LIFETIME = 900.0  #: seconds; of a hold
STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 6)) | st.integers(1, 70), min_size=1, max_size=20
)


@asynccontextmanager
async def two_stores(socket: Path) -> AsyncIterator[tuple[Redis, list[KeyStore]]]:
    clients = [connect(RedisConfig(), socket=socket) for _ in range(2)]
    try:
        yield clients[0], [KeyStore(client) for client in clients]
    finally:
        for client in clients:
            await client.aclose()


@settings(max_examples=40)
@given(limit=st.integers(1, 5), steps=STEPS)
def test_no_minute_has_more_requests_than_the_limit_in_whatever_order_two_gateways_ask(
    redis_server: RedisServer, limit: int, steps: list[tuple[int, int] | int]
) -> None:
    async def run() -> None:
        async with two_stores(redis_server.socket) as (client, stores):
            key = await made(client, requests_per_minute=limit)
            offset, admitted = 0, []
            for step in steps:
                if isinstance(step, int):
                    await passed(client, key, step)
                    offset += step
                    continue
                first, count = step
                before = await now(client) + offset
                asked = [admit(stores[(first + number) % 2], key) for number in range(count)]
                verdicts = [admission.verdict for admission in await asyncio.gather(*asked)]
                after = await now(client) + offset
                admitted += [(before, after)] * verdicts.count("ok")
            for _, last in admitted:
                assert sum(first > last - 60 for first, after in admitted if after <= last) <= limit

    asyncio.run(run())


async def test_a_request_is_admitted_again_when_the_limit_says_so(redis_client: Redis) -> None:
    key, store = await made(redis_client, requests_per_minute=2), KeyStore(redis_client)
    await admit(store, key)
    await passed(redis_client, key, 30)
    await admit(store, key)
    refused = await admit(store, key)
    assert (refused.verdict, 25 <= refused.wait <= 31) == ("requests_per_minute", True)
    await passed(redis_client, key, refused.wait)
    assert [(await admit(store, key)).verdict for _ in range(2)] == ["ok", "requests_per_minute"]


async def test_what_was_counted_before_the_clock_was_put_back_blocks_nothing(redis_client: Redis) -> None:
    key, store = await made(redis_client, requests_per_minute=1), KeyStore(redis_client)
    await admit(store, key)
    await passed(redis_client, key, -86_400)
    assert (await admit(store, key)).verdict == "ok"


async def test_a_request_that_is_refused_and_one_that_asks_nothing_do_not_count(redis_client: Redis) -> None:
    key, store = await made(redis_client, requests_per_minute=1), KeyStore(redis_client)
    for _ in range(3):
        assert (await store.admit(key, asks=False)).verdict == "ok"
    await admit(store, key)
    assert (await admit(store, key)).asked == 1
    assert (await store.admit(key, asks=False)).verdict == "ok"


async def test_a_wrong_secret_is_no_key_and_uses_up_nothing(redis_client: Redis) -> None:
    key, store = await made(redis_client, requests_per_minute=1), KeyStore(redis_client)
    for _ in range(3):
        assert await store.admit(PresentedKey(key.id, "0" * 64), asks=True) is None
    assert (await admit(store, key)).verdict == "ok"


async def test_tokens_and_dollars_of_a_day_are_those_that_were_booked(redis_client: Redis) -> None:
    store = KeyStore(redis_client)
    tokens = await made(redis_client, tokens_per_day=100)
    usd = await made(redis_client, usd_per_day=0.5)
    await store.book({tokens.id: Booking(Use(1, 99, 9.0)), usd.id: Booking(Use(1, 10**9, 0.49))})
    assert [(await admit(store, key)).verdict for key in (tokens, usd)] == ["ok", "ok"]
    await store.book({tokens.id: Booking(Use(0, 1)), usd.id: Booking(Use(0, 0, 0.011))})
    refused = [await admit(store, key) for key in (tokens, usd)]
    assert [one.verdict for one in refused] == ["tokens_per_day", "usd_per_day"]
    assert all(0 < one.wait <= 86_400 for one in refused)


async def test_a_record_that_cannot_be_counted_on_keeps_no_other_from_being_counted(
    redis_client: Redis,
) -> None:
    damaged, sound, store = await made(redis_client), await made(redis_client), KeyStore(redis_client)
    await store.book({damaged.id: Booking(Use(1, 1)), sound.id: Booking(Use(1, 1))})
    await redis_client.hset(GatewayKeys.key(damaged.id), "tokens", "many")
    assert set(await store.book({damaged.id: Booking(Use(1, 5)), sound.id: Booking(Use(1, 5))})) == {
        damaged.id
    }
    assert (await admit(store, sound)).today == Use(2, 6)


@pytest.mark.parametrize("damaged", ["tokens", "usd"])
async def test_of_a_booking_on_a_damaged_counter_nothing_is_counted(
    redis_client: Redis, damaged: str
) -> None:
    key, store = await made(redis_client), KeyStore(redis_client)
    await store.book({key.id: Booking(Use(1, 1, 0.5))})
    kept = await redis_client.hget(GatewayKeys.key(key.id), damaged)
    await redis_client.hset(GatewayKeys.key(key.id), damaged, "many")
    for _ in range(3):
        assert set(await store.book({key.id: Booking(Use(1, 5, 0.25))})) == {key.id}
    await redis_client.hset(GatewayKeys.key(key.id), damaged, kept)
    assert (await admit(store, key)).today == Use(1, 1, 0.5)


async def test_where_a_node_of_a_cluster_is_lost_what_others_have_counted_is_not_in_doubt(
    own_redis_cluster: RedisCluster,
) -> None:
    cluster = own_redis_cluster
    async with connect(cluster.config()) as client:
        keys, store = [await made(client) for _ in range(12)], KeyStore(client)
        owners = {key.id: cluster.owner(key_slot(GatewayKeys.key(key.id).encode())) for key in keys}
        await store.book({key.id: Booking(Use(1, 1)) for key in keys})
        lost = owners[keys[0].id]
        cluster.nodes[lost].kill()
        refused = await store.book({key.id: Booking(Use(1, 5)) for key in keys})
    assert set(refused) == {id for id, owner in owners.items() if owner == lost}
    assert all(isinstance(error, StoreUnavailable) for error in refused.values())


@pytest.mark.parametrize(("limit", "most"), [("tokens_per_day", Use(0, 60)), ("usd_per_day", Use(0, 0, 0.6))])
async def test_what_requests_under_way_may_use_is_held_by_all_gateways_until_they_are_booked(
    redis_server: RedisServer, limit: str, most: Use
) -> None:
    async with two_stores(redis_server.socket) as (client, stores):
        key = await made(client, **{limit: 100 if most.tokens else 1.0})
        held = [
            (await stores[number % 2].hold(key.id, f"{number}", most, LIFETIME)).verdict
            for number in range(3)
        ]
        refused = await stores[0].hold(key.id, "more", most, LIFETIME)
        await stores[1].book({key.id: Booking(Use(1, 1, 0.01), ("0", "1"))})
        again = await stores[0].hold(key.id, "again", most, LIFETIME)
    assert held == ["ok", "ok", limit]
    assert (refused.verdict, refused.is_used_up) == (limit, False)
    assert 0 < refused.wait < 60
    assert again.verdict == "ok"


async def test_what_a_gateway_held_that_died_is_free_again(redis_client: Redis) -> None:
    key, store = await made(redis_client, tokens_per_day=100), KeyStore(redis_client)
    await store.hold(key.id, "dead", Use(0, 500), lifetime=0)
    assert (await store.hold(key.id, "new", Use(0, 500), LIFETIME)).verdict == "ok"
    assert await redis_client.hget(GatewayKeys.key(key.id), "hold:dead") is None


async def test_a_hold_of_before_the_clock_was_put_back_is_no_more(redis_client: Redis) -> None:
    key, store = await made(redis_client, tokens_per_day=100), KeyStore(redis_client)
    await store.hold(key.id, "dead", Use(0, 500), LIFETIME)
    held = text(await redis_client.hget(GatewayKeys.key(key.id), "hold:dead") or b"")
    ahead = re.sub(r"\b\d{10}\b", lambda time: f"{int(time[0]) + 7 * 86_400}", held)
    await redis_client.hset(GatewayKeys.key(key.id), "hold:dead", ahead)
    assert (await store.hold(key.id, "new", Use(0, 500), LIFETIME)).verdict == "ok"
    assert await redis_client.hget(GatewayKeys.key(key.id), "hold:dead") is None


async def test_a_hold_that_comes_later_than_its_end_holds_nothing(redis_client: Redis) -> None:
    key, store = await made(redis_client, tokens_per_day=100), KeyStore(redis_client)
    for _ in range(2):  # as where it was not known whether it was booked
        await store.book({key.id: Booking(ended=("late",))})
    await store.hold(key.id, "late", Use(0, 500), LIFETIME)
    assert (await store.hold(key.id, "new", Use(0, 1), LIFETIME)).verdict == "ok"


async def test_the_end_of_a_hold_that_has_not_come_is_kept_for_a_minute(redis_client: Redis) -> None:
    store, key = KeyStore(redis_client), await made(redis_client, tokens_per_day=1000)
    name = GatewayKeys.key(key.id)
    await store.book({key.id: Booking(ended=("late",))})
    began, expires, *held = map(int, text(await redis_client.hget(name, "hold:late") or b"").split())
    assert (expires - began, held) == (60, [0, 0])
    assert abs(began - await now(redis_client)) < 10
    await store.hold(key.id, "one", Use(0, 1), LIFETIME)
    assert await redis_client.hexists(name, "hold:late")
    await redis_client.hset(name, "hold:late", f"{began - 61} {expires - 61} 0 0")
    await store.hold(key.id, "another", Use(0, 1), LIFETIME)
    assert not await redis_client.hexists(name, "hold:late")


async def test_a_limit_that_is_used_up_holds_nothing_before_tomorrow(redis_client: Redis) -> None:
    key, store = await made(redis_client, tokens_per_day=100), KeyStore(redis_client)
    await store.book({key.id: Booking(Use(1, 100))})
    refused = await store.hold(key.id, "one", Use(0, 1), LIFETIME)
    assert (refused.verdict, refused.is_used_up) == ("tokens_per_day", True)


async def test_a_late_hold_does_not_bring_a_revoked_key_back(redis_client: Redis) -> None:
    key, store = await made(redis_client), KeyStore(redis_client)
    await store.revoke(key.id)
    await store.hold(key.id, "late", Use(0, 1), LIFETIME)
    assert not await redis_client.exists(GatewayKeys.key(key.id))


async def test_another_day_begins_with_nothing_used(redis_client: Redis) -> None:
    key, store = await made(redis_client, tokens_per_day=100), KeyStore(redis_client)
    await store.book({key.id: Booking(Use(1, 100))})
    await redis_client.hincrby(GatewayKeys.key(key.id), "day", -1)
    assert (await admit(store, key)).today == Use()
    await store.book({key.id: Booking(Use(1, 7))})
    assert (await admit(store, key)).today == Use(1, 7, 0.0)


@settings(max_examples=25)
@given(used=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 50)), max_size=12))
def test_no_token_is_lost_between_two_gateways(
    redis_server: RedisServer, used: list[tuple[int, int]]
) -> None:
    async def run() -> None:
        async with two_stores(redis_server.socket) as (client, stores):
            key = await made(client)
            await asyncio.gather(
                *(stores[which].book({key.id: Booking(Use(1, tokens))}) for which, tokens in used)
            )
            (stored,) = [one for one in await stores[0].keys(await now(client)) if one.id == key.id]
            assert stored.today == Use(len(used), sum(tokens for _, tokens in used))

    asyncio.run(run())


async def test_a_revoked_key_is_gone_and_a_late_booking_does_not_bring_it_back(redis_client: Redis) -> None:
    key, store = await made(redis_client), KeyStore(redis_client)
    assert await store.revoke(key.id)
    await store.book({key.id: Booking(Use(1, 5))})
    assert await store.admit(key, asks=True) is None
    assert await store.keys(time.time()) == []
    assert not await store.revoke(key.id)


async def test_an_expired_key_is_refused_and_listed(redis_client: Redis) -> None:
    key, store = await made(redis_client, expires=time.time() - 1), KeyStore(redis_client)
    assert (await admit(store, key)).verdict == "expired"
    assert [one.id for one in await store.keys(time.time())] == [key.id]


async def test_a_damaged_record_is_refused_and_listed(redis_client: Redis) -> None:
    key, store = await made(redis_client), KeyStore(redis_client)
    await redis_client.hset(GatewayKeys.key(key.id), "models", "{")
    assert await store.admit(key, asks=True) is None
    assert [(one.id, one.key) for one in await store.keys(time.time())] == [(key.id, None)]


async def test_redis_holds_no_secret_and_lets_no_key_expire_by_itself(redis_client: Redis) -> None:
    written, key = make_key()
    await KeyStore(redis_client).add(ApiKey(key.id, "acme", Limits(), time.time(), key.digest))
    kept = await redis_client.hgetall(GatewayKeys.key(key.id))
    assert written.rpartition("-")[2] not in " ".join(map(text, kept.values()))
    assert await redis_client.ttl(GatewayKeys.key(key.id)) == -1
