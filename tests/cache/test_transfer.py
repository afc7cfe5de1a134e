"""Entries go to a file and come back as they were."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from doubles.embedders import WordEmbedder

from llmhost.cache import transfer, walk
from llmhost.cache.contracts import Index
from llmhost.cache.keys import CacheKey
from llmhost.cache.limits import CacheLimits
from llmhost.cache.models import Answer, Hit
from llmhost.cache.service import SemanticCache
from llmhost.cache.stored import StoredEntry, pack_entry, read_entries
from llmhost.cache.transfer import Exporter, Importer
from llmhost.errors import PartialError, UsageError
from llmhost.store.keys import NamespaceKeys

if TYPE_CHECKING:
    from plugins.cache import MakeIndex
    from redis.asyncio import Redis

MakeKey = Callable[..., CacheKey]
MakeAnswer = Callable[..., Answer]
Exported = Callable[..., Any]

#: what a file, a JSON line and a key of Redis may stumble over
ODD = "what is\n“this”:*{} \u2028 \x00 \u00e9"


@pytest.fixture
def index_source(redis_client: Redis, keys: NamespaceKeys, make_index: MakeIndex) -> Any:
    made: dict[tuple[str, int], Index] = {}

    async def index(embedder: str, dimensions: int) -> Index:
        if (embedder, dimensions) not in made:
            made[embedder, dimensions] = make_index(
                redis_client, keys, embedder=embedder, dimensions=dimensions, lifetime=60.0
            )
        return made[embedder, dimensions]

    return index


@pytest.fixture
def export(redis_client: Redis, keys: NamespaceKeys, index_source: Any) -> Exported:
    async def lines(**options: Any) -> list[str]:
        exporter = Exporter(redis_client, keys, index_source=index_source, **options)
        return [line async for line in exporter.lines()]

    return lines


@pytest.fixture
def importer(redis_client: Redis, keys: NamespaceKeys, index_source: Any, embedder: WordEmbedder) -> Importer:
    async def source() -> WordEmbedder:
        return embedder

    return Importer(redis_client, keys, embedder_source=source, index_source=index_source, counts_ttl=7200.0)


def file_of(lines: Sequence[str]) -> io.BytesIO:
    return io.BytesIO("".join(line + "\n" for line in lines).encode())


async def state(client: Redis, keys: NamespaceKeys) -> dict[bytes, Any]:
    """Entries and counts, and what is left of their lives to 10 s."""
    kept: dict[Any, Any] = {}
    for key in await client.keys("test:[rm]e*"):
        value: Any = await (client.hgetall(key) if b":metadata:" in key else client.get(key))
        kept[key] = (value, round(await client.ttl(key), -1))
    return kept


@pytest.mark.parametrize("vectors", [False, True])
async def test_entries_come_back_with_counts_and_lifetimes_and_are_found_again(
    cache: SemanticCache,
    key: MakeKey,
    answer: MakeAnswer,
    redis_client: Redis,
    keys: NamespaceKeys,
    embedder: WordEmbedder,
    export: Exported,
    importer: Importer,
    monkeypatch: pytest.MonkeyPatch,
    vectors: bool,
) -> None:
    monkeypatch.setattr(walk, "BATCH", 4)
    for number in range(10):
        stored = key(f"question number {number}")
        await cache.store(stored, answer(f"answer {number}"), await cache.embed(stored))
    await cache.store(key("w " * 60), answer(), None)  # longer than the embedder reads
    odd = key(ODD, person="x")
    await cache.store(odd, answer(ODD), await cache.embed(odd))
    await cache.touch(*[Hit(key("question number 3").entry, 1_800_000_000.5)] * 3)
    await cache.count_audit(key("question number 3").entry, right=True)
    await redis_client.expire(keys.response(key("question number 4").entry), 500)
    before = await state(redis_client, keys)
    lines = await export(vectors=vectors)
    assert (json.loads(lines[0]), json.loads(lines[-1])) == ({"llmhost_cache": 1}, {"entries": 12})
    await redis_client.flushall()
    embedder.calls = 0
    done = await importer.run("file", file_of(lines))
    assert (done.imported, done.kept, done.embedded) == (12, 0, 1 if vectors else 12)
    assert embedder.calls == done.embedded
    assert await state(redis_client, keys) == before
    nearest = (await cache.semantic(key("question number 7 please"))).nearest
    assert nearest is not None
    assert nearest.question == "question number 7"


async def test_what_is_in_the_cache_already_stays_as_it_is(
    cache: SemanticCache, key: MakeKey, answer: MakeAnswer, export: Exported, importer: Importer
) -> None:
    stored = key("a question")
    await cache.store(stored, answer("old"), await cache.embed(stored))
    lines = await export()
    await cache.store(stored, answer("new"), await cache.embed(stored))
    done = await importer.run("file", file_of(lines))
    assert (done.imported, done.kept, done.embedded) == (0, 1, 0)
    found = await cache.exact(stored)
    assert found is not None
    assert found.text == "new"


async def test_an_import_keeps_to_the_limits_of_the_cache_and_what_was_used_last_stays(
    redis_client: Redis,
    keys: NamespaceKeys,
    key: MakeKey,
    answer: MakeAnswer,
    cache: SemanticCache,
    export: Exported,
    importer: Importer,
) -> None:
    now = time.time()
    questions = [key(f"question number {number}") for number in range(4)]
    for age, stored in enumerate(questions):
        await cache.store(stored, replace(answer(), timestamp=now - 100 - age), await cache.embed(stored))
    await cache.touch(Hit(questions[3].entry, now - 50))
    lines = await export()
    await redis_client.flushall()
    cache.limits = importer.limits = CacheLimits(redis_client, keys, 3, 0, lifetime=1e6)
    own = key("a question of its own")
    await cache.store(own, replace(answer(), timestamp=now - 200), await cache.embed(own))

    assert (await importer.run("file", file_of(lines))).imported == 4

    kept = [bool(await cache.exact(stored)) for stored in (own, *questions)]
    assert kept == [False, True, True, False, True]
    _, index = await cache.embedder_source()
    found = await index.vectors(own.scope, [one.entry for one in (own, *questions)])
    assert [vector is not None for vector in found] == kept


async def test_an_imported_entry_counts_for_as_long_as_it_lives(
    redis_client: Redis,
    keys: NamespaceKeys,
    key: MakeKey,
    answer: MakeAnswer,
    cache: SemanticCache,
    export: Exported,
    importer: Importer,
) -> None:
    now = time.time()
    for text, stored_at in (("of long ago", now - 1e6), ("of tomorrow", now + 1e6)):
        await cache.store(key(text), replace(answer(), timestamp=stored_at), None)
    lines = await export()
    await redis_client.flushall()
    cache.limits = importer.limits = CacheLimits(redis_client, keys, 100, 0, lifetime=86_400.0)
    await importer.run("file", file_of(lines))
    await cache.store(key("of now"), replace(answer(), timestamp=now), None)
    assert await redis_client.zcard(keys.recent) == 3


async def test_vectors_of_another_model_and_damaged_ones_are_not_used(
    redis_client: Redis,
    keys: NamespaceKeys,
    key: MakeKey,
    answer: MakeAnswer,
    cache: SemanticCache,
    export: Exported,
    importer: Importer,
) -> None:
    for number in range(5):
        stored = key(f"question number {number}")
        await cache.store(stored, answer(), await cache.embed(stored))
    head, first, second, third, fourth, fifth, end = await export(vectors=True)
    vector = np.frombuffer(base64.b64decode(json.loads(first)["vector"]), dtype="<f4")
    too_long = base64.b64encode((vector * np.float32(1.00499)).tobytes()).decode()
    endless = base64.b64encode((vector * np.float32(1e30)).tobytes()).decode()
    first = json.dumps(json.loads(first) | {"embedder": "another"})
    second = json.dumps(json.loads(second) | {"vector": "AAAA"})
    third = json.dumps(json.loads(third) | {"vector": "A" * 2731 + "="})
    fourth = json.dumps(json.loads(fourth) | {"vector": too_long})
    fifth = json.dumps(json.loads(fifth) | {"vector": endless})
    await redis_client.flushall()
    done = await importer.run("file", file_of([head, first, second, third, fourth, fifth, end]))
    assert (done.imported, done.embedded) == (5, 5)
    for entry in await read_entries(
        redis_client, keys, [key(f"question number {number}").entry for number in range(5)]
    ):
        assert entry is not None
        assert (entry.embedder, entry.dimensions) == ("words", 512)


@pytest.mark.parametrize(
    ("cut", "words", "imported"),
    [
        (lambda whole: whole[: len(whole) - 40], "line 4 is no entry, the file was cut off", 2),
        (lambda whole: b"".join(whole.splitlines(keepends=True)[:3]), "ends before its last line", 2),
        (lambda whole: whole.replace(b'"entries":3', b'"entries":5'), "has 3 entries and says 5", 3),
        (lambda whole: whole.replace(b'"answer"', b'"nonsense"', 1), "line 2 is no entry", 0),
    ],
    ids=["within a line", "between two lines", "in the middle", "damaged"],
)
async def test_a_file_that_was_cut_off_gives_what_stands_before_and_says_so(
    redis_client: Redis,
    cache: SemanticCache,
    key: MakeKey,
    answer: MakeAnswer,
    export: Exported,
    importer: Importer,
    cut: Callable[[bytes], bytes],
    words: str,
    imported: int,
) -> None:
    for number in range(3):
        stored = key(f"question number {number}")
        await cache.store(stored, answer(), await cache.embed(stored))
    whole = file_of(await export()).getvalue()
    await redis_client.flushall()
    with pytest.raises(PartialError, match=words) as raised:
        await importer.run("file", io.BytesIO(cut(whole)))
    assert f"{imported} imported" in raised.value.message
    assert len(await redis_client.keys("test:response:*")) == imported


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ('{"llmhost_cache": 2}', "is of version 2, and this llmhost reads version 1"),
        ('{"question": "q"}', "is no export of a cache"),
        ("", "is no export of a cache"),
        ("\x00\x01", "is no export of a cache"),
    ],
)
async def test_another_file_or_version_is_refused(importer: Importer, head: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        await importer.run("file", file_of([head]))


HOSTILE: dict[str, list[Any]] = {
    "answer": ["no", "answer", {"response": 5}, None, "[" * 50_000],
    "scope": ["../x", "*", "a" * 31, "A" * 32, "a" * 32 + "\n", 5, None],
    "question": [5, None, ["q"]],
    "embedder": [5, None],
    "expires_in_s": [0, -1, 1e300, float("nan"), True, "60"],
    "counts": [5, "many"],
}


@pytest.mark.parametrize(("name", "value"), [(name, one) for name in HOSTILE for one in HOSTILE[name]])
async def test_a_line_that_is_no_entry_of_ours_ends_the_import_and_writes_nothing(
    redis_client: Redis,
    cache: SemanticCache,
    key: MakeKey,
    answer: MakeAnswer,
    export: Exported,
    importer: Importer,
    name: str,
    value: Any,
) -> None:
    stored = key("what is this")
    await cache.store(stored, answer(), await cache.embed(stored))
    head, line, end = await export()
    await redis_client.flushall()
    nested = value if isinstance(value, str) and value.startswith("[[") else None
    hostile = json.dumps(json.loads(line) | {name: value})
    if nested:
        hostile = hostile.replace(f'"{nested}"', nested)
    with pytest.raises(PartialError, match="line 2 is no entry"):
        await importer.run("file", file_of([head, hostile, end]))
    assert await redis_client.keys("test:*") == []


@pytest.mark.parametrize("depth", range(850, 1000, 10))
async def test_a_line_that_is_nested_as_deeply_as_can_be_is_an_entry_or_is_none(
    importer: Importer, depth: int
) -> None:
    line = f'{{"question": "q", "answer": {"[" * depth}{"]" * depth}}}'
    with pytest.raises(PartialError, match="line 2 is no entry"):
        await importer.run("file", file_of(['{"llmhost_cache": 1}', line]))


async def test_long_lines_are_stored_a_few_at_a_time(
    redis_client: Redis,
    cache: SemanticCache,
    key: MakeKey,
    answer: MakeAnswer,
    export: Exported,
    importer: Importer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "_MOST_BYTES", 10_000)
    for number in range(9):
        stored = key(f"question number {number}")
        await cache.store(stored, answer("long " * 800), await cache.embed(stored))
    lines = await export()
    await redis_client.flushall()
    parts: list[int] = []
    importer.tell = lambda done: parts.append(done.imported)
    await importer.run("file", file_of(lines))
    assert parts == [3, 6, 9]


async def test_an_export_passes_by_what_is_no_entry(
    redis_client: Redis, keys: NamespaceKeys, answer: MakeAnswer, export: Exported
) -> None:
    await redis_client.set(keys.response("a" * 32), "garbage")
    await redis_client.hset(keys.response("b" * 32), "gar", "bage")
    await redis_client.set(
        keys.response("c" * 32), pack_entry(StoredEntry("q", "../x", "e", 8, answer())), ex=60
    )
    assert [json.loads(line) for line in await export()] == [{"llmhost_cache": 1}, {"entries": 0}]
