"""The cache as wired: what the fleet serves under a model's name, and the index of this server."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from plugins.redis_servers import ClientOf

from llmhost.answering.question import make_question
from llmhost.config.models import Config, RedisConfig
from llmhost.engines.engine import Message
from llmhost.errors import StoreUnavailable
from llmhost.store.client import connect
from llmhost.wiring.questions import CacheParts

if TYPE_CHECKING:
    from redis.asyncio import Redis

ASKED = [Message("user", "What is Redis?")]


async def place(config: Config, client: Redis) -> str:
    """The entry that a question is looked up under, without any worker."""
    digest = await CacheParts(config, print).weights(client).digest(config.engine.model)
    key = make_question(config, ASKED).key(digest)
    assert key is not None
    return key.entry


async def test_another_file_under_the_same_name_has_its_own_answers_without_any_worker(
    redis_client: Redis, tmp_path: Path
) -> None:
    places = []
    for name, contents in (("a.gguf", b"one"), ("b.gguf", b"two"), ("c.gguf", b"one")):
        (tmp_path / name).write_bytes(contents)
        config = Config.model_validate({"engine": {"model": "m", "model_path": str(tmp_path / name)}})
        places.append(await place(config, redis_client))
    assert places[0] != places[1]
    assert places[0] == places[2]


async def test_the_digest_of_a_local_file_is_the_one_that_its_workers_say(
    redis_client: Redis, tmp_path: Path
) -> None:
    (tmp_path / "a.gguf").write_bytes(b"one")
    config = Config.model_validate({"engine": {"model_path": str(tmp_path / "a.gguf")}})
    digest = await CacheParts(config, print).weights(redis_client).digest("a")
    assert digest == hashlib.sha256(b"one").hexdigest()


async def test_servers_without_digests_share_answers_within_their_fleet_alone(redis_client: Redis) -> None:
    def config(fleet: str, kind: str) -> Config:
        servers = [{"url": "http://127.0.0.1:1"}]
        return Config.model_validate(
            {"fleet": {"name": fleet, "provider": "static", "workers": servers}, "engine": {"kind": kind}}
        )

    fleets = [config("a", "openai"), config("b", "openai"), config("a", "ollama"), config("a", "llama_cpp")]
    places = [await place(fleet, redis_client) for fleet in fleets]
    assert len(set(places)) == len(places)
    assert await place(fleets[0], redis_client) == places[0]


async def test_the_limit_of_the_cache_counts_an_entry_for_as_long_as_its_answer_lives(
    redis_client: Redis,
) -> None:
    lifetimes = {"creative": "5d", "personal": "none"}
    config = Config.model_validate({"cache": {"max_entries": 1, "lifetimes": lifetimes}})
    limits = CacheParts(config, print).cache(redis_client).limits
    assert limits is not None
    assert limits.lifetime == 5 * 86_400


@pytest.mark.parametrize(
    ("name", "kind"),
    [("redis-6.2", "flat"), ("redis-8.2", "vector_set"), ("redis-8.2-search", "vector_set")],
)
async def test_a_cache_uses_the_best_index_of_its_server_and_so_does_what_forgets(
    client_of: ClientOf, name: str, kind: str
) -> None:
    parts, client = CacheParts(Config(), print), client_of(name)
    _, index = await parts.cache(client).embedder_source()
    assert index.kind == kind  # type: ignore[attr-defined]
    assert (await parts.catalog(client).index_source("e", 8)).kind == kind  # type: ignore[attr-defined]


@pytest.mark.parametrize("wanted", ["flat", "vector_set", "query_engine"])
async def test_a_configured_index_is_used(client_of: ClientOf, wanted: str) -> None:
    parts = CacheParts(Config.model_validate({"cache": {"index": wanted}}), print)
    _, index = await parts.cache(client_of("redis-8.2-search")).embedder_source()
    assert index.kind == wanted  # type: ignore[attr-defined]


async def test_questions_at_once_share_one_index_and_ask_redis_once_for_its_kind(client_of: ClientOf) -> None:
    client = client_of("redis-8.2")
    source = CacheParts(Config(), print).cache(client).embedder_source
    pairs = await asyncio.gather(*(source() for _ in range(8)))
    assert len({id(index) for _, index in pairs}) == 1
    assert (await client.info("commandstats"))["cmdstat_hsetnx"]["calls"] == 1


async def test_a_redis_that_is_away_is_asked_again(client_of: ClientOf, refusing_port: int) -> None:
    parts = CacheParts(Config(), print)
    async with connect(RedisConfig(host="127.0.0.1", port=refusing_port)) as away:
        with pytest.raises(StoreUnavailable):
            await parts.cache(away).embedder_source()
    _, index = await parts.cache(client_of("redis-8.2")).embedder_source()
    assert index.kind == "vector_set"  # type: ignore[attr-defined]
