"""Damage and faults of Redis, on each kind of index: a question is answered, by nothing that belongs to
another one, and the next question works.

The policy is the one that serves what is similar, so that nothing but the cache itself stands before a wrong
answer.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from doubles.answering_house import ASKED, DONE, House
from doubles.embedders import WordEmbedder
from doubles.redis_relay import redis_relay
from doubles.scripted_pool import ScriptedEngine
from doubles.waiting import until
from plugins.redis_servers import start_redis

from llmhost.cache.catalog import Catalog
from llmhost.cache.indexes.flat import FlatIndex
from llmhost.cache.indexes.query_engine import QueryEngineIndex
from llmhost.cache.indexes.vector_set import VectorSetIndex
from llmhost.cache.stored import encode_answer
from llmhost.config.models import RedisConfig
from llmhost.store import connections
from llmhost.store.client import connect, text

if TYPE_CHECKING:
    from plugins.cache import MakeCache, MakeIndex
    from plugins.redis_servers import ClientOf, PortServer, RedisServer, ServerOf
    from redis.asyncio import Redis

    from llmhost.answering.question import Question
    from llmhost.cache.keys import CacheKey
    from llmhost.cache.models import Answer
    from llmhost.store.keys import NamespaceKeys

#: Each index, and a server that has it. In `moving`, a scope of two entries gets a vector set.
KINDS: dict[str, tuple[str, MakeIndex]] = {
    "flat": ("default", FlatIndex),
    "vector_set": ("redis-8.2", partial(VectorSetIndex, most_in_log=0)),
    "moving": ("redis-8.2", partial(VectorSetIndex, most_in_log=1)),
    "query_engine": ("redis-8.2-search", QueryEngineIndex),
}

REWORDED = replace(ASKED, prompt="what is artificial intelligence in plain simple words", store=False)
OTHER = replace(ASKED, prompt="how do I bake a cake with apples and cream")
ELSEWHERE = replace(ASKED, tenant="another")

Harm = Callable[["Redis", str], Awaitable[Any]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def server_name(kind: str) -> str:
    return KINDS[kind][0]


@pytest.fixture
def redis_server(server_of: ServerOf, server_name: str) -> RedisServer:
    return server_of(server_name)


@pytest.fixture
def redis_client(client_of: ClientOf, server_name: str) -> Redis:
    return client_of(server_name)


@pytest.fixture
def make_index(kind: str) -> MakeIndex:
    return KINDS[kind][1]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that was away is looked for with the next question."""
    monkeypatch.setattr(connections, "_PAUSE", 0.0)


@pytest.fixture
def house(redis_client: Redis, make_cache: MakeCache, keys: NamespaceKeys) -> House:
    return house_on(redis_client, make_cache, keys)


def house_on(client: Redis, make_cache: MakeCache, keys: NamespaceKeys) -> House:
    house = House(client, make_cache(client=client), keys)
    house.sessions.pause = 0.0
    return house


def engine(answer: str, *before: Any) -> ScriptedEngine:
    return ScriptedEngine(*before, answer, DONE)


async def ask(house: House, question: Question, answer: str = "asked again") -> str:
    """What is answered; `answer` is what an engine would say."""
    return (await asyncio.wait_for(house.ask(question, engine(answer)), 20)).answer.text


def key_of(question: Question) -> CacheKey:
    key = question.key()
    assert key is not None
    return key


async def fill(house: House) -> None:
    """Two questions, each with an answer of its own and a hit by the same and by another wording."""
    assert await ask(house, OTHER, "of the cake") == "of the cake"
    assert await ask(house, ELSEWHERE, "of the other tenant") == "of the other tenant"
    assert await ask(house, ASKED, "of the words") == "of the words"
    assert await ask(house, ASKED) == "of the words"
    assert await ask(house, REWORDED) == "of the words"


async def assert_right(house: House) -> None:
    """No question gets another one's answer. Afterwards each one is a hit again."""
    answers = ((ASKED, "of the words"), (OTHER, "of the cake"), (ELSEWHERE, "of the other tenant"))
    for question, right in answers:
        assert await ask(house, question, right) == right
    assert await ask(house, REWORDED, "of the words") == "of the words"
    for question in (ASKED, OTHER, ELSEWHERE):
        assert (await house.ask(question)).source == "exact"


async def all_keys(client: Redis) -> list[str]:
    return sorted(text(key) for key in await client.keys("test:*"))


# An entry that is half there, or something else


async def delete(client: Redis, key: str) -> None:
    await client.delete(key)


async def put_text(client: Redis, key: str) -> None:
    await client.set(key, "something else", px=60_000)


async def put_bytes(client: Redis, key: str) -> None:
    await client.set(key, bytes(range(256)) * 4, px=60_000)


