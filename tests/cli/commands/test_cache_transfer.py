"""`llmhost cache export` and `import`, with files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
import yaml
from plugins.cli import Ran
from plugins.redis_servers import RedisServer

from llmhost.cache.models import Answer
from llmhost.cache.stored import StoredEntry, pack_entry

Cli = Callable[..., Ran]

pytestmark = pytest.mark.usefixtures("scripted")


@pytest.fixture
def store(redis_server: RedisServer, answer: Callable[..., Answer]) -> redis.Redis:
    """It has one entry."""
    client = redis.Redis(unix_socket_path=str(redis_server.socket))
    stored = pack_entry(StoredEntry("what is this", "b" * 32, "words", 512, answer()))
    client.set(f"cache:response:{'a' * 32}", stored, ex=600)
    return client


@pytest.fixture
def cache(cli: Cli, redis_server: RedisServer, tmp_path: Path) -> Cli:
    """Runs `llmhost cache ARGS…` on this test's Redis."""
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump({"redis": {"url": f"unix://{redis_server.socket}"}}))
    return lambda *args: cli("--config", str(path), "cache", *args)


def test_a_file_is_for_its_owner_alone_and_takes_the_place_of_an_older_one(
    cache: Cli, store: redis.Redis, tmp_path: Path
) -> None:
    file = tmp_path / "cache.jsonl"
    file.write_text("older")
    file.chmod(0o644)
    assert cache("export", str(file)).stdout == f"Wrote 1 entry to {file}.\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("*cache*")] == ["cache.jsonl"]
    store.flushall()
    assert cache("import", str(file)).stdout == "Imported 1 entry, 1 of them embedded.\n"
    assert cache("import", str(file), "--json").json == {"imported": 0, "kept": 1, "embedded": 0}


def test_standard_output_holds_the_lines_and_nothing_else(cache: Cli, store: redis.Redis) -> None:
    ran = cache("export", "-")
    assert [sorted(json.loads(line)) for line in ran.stdout.splitlines()] == [
        ["llmhost_cache"],
        ["answer", "embedder", "expires_in_s", "question", "scope"],
        ["entries"],
    ]
    assert "wrote 1 entry" in ran.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("export", "-", "--json"), 2, "--json writes to standard output"),
        (("export", "missing/cache.jsonl"), 1, "cannot write missing/cache.jsonl: No such file"),
        (("import", "missing.jsonl"), 2, "cannot read missing.jsonl: No such file"),
        (("import", "cut.jsonl"), 3, "cut.jsonl ends before its last line"),
    ],
)
def test_what_cannot_be_is_one_clear_line(cache: Cli, args: tuple[str, ...], code: int, words: str) -> None:
    Path("cut.jsonl").write_text('{"llmhost_cache":1}\n')
    ran = cache(*args)
    assert (ran.code, words in ran.stderr) == (code, True)
