"""What every index must do, on each server that it runs on. An index joins by adding itself to `BACKENDS`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plugins.redis_servers import ClientOf, PortServer
from redis.asyncio.connection import AbstractConnection

from llmhost.cache.contracts import Index
from llmhost.cache.indexes.flat import FlatIndex
from llmhost.cache.indexes.query_engine import QueryEngineIndex
from llmhost.cache.indexes.vector_set import VectorSetIndex
from llmhost.cache.models import Neighbour
from llmhost.cache.service import _TURNS_TO_SEND
from llmhost.config.models import RedisConfig
from llmhost.errors import ModelError, StoreError, StoreRefused
from llmhost.store.client import connect, is_sharded, text
from llmhost.store.cluster import ClusterClient
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from redis.asyncio import Redis

DIMENSIONS = 8
A, B, C, D = ("a" * 32, "b" * 32, "c" * 32, "d" * 32)

MakeIndex = Callable[..., Index]

#: The index, and the server that it runs on. `moving`: a scope of two entries gets a vector set.
BACKENDS: dict[str, tuple[MakeIndex, str]] = {
    "flat on 6.2": (FlatIndex, "redis-6.2"),
    "flat on the system's": (FlatIndex, "system"),
    "flat on Valkey": (FlatIndex, "valkey-9.1"),
    "flat on 8.2": (FlatIndex, "redis-8.2"),
    "vector_set, small": (VectorSetIndex, "redis-8.2"),
    "vector_set, moving": (partial(VectorSetIndex, most_in_log=1), "redis-8.2"),
    "vector_set, large": (partial(VectorSetIndex, most_in_log=0), "redis-8.2"),
    "vector_set, spread": (partial(VectorSetIndex, most_in_log=1, shards=3), "redis-8.2"),
    "query_engine": (QueryEngineIndex, "redis-8.2-search"),
    "flat on a cluster": (FlatIndex, "cluster"),
    "vector_set on a cluster": (partial(VectorSetIndex, most_in_log=1, shards=3), "cluster"),
}
#: those that a test can stop
ALONE = [name for name, (_, server) in BACKENDS.items() if server != "cluster"]


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest) -> tuple[MakeIndex, str]:
    return BACKENDS[request.param]


@pytest.fixture
def client(server: tuple[MakeIndex, str], request: pytest.FixtureRequest, client_of: ClientOf) -> Redis:
    return request.getfixturevalue("cluster_client") if server[1] == "cluster" else client_of(server[1])


@pytest.fixture
def keys(client: Redis) -> NamespaceKeys:
    return NamespaceKeys("test", is_sharded(client))


@pytest.fixture
def backend(server: tuple[MakeIndex, str], client: Redis, keys: NamespaceKeys) -> MakeIndex:
    """Makes an index as a new process would."""
    return lambda embedder="e", dimensions=DIMENSIONS, client=client: server[0](
        client, keys, embedder=embedder, dimensions=dimensions, lifetime=60.0
    )


@pytest.fixture
def index(backend: MakeIndex) -> Index:
    return backend()


async def search(index: Index, vector: NDArray[np.float32], k: int = 3, scope: str = "s") -> list[Neighbour]:
    """A lookup as the cache does it."""
    await index.prepare(scope)
    return list(await index.search(scope, vector, k))


async def entries(index: Index, vector: NDArray[np.float32], k: int = 3, scope: str = "s") -> list[str]:
    return [near.entry for near in await search(index, vector, k, scope)]


def unit(*numbers: float) -> NDArray[np.float32]:
    vector = np.zeros(DIMENSIONS, dtype=np.float32)
    vector[: len(numbers)] = numbers
    return vector / np.linalg.norm(vector)


def axis(number: int) -> NDArray[np.float32]:
    return np.eye(DIMENSIONS, dtype=np.float32)[number]


async def test_the_k_nearest_come_first_with_their_cosine(index: Index) -> None:
    await index.add("s", A, unit(1, 0))
    await index.add("s", B, unit(1, 1))
    await index.add("s", C, unit(0, 1))
    found = await search(index, unit(1, 0), 2)
    assert [near.entry for near in found] == [A, B]
    assert [near.similarity for near in found] == pytest.approx([1.0, 0.7071], abs=0.002)


async def test_a_process_is_told_whether_a_scope_has_entries_before_it_searches(
    request: pytest.FixtureRequest, backend: MakeIndex
) -> None:
    index, other = backend(), backend()
    before = await index.prepare("s")
    await other.add("s", A, unit(1))
    assert await index.prepare("s")
    assert not before or request.node.callspec.params["server"] == "query_engine"


async def test_the_opposite_direction_has_the_cosine_minus_one(index: Index) -> None:
    await index.add("s", A, unit(1))
    (found,) = await search(index, unit(-1))
    assert found.similarity == pytest.approx(-1.0, abs=0.002)


async def test_scopes_never_see_each_other(index: Index) -> None:
    await index.add("one", A, unit(1))
    await index.add("other", B, unit(0, 1))
    assert await entries(index, unit(1), scope="other") == [B]
    assert await entries(index, unit(1), scope="third") == []


async def test_a_crowded_scope_does_not_hide_a_small_one(index: Index) -> None:
    for number in range(40):
        await index.add("crowded", f"{number:032x}", unit(1, number / 1000))
    await index.add("small", A, unit(0, 1))
    assert await entries(index, unit(1), 8, scope="small") == [A]


async def test_embedders_never_see_each_other(backend: MakeIndex) -> None:
    await backend("old").add("s", A, unit(1))
    assert await search(backend("new"), unit(1)) == []


async def names_in(client: Redis) -> list[bytes]:
    return [name async for name in client.scan_iter(match="test:*")]


async def test_whatever_it_keeps_expires(index: Index, client: Redis) -> None:
    for entry in (A, B, C):
        await index.add("s", entry, unit(1))
    names = await names_in(client)
    assert names
    for name in names:
        assert 0 < await client.pttl(name) <= 60_000


async def test_entries_are_removed_and_unknown_ones_ignored(index: Index) -> None:
    for entry in (A, B, C):
        await index.add("s", entry, unit(1))
    await index.remove("s", [A, D, C])
    await index.remove("none", [A])
    await index.remove("s", [])
    assert await entries(index, unit(1)) == [B]


async def test_a_new_vector_takes_the_place_of_the_old_one_in_every_process(backend: MakeIndex) -> None:
    first, second = backend(), backend()
    for process in (first, second):
        await process.add("s", B, unit(0, 0, 1))
        await process.add("s", C, unit(0, 0, 1))
    await first.add("s", A, unit(1))
    await second.add("s", A, unit(0, 1))
    for process in (first, second, backend()):
        (found,) = [near for near in await search(process, unit(0, 1)) if near.entry == A]
        assert found.similarity == pytest.approx(1.0, abs=0.002)


async def test_two_writers_of_one_entry_make_it_findable_once(backend: MakeIndex) -> None:
    processes = [backend() for _ in range(4)]
    for number in range(3):
        await asyncio.gather(*(process.add("s", A, unit(1)) for process in processes))
        await processes[number].add("s", f"{number:032x}", unit(0, 1))
    assert (await entries(backend(), unit(1), 9)).count(A) == 1
    assert len(await entries(backend(), unit(1), 9)) == 4


async def test_many_writers_at_once_lose_and_double_nothing(backend: MakeIndex) -> None:
    wanted = {f"{number:032x}": unit(1, number / 40) for number in range(40)}
    processes = [backend() for _ in range(4)]

    async def write(process: Index, part: int) -> None:
        for entry, vector in list(wanted.items())[part::4]:
            await process.add("s", entry, vector)

    await asyncio.gather(*(write(process, part) for part, process in enumerate(processes)))
    found = await entries(backend(), unit(1), 100)
    assert sorted(found) == sorted(wanted)


async def test_what_is_kept_of_a_vector_can_be_read_again(index: Index) -> None:
    kept = {A: unit(1, 2, -3), B: unit(0, 1), C: unit(-1, 0.5)}
    for entry, vector in kept.items():
        await index.add("s", entry, vector)
    *known, unknown = await index.vectors("s", [*kept, D])
    assert unknown is None
    for vector, original in zip(known, kept.values(), strict=True):
        assert np.linalg.norm(vector) == pytest.approx(1.0, abs=0.001)
        assert vector == pytest.approx(original, abs=0.01)
    assert await index.vectors("other", [A]) == [None]
    assert await index.vectors("s", []) == []


BAD = {
    "of fewer dimensions": unit(1)[:-1],
    "of more dimensions": np.append(unit(1), np.float32(0)),
    "zero": np.zeros(DIMENSIONS, dtype=np.float32),
    "with NaN": np.array([np.nan, *unit(1)[1:]], dtype=np.float32),
    "with infinity": np.array([np.inf, *unit(1)[1:]], dtype=np.float32),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_a_vector_that_is_none_is_refused_and_the_next_one_found(
    index: Index, client: Redis, bad: NDArray[np.float32]
) -> None:
    with pytest.raises(ModelError):
        await index.add("s", A, bad)
    assert await names_in(client) == []
    await index.add("s", B, unit(1))
    with pytest.raises(ModelError):
        await search(index, bad)
    assert await entries(index, unit(1)) == [B]


async def emptied(client: Redis) -> None:
    nodes = (await client.masters()).values() if isinstance(client, ClusterClient) else [client]
    for node in nodes:
        await node.flushall()


async def evicted(client: Redis) -> None:
    for name in await names_in(client):
        await client.unlink(name)


@pytest.mark.parametrize("vanish", [emptied, evicted])
async def test_an_index_that_vanished_is_empty_and_can_be_filled_anew(
    index: Index, client: Redis, vanish: Callable[[Redis], Coroutine[Any, Any, None]]
) -> None:
    for entry in (A, C):
        await index.add("s", entry, unit(1))
    await index.prepare("s")
    await vanish(client)
    assert set(await found_or_missed(index)) <= {A, C}  # what a process has read before is no error
    assert await search(index, unit(1)) == []
    await index.add("s", B, unit(1))
    assert await entries(index, unit(1)) == [B]


async def found_or_missed(index: Index) -> Sequence[str]:
    return [near.entry for near in await index.search("s", unit(1), 3)]


async def put_a_string(client: Redis, name: str) -> None:
    await client.set(name, "something else")


async def put_a_list(client: Redis, name: str) -> None:
    await client.rpush(name, "something", "else")


@pytest.mark.parametrize("garbage", [put_a_string, put_a_list])
async def test_garbage_in_a_key_is_refused_with_a_hint_or_not_found(
    index: Index, client: Redis, garbage: Callable[[Redis, str], Coroutine[Any, Any, None]]
) -> None:
    for entry in (A, B, C):
        await index.add("s", entry, unit(1))
    for name in await names_in(client):
        await client.delete(name)
        await garbage(client, text(name))
    hints = []
    for step in (
        partial(search, index, unit(1)),
        partial(index.add, "s", A, unit(1)),
        partial(index.vectors, "s", [A]),
    ):
        try:
            assert await step() in ([], [None])
        except StoreRefused as error:
            hints.append(error.hint)
    assert hints
    assert all(hints)
    await evicted(client)
    await index.add("s", A, unit(1))
    assert await entries(index, unit(1)) == [A]


@pytest.mark.parametrize("server", ALONE, indirect=True)
@pytest.mark.parametrize("method", ["prepare", "search", "add", "remove", "vectors"])
async def test_a_redis_that_went_away_is_an_error_of_ours(
    server: tuple[MakeIndex, str], redis_port_server: PortServer, method: str
) -> None:
    redis = redis_port_server(name=server[1])
    client = connect(RedisConfig(host="127.0.0.1", port=redis.port))
    index = server[0](client, NamespaceKeys("test"), embedder="e", dimensions=DIMENSIONS, lifetime=60.0)
    for entry in (A, B, C):
        await index.add("s", entry, unit(1))
    await index.prepare("s")
    redis.kill()
    steps: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "prepare": lambda: index.prepare("s"),
        "search": lambda: search(index, unit(1)),
        "add": lambda: index.add("s", D, unit(1)),
        "remove": lambda: index.remove("s", [A]),
        "vectors": lambda: index.vectors("s", [A]),
    }
    needs_no_redis = method == "prepare" and isinstance(index, QueryEngineIndex)
    if needs_no_redis:
        await steps[method]()
    else:
        with pytest.raises(StoreError):
            await steps[method]()
    await client.aclose()


@pytest.mark.parametrize("server", ALONE, indirect=True)
async def test_a_full_redis_refuses_additions_and_goes_on_searching(
    server: tuple[MakeIndex, str], redis_port_server: PortServer
) -> None:
    redis = redis_port_server(name=server[1])
    client = connect(RedisConfig(host="127.0.0.1", port=redis.port))
    index = server[0](client, NamespaceKeys("test"), embedder="e", dimensions=DIMENSIONS, lifetime=60.0)
    for entry in (A, B):
        await index.add("s", entry, unit(1))
    await client.config_set("maxmemory", 1)
    with pytest.raises(StoreRefused, match="out of memory"):
        await index.add("s", C, unit(1))
    assert sorted(await entries(index, unit(1))) == [A, B]
    await client.config_set("maxmemory", 0)
    await index.add("s", C, unit(1))
    assert sorted(await entries(index, unit(1))) == [A, B, C]
    await client.aclose()


STEPS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["add", "remove", "search"]),
        st.sampled_from([A, B, C, D]),
        st.integers(0, DIMENSIONS - 1),
        st.sampled_from(["s", "t"]),
    ),
    max_size=14,
)


@settings(max_examples=25)
@given(steps=STEPS)
async def test_whatever_two_processes_did_only_what_is_left_is_found(
    backend: MakeIndex, client: Redis, steps: list[tuple[int, str, str, int, str]]
) -> None:
    await emptied(client)
    processes, expected = [backend(), backend()], {}
    for number, action, letter, direction, scope in steps:
        entry = letter[1:] + ("0" if scope == "s" else "1")  # an entry belongs to one scope
        if action == "add":
            await processes[number].add(scope, entry, axis(direction))
            expected[entry] = scope, direction
        elif action == "remove":
            await processes[number].remove(scope, [entry])
            expected.pop(entry, None)
        else:
            await processes[number].prepare(scope)
    for process in (*processes, backend()):
        for scope in ("s", "t"):
            for direction in range(DIMENSIONS):
                found = await search(process, axis(direction), 8, scope)
                same = sorted(near.entry for near in found if near.similarity > 0.5)
                assert same == sorted(entry for entry, at in expected.items() if at == (scope, direction))


class RoundTrips:
    """Counts how often a client waits for Redis: what is under way at the same time counts once."""

    def __init__(self, client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = self._under_way = 0
        for owner, method in ((type(client), "execute_command"), (type(client.pipeline()), "execute")):
            monkeypatch.setattr(owner, method, self._counted(getattr(owner, method)))

    def _counted(self, method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        async def counted(*arguments: Any, **options: Any) -> Any:
            self.count += not self._under_way
            self._under_way += 1
            try:
                return await method(*arguments, **options)
            finally:
                self._under_way -= 1

        return counted

    async def of(self, step: Coroutine[Any, Any, Any]) -> int:
        self.count = 0
        await step
        return self.count


#: of `prepare`, `search` and `add`, at most
ROUND_TRIPS = {
    "flat on 8.2": (1, 0, 1),
    "vector_set, small": (1, 0, 1),
    "vector_set, large": (1, 1, 1),
    "query_engine": (0, 1, 1),
}


@pytest.mark.parametrize("server", BACKENDS, indirect=True)
async def test_a_search_waits_for_redis_once_at_most(
    request: pytest.FixtureRequest, index: Index, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for entry in (A, B, C):
        await index.add("s", entry, unit(1))
    await index.prepare("s")
    trips = RoundTrips(client, monkeypatch)
    name = request.node.callspec.params["server"]
    most = ROUND_TRIPS.get(name, (1, 1, 1))
    assert await trips.of(index.prepare("s")) <= most[0]
    assert await trips.of(index.search("s", unit(1), 3)) <= most[1]
    assert await trips.of(index.add("s", D, unit(1))) <= most[2]


async def test_what_a_search_needs_is_asked_for_before_the_embedding_begins(
    index: Index, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await index.add("s", A, unit(1))
    await asyncio.gather(*(client.ping() for _ in range(4)))  # connections for what is asked for at once
    send, sent = AbstractConnection.send_packed_command, []

    async def counted(*arguments: Any, **options: Any) -> None:
        await send(*arguments, **options)
        sent.append(arguments)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
    prepared = asyncio.ensure_future(index.prepare("s"))
    for _ in range(1 + _TURNS_TO_SEND):
        await asyncio.sleep(0)
    before = len(sent)
    await prepared
    assert len(sent) == before


def rewordings(
    vectors: NDArray[np.float32], rows: NDArray[np.intp], random: np.random.Generator
) -> NDArray[np.float32]:
    """Vectors at a cosine of 0.8 to 0.95 from those of `rows`."""
    noise = unit_rows(random.standard_normal((len(rows), vectors.shape[1])))
    cosines = random.uniform(0.8, 0.95, (len(rows), 1))
    aside = unit_rows(noise - (noise * vectors[rows]).sum(axis=1, keepdims=True) * vectors[rows])
    return unit_rows(cosines * vectors[rows] + np.sqrt(1 - cosines**2) * aside)


def unit_rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["flat on 8.2", "vector_set, small", "query_engine"], indirect=True)
async def test_among_thousands_a_question_is_found_by_its_rewordings(backend: MakeIndex) -> None:
    random = np.random.default_rng(7)
    subjects = unit_rows(random.standard_normal((100, 384)))
    chosen = subjects[random.integers(0, 100, 10_000)]
    vectors = unit_rows(0.6**0.5 * chosen + 0.4**0.5 * unit_rows(random.standard_normal((10_000, 384))))
    index = backend(dimensions=384)
    for row, vector in enumerate(vectors):
        await index.add("s", f"{row:032x}", vector)
    questions = rewordings(vectors, random.integers(0, 10_000, 300), random)
    right = 0
    for question in questions:
        (near,) = await search(index, question, 1)
        right += int(near.entry, 16) == int(np.argmax(vectors @ question))
    assert right / len(questions) >= 0.99