async def put_list(client: Redis, key: str) -> None:
    await client.delete(key)
    await client.rpush(key, "something", "else")


async def put_hash(client: Redis, key: str) -> None:
    await client.delete(key)
    await client.hset(key, mapping={"s": "something", "v": "else", "hit_count": "many", "entries": "x"})


async def cut_off(client: Redis, key: str) -> None:
    """The last third is missing."""
    if await client.type(key) == b"string":
        value = await client.get(key)
        await client.set(key, value[: -len(value) // 3], px=60_000)


async def scramble(client: Redis, key: str) -> None:
    """Some bytes are others."""
    if await client.type(key) == b"string":
        await client.setrange(key, await client.strlen(key) // 2, b"\x00\xff\x7f\x01")


@pytest.mark.parametrize(
    "harm", [delete, put_text, put_bytes, put_list, put_hash, cut_off, scramble], ids=lambda f: f.__name__
)
async def test_whatever_happens_to_any_one_key_nothing_wrong_is_served(
    house: House, redis_client: Redis, make_cache: MakeCache, keys: NamespaceKeys, harm: Harm
) -> None:
    await fill(house)
    for key in await all_keys(redis_client):
        await harm(redis_client, key)
        await assert_right(house)  # as a process sees it that has read the key before
        await harm(redis_client, key)
        await assert_right(house_on(redis_client, make_cache, keys))
        await redis_client.delete(*await all_keys(redis_client))
        await fill(house)


@pytest.mark.parametrize("other", [OTHER, ELSEWHERE], ids=["question", "scope"])
async def test_the_entry_of_another_question_or_scope_under_the_name_of_this_one_is_not_served(
    house: House, redis_client: Redis, keys: NamespaceKeys, other: Question
) -> None:
    await fill(house)
    own, others = key_of(ASKED), key_of(other)
    await redis_client.copy(keys.response(others.entry), keys.response(own.entry), replace=True)
    assert await ask(house, REWORDED, "of the words") == "of the words"
    assert await ask(house, ASKED, "of the words") == "of the words"
    await redis_client.copy(keys.response(others.entry), keys.response(own.entry), replace=True)
    assert await ask(house, ASKED, "of the words") == "of the words"


async def test_an_index_that_names_an_entry_of_another_scope_does_not_have_it_served(
    house: House, redis_client: Redis, make_index: MakeIndex, keys: NamespaceKeys, embedder: WordEmbedder
) -> None:
    await ask(house, ELSEWHERE, "of the other tenant")
    own, others = key_of(ASKED), key_of(ELSEWHERE)
    index = make_index(
        redis_client, keys, embedder=embedder.id, dimensions=embedder.dimensions, lifetime=7200.0
    )
    await index.add(own.scope, others.entry, embedder.embed(ASKED.prompt))
    assert await ask(house, REWORDED) == "asked again"


@pytest.mark.parametrize("garbage", [put_text, put_list, put_hash], ids=lambda f: f.__name__)
async def test_something_else_in_the_place_of_a_flight_holds_no_question_up(
    house: House, redis_client: Redis, keys: NamespaceKeys, garbage: Harm
) -> None:
    flight = keys.flight(f"{ASKED.fleet}:{key_of(ASKED).entry}")
    for lasting in (False, True):
        await garbage(redis_client, flight)
        if lasting:
            await redis_client.persist(flight)
        assert await ask(house, ASKED, "of the words") == "of the words"
        await redis_client.delete(*await all_keys(redis_client))


async def test_an_older_llmhost_beside_this_one_may_replace_an_answer_and_have_its_own_replaced(
    house: House, redis_client: Redis, keys: NamespaceKeys, answer: Callable[..., Answer]
) -> None:
    await fill(house)
    own = key_of(ASKED)

    async def store_as_older(question: str) -> None:
        await redis_client.set(keys.response(own.entry), encode_answer(answer("of the older")), px=60_000)
        facts: dict[Any, Any] = {
            "question": question,
            "scope": own.scope,
            "embedder": "words",
            "vector": bytes(4 * 512),
        }
        await redis_client.hset(keys.embedding(own.entry), mapping=facts)

    await store_as_older(own.question)
    assert {await ask(house, question) for question in (ASKED, REWORDED)} == {"of the older"}
    refreshed = await house.ask(replace(ASKED, refresh=True), engine("of this one"))
    assert refreshed.entry == own.entry
    assert {await ask(house, question) for question in (ASKED, REWORDED)} == {"of this one"}
    assert not await redis_client.exists(keys.embedding(own.entry))
    await store_as_older("what is something else")
    assert await ask(house, REWORDED, "asked again") == "asked again"


# What happens to all of it at once


async def flush(client: Redis) -> None:
    await client.flushall()


async def drop_the_index(client: Redis) -> None:
    names = set()
    for key in await all_keys(client):
        if key.split(":")[1] in ("flat", "vectors", "vector_log", "vector"):
            await client.delete(key)
        if key.split(":")[1] == "vector":
            names.add(key.rpartition(":")[0])
    for name in names:
        await client.execute_command("FT.DROPINDEX", name)


@pytest.mark.parametrize("harm", [flush, drop_the_index], ids=lambda f: f.__name__)
@pytest.mark.parametrize("at", ["between questions", "before a search", "while an engine answers"])
async def test_all_or_the_index_is_gone_while_serving(
    house: House,
    redis_client: Redis,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Redis], Awaitable[None]],
    at: str,
) -> None:
    await fill(house)
    third = replace(ASKED, prompt="which wine goes with fish and rice at noon")
    if at == "between questions":
        await harm(redis_client)
    if at == "before a search":
        _, index = await house.sessions.cache.embedder_source()
        search = index.search

        async def harmed(*arguments: Any) -> Any:
            monkeypatch.setattr(index, "search", search)
            await harm(redis_client)
            return await search(*arguments)

        monkeypatch.setattr(index, "search", harmed)
        assert await ask(house, REWORDED, "of the words") == "of the words"
    if at == "while an engine answers":
        running, wait = asyncio.Event(), asyncio.Event()
        asked = asyncio.create_task(house.ask(third, engine("of the wine", running.set, wait)))
        await running.wait()
        await harm(redis_client)
        wait.set()
        assert (await asked).answer.text == "of the wine"
    await assert_right(house)
    assert await ask(house, third, "of the wine") == "of the wine"
    reworded = replace(third, prompt="which wine goes well with fish and rice at noon", store=False)

    async def is_found() -> bool:  # the query engine fills an index that was made again in the background
        return (await house.ask(reworded, engine("of the wine"))).source == "semantic"

    await until(is_found)


async def test_two_processes_that_answer_the_same_question_differently_leave_one_of_both(
    redis_client: Redis, make_cache: MakeCache, keys: NamespaceKeys
) -> None:
    first, second = (house_on(redis_client, make_cache, keys) for _ in range(2))
    key, answers = key_of(ASKED), ("one", "other")
    replies = [
        (await house.ask(replace(ASKED, refresh=True), engine(answer))).answer
        for house, answer in zip((first, second), answers, strict=True)
    ]
    for _ in range(20):
        vector = await first.sessions.cache.embed(key)
        await asyncio.gather(
            *(
                house.sessions.cache.store(key, answer, vector)
                for house, answer in zip((first, second), replies, strict=True)
            )
        )
        found = {(await house.ask(q)).answer.text for house in (first, second) for q in (ASKED, REWORDED)}
        assert len(found) == 1
        assert found <= set(answers)


# A Redis that is not itself


@pytest.fixture
async def own(
    redis_port_server: PortServer, server_name: str, make_cache: MakeCache, keys: NamespaceKeys
) -> AsyncIterator[tuple[House, RedisServer, Redis]]:
    """A house on a server of this test's own, and a client to work on that."""
    server = redis_port_server(name=server_name)
    clients = [connect(RedisConfig(host="127.0.0.1", port=server.port)) for _ in range(2)]
    yield house_on(clients[0], make_cache, keys), server, clients[1]
    for client in clients:
        await client.aclose()


async def make_full(client: Redis) -> None:
    await client.config_set("maxmemory", 1)


async def make_read_only(client: Redis) -> None:
    await client.replicaof("127.0.0.1", "1")


@pytest.mark.parametrize("harm", [make_full, make_read_only], ids=lambda f: f.__name__)
async def test_a_redis_that_takes_no_writes_while_serving_gives_its_hits_and_works_again_afterwards(
    own: tuple[House, RedisServer, Redis], harm: Callable[[Redis], Awaitable[None]]
) -> None:
    house, _, client = own
    await fill(house)
    await harm(client)
    assert (await house.ask(ASKED)).answer.text == "of the words"
    assert (await house.ask(REWORDED)).source == "semantic"
    new = replace(ASKED, prompt="which wine goes with fish and rice at noon")
    assert await ask(house, new, "of the wine") == "of the wine"
    await client.config_set("maxmemory", 0)
    await client.replicaof("NO", "ONE")
    assert await ask(house, new, "of the wine") == "of the wine"
    assert (await house.ask(new)).source == "exact"
    await assert_right(house)


async def test_a_redis_that_evicts_everything_serves_nothing_wrong(
    own: tuple[House, RedisServer, Redis],
) -> None:
    house, _, client = own
    await fill(house)
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory-policy", "allkeys-random")
    await client.config_set("maxmemory", used + 50_000)
    for number in range(60):
        question = replace(ASKED, prompt=f"a{number} b{number} c{number}")
        said = f"{number} " + " ".join(str(number * at) for at in range(400))
        assert await ask(house, question, said) == said
        assert await ask(house, question, said) == said
    assert (await client.info("stats"))["evicted_keys"] > 0
    await client.config_set("maxmemory", 0)
    await assert_right(house)


async def test_what_is_asked_after_a_restart_that_lost_the_last_second_is_found_again(
    own: tuple[House, RedisServer, Redis], server_name: str
) -> None:
    house, server, client = own
    await ask(house, OTHER, "of the cake")
    await ask(house, ELSEWHERE, "of the other tenant")
    await client.save()
    await ask(house, ASKED, "of the words")  # lost
    assert (await house.ask(REWORDED)).source == "semantic"
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    assert await ask(house, REWORDED, "without Redis") == "without Redis"
    options = ("--port", str(server.port), "--bind", "127.0.0.1")
    restarted = start_redis(server.folder, *options, port=server.port, name=server_name)
    try:
        assert await ask(house, OTHER) == "of the cake"
        new = replace(ASKED, prompt="which wine goes with fish and rice at noon")
        assert await ask(house, new, "of the wine") == "of the wine"
        reworded = replace(new, prompt="which wine goes well with fish and rice at noon")
        assert (await house.ask(reworded)).source == "semantic"
        await assert_right(house)
    finally:
        restarted.kill()


async def test_a_replica_that_takes_over_serves_what_it_had_and_learns_the_rest(
    redis_port_server: PortServer, server_name: str, make_cache: MakeCache, keys: NamespaceKeys
) -> None:
    primary = redis_port_server("--repl-diskless-sync-delay", "0", name=server_name)
    replica = redis_port_server("--replicaof", "127.0.0.1", str(primary.port), name=server_name)
    async with redis_relay(primary.port) as relay:
        client = connect(RedisConfig(host="127.0.0.1", port=relay.port))
        aside = connect(RedisConfig(host="127.0.0.1", port=replica.port))
        house = house_on(client, make_cache, keys)
        await ask(house, OTHER, "of the cake")

        async def has_it() -> bool:
            return len(await aside.keys("test:response:*")) == 1

        await until(has_it)
        await aside.replicaof("127.0.0.1", "1")  # it hears of nothing more
        await fill(house)
        primary.kill()
        await aside.replicaof("NO", "ONE")
        await relay.lead_to(replica.port)
        await assert_right(house)
        await client.aclose()
        await aside.aclose()


async def test_answers_that_come_too_late_are_never_those_of_another_question(
    redis_port_server: PortServer, server_name: str, make_cache: MakeCache, keys: NamespaceKeys
) -> None:
    server = redis_port_server(name=server_name)
    async with redis_relay(server.port) as relay:
        client = connect(RedisConfig(host="127.0.0.1", port=relay.port, timeout=1.5))
        house = house_on(client, make_cache, keys)
        await fill(house)
        for _ in range(2):
            relay.answers.clear()
            late = await asyncio.gather(
                *(ask(house, question, "without Redis") for question in (ASKED, OTHER, REWORDED, ELSEWHERE))
            )
            assert set(late) == {"without Redis"}
            relay.answers.set()
            await assert_right(house)
        await client.aclose()


# Names


NAMES = ["a:b", "a", "b", "*", "a*", "{a}", "{", "}", "a\nb", "[a-z]", "?", "\\", "ä", " "]
NAMES += ["t" * 10_000, "t" * 9_999]


async def test_tenants_with_any_name_have_their_own_answers(
    house: House, redis_client: Redis, keys: NamespaceKeys, make_index: MakeIndex
) -> None:
    for name in NAMES:
        for question in (ASKED, OTHER):
            said = f"{question.prompt} for {name}"
            assert await ask(house, replace(question, tenant=name), said) == said
    for name in NAMES:
        said = f"{ASKED.prompt} for {name}"
        assert (await house.ask(replace(ASKED, tenant=name))).answer.text == said
        assert (await house.ask(replace(REWORDED, tenant=name))).answer.text == said

    async def source(embedder: str, dimensions: int) -> Any:
        return make_index(redis_client, keys, embedder=embedder, dimensions=dimensions, lifetime=7200.0)

    catalog = Catalog(redis_client, keys, source)
    assert await catalog.count() == 2 * len(NAMES)
    assert await catalog.clear() == 2 * len(NAMES)
    assert await all_keys(redis_client) == []
