"""`llmhost cache reindex`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import redis
import yaml
from plugins.cli import Ran
from plugins.redis_servers import ServerOf

from llmhost.cache import reindex
from llmhost.cache.models import Answer
from llmhost.cache.stored import StoredEntry, pack_entry

Cli = Callable[..., Ran]

pytestmark = pytest.mark.usefixtures("scripted")


@pytest.fixture
def store(server_of: ServerOf) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(server_of("redis-8.2").socket))


@pytest.fixture
def configured(cli: Cli, server_of: ServerOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs `llmhost cache reindex ARGS…` on this Redis, without the wait for other processes."""
    monkeypatch.setattr(reindex, "Reindexer", partial(reindex.Reindexer, period=0.0))
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump({"redis": {"url": f"unix://{server_of('redis-8.2').socket}"}}))
    return lambda *args: cli("--config", str(path), "cache", "reindex", *args)


def test_an_empty_cache_gets_the_best_index(configured: Cli, store: redis.Redis) -> None:
    store.hset("cache:layout", "index", "flat")
    done = configured("--json").json
    assert (done["before"], done["index"], done["entries"]) == ("flat", "vector_set", 0)
    assert store.hgetall("cache:layout") == {b"index": b"vector_set"}


def test_it_says_what_it_does_and_what_came_of_it(
    configured: Cli, store: redis.Redis, answer: Callable[..., Answer]
) -> None:
    stored = StoredEntry("what is this", "b" * 32, "words", 512, answer())
    store.set(f"cache:response:{'a' * 32}", pack_entry(stored))
    ran = configured("--index", "flat")
    assert "moving entries …" in ran.stderr
    assert ran.stdout.startswith("1 entry in the index flat: 1 added, 1 of them embedded again, 0 brought")
    assert store.exists(f"cache:flat:words:{'b' * 32}")


@pytest.mark.parametrize(
    ("args", "fixed", "words"),
    [
        (("--index", "best"), "auto", "there is no index 'best'"),
        (("--index", "flat"), "vector_set", "`cache.index` is vector_set, so that flat would not be used"),
        (("--index", "query_engine"), "auto", "this Redis does not have the index query_engine"),
    ],
)
def test_an_index_that_cannot_be_is_refused(
    configured: Cli, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], fixed: str, words: str
) -> None:
    monkeypatch.setenv("LLMHOST_CACHE__INDEX", fixed)
    ran = configured(*args)
    assert (ran.code, words in ran.stderr) == (2, True)
