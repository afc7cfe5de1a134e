"""`llmhost cache sweep`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import redis
import yaml
from plugins.cli import Ran
from plugins.redis_servers import RedisServer


def test_it_says_what_it_removed(cli: Callable[..., Ran], redis_server: RedisServer, tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump({"redis": {"url": f"unix://{redis_server.socket}"}}))
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as store:
        store.hset("cache:layout", "index", "flat")
        store.set(f"cache:vector_log:e:{'a' * 32}", "x")
        store.hset(f"cache:metadata:{'b' * 32}", "hit_count", 1)
    ran = cli("--config", str(path), "cache", "sweep")
    assert ran.stdout == "Removed 0 vectors and 1 record of expired entries, 1 key of an index not in use.\n"
    assert cli("--config", str(path), "cache", "sweep", "--json").json == {
        "vectors": 0,
        "records": 0,
        "index_keys": 0,
    }
