"""The cache as wired: what the fleet serves under a model's name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.answering.question import make_question
from llmhost.config.models import Config
from llmhost.engines.engine import Message
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
